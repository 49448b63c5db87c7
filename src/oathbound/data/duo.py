"""GA4GH Data Use Ontology (github.com/EBISPOT/DUO, release of 2021-02-23): what its terms say about a use.

A term is one of four kinds. A *permission* names purposes, in the codes of `codes`. A *condition* binds
whoever uses the data, and a request can say that it meets it. A *prohibition* forbids some purposes, or all.
Every other term (a disease, a place, a time or a person that stands outside the term; an obsolete or unknown
term) is not understood: `spec/consent.md`.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

SYSTEM: Final = "http://purl.obolibrary.org/obo/duo.owl"

_TERM: Final = re.compile(r"(?:DUO[:_]|http://purl\.obolibrary\.org/obo/DUO_)([0-9]{7})")

PERMISSIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # NRES, no restriction: every root of the tree of purposes
        "DUO:0000004": ("HMARKT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "TREAT"),
        # GRU, general research use
        "DUO:0000042": ("HRESCH",),
        # HMB, health or medical or biomedical research; not population origins or ancestry
        "DUO:0000006": ("BIORCH", "CLINTRCH", "DSRCH", "TRANSRCH"),
        # POA, population origins or ancestry research only
        "DUO:0000011": ("POARCH",),
        # CC, clinical care use
        "DUO:0000043": ("TREAT",),
    }
)
"""The purposes that a term permits, or denies where it stands in a denial."""

CONDITIONS: Final = frozenset(
    {
        "DUO:0000016",  # GSO, genetic studies only
        "DUO:0000018",  # NPUNCU, not-for-profit organisations and non-commercial use only
        "DUO:0000019",  # PUB, publication required
        "DUO:0000020",  # COL, collaboration required
        "DUO:0000021",  # IRB, ethics approval required
        "DUO:0000029",  # RTN, return to database or resource
        "DUO:0000045",  # NPU, not-for-profit organisations only
        "DUO:0000046",  # NCU, non-commercial use only
    }
)
"""Conditions that are whole in themselves, so that one answer holds for all patients who ask for them."""

PROHIBITIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # NMDS, no general methods research ("development of software or algorithms"). Training a model
        # develops one and auditing it studies how: no purpose is left for which this is not in doubt.
        "DUO:0000015": (),
        # NPOA, population origins or ancestry research prohibited
        "DUO:0000044": ("POARCH",),
    }
)
"""The purposes that a term forbids; () forbids all that the rule speaks of."""


class Uses(NamedTuple):
    """What several terms say together. `known` is false where one of them was not understood."""

    purposes: frozenset[str]
    conditions: frozenset[str]
    forbidden: tuple[tuple[str, ...], ...]
    known: bool


def uses(codes: Iterable[str | None]) -> Uses:
    """Return what the terms say together: `DUO:0000042`, `DUO_0000042` or the term's IRI."""
    terms = [_term(code) for code in codes]
    return Uses(
        purposes=frozenset(purpose for term in terms for purpose in PERMISSIONS.get(term, ())),
        conditions=CONDITIONS.intersection(terms),
        forbidden=tuple(forbidden for term, forbidden in PROHIBITIONS.items() if term in terms),
        known=all(term in PERMISSIONS or term in CONDITIONS or term in PROHIBITIONS for term in terms),
    )


def _term(code: str | None) -> str:
    match = _TERM.fullmatch(code or "")
    return f"DUO:{match[1]}" if match else ""
