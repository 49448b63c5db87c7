"""Consent as an algebra: what patients wrote, and one pure function that decides on a use.

The rules are numbered in `spec/consent.md`. In one sentence: deny by default, deny overrides, a permit must
be understood whole and name its purpose, and a deny that is not understood still denies.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from oathbound.core.errors import WrongInput
from oathbound.core.record import Record
from oathbound.data.codes import CLASS_COVERED_BY, CLASS_TOUCHED_BY, PURPOSE_COVERED_BY, PURPOSE_TOUCHED_BY
from oathbound.data.duo import CONDITIONS

Status = Literal[
    "draft",
    "proposed",
    "active",
    "rejected",
    "not-done",
    "inactive",
    "entered-in-error",
    "unreadable",
    "withdrawn",
]


class Provision(Record):
    """A rule and its exceptions.

    `effect` is None only at the root, where the exceptions alone speak. The rule is in force from `start`,
    included, to `end`, excluded. Empty `purposes` or `labels` mean any. `conditions` are what the use must
    meet before the rule permits. `opaque` says that the rule is narrower than what was understood of it.
    """

    effect: Literal["permit", "deny"] | None
    start: datetime | None = None
    end: datetime | None = None
    purposes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    opaque: bool = False
    exceptions: tuple["Provision", ...] = ()


class Consent(Record):
    """One consent of one patient. `understood` is false where something outside the rules may narrow them.

    `given` is when the patient gave it, `updated` when the hospital last wrote it. Status `unreadable` stands
    for a resource of which only the patient could be read, `withdrawn` for an active one that the patient
    took back at the site.
    """

    id: str
    patient: Annotated[int, Field(ge=0, lt=2**63)]
    status: Status
    updated: datetime | None = None
    given: datetime | None = None
    understood: bool = True
    provision: Provision | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A use: one purpose, on ordinary data and on data of these sensitive `classes`.

    `meets` are the conditions (of `duo.CONDITIONS`) that the use meets: its owner's word, on which permits
    under a condition rest. Raises `WrongInput` for a code that is not listed.
    """

    purpose: str
    classes: frozenset[str] = frozenset()
    meets: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSE_COVERED_BY:
            raise WrongInput(
                f"unknown purpose of use: {self.purpose}",
                hint="a code of HL7 v3 PurposeOfUse, such as HRESCH",
            )
        unknown = sorted(self.classes - set(CLASS_COVERED_BY))
        if unknown:
            raise WrongInput(
                f"unknown data class: {unknown[0]}", hint="a v3 information sensitivity code, such as SUD"
            )
        unknown = sorted(self.meets - CONDITIONS)
        if unknown:
            raise WrongInput(
                f"not a condition that a study can say it meets: {unknown[0]}",
                hint="a data use modifier that spec/consent.md lists, such as DUO:0000021",
            )


class Reason(StrEnum):
    """Why a use is denied. Where several apply, the first of this order is given."""

    UNREADABLE = "a consent cannot be read"
    DENIED = "denied"
    WITHHELD = "a data class is withheld"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    NOT_YET = "not yet in force"
    CONDITION = "a condition is not met"
    PURPOSE = "purpose not covered"
    NO_CONSENT = "no consent"


_ORDER: Final = MappingProxyType({reason: place for place, reason in enumerate(Reason)})

_INERT: Final[Mapping[Status, Reason]] = MappingProxyType(
    {
        "draft": Reason.NOT_YET,
        "proposed": Reason.NOT_YET,
        "rejected": Reason.DENIED,
        "not-done": Reason.NO_CONSENT,
        "inactive": Reason.WITHDRAWN,
        "withdrawn": Reason.WITHDRAWN,
        "entered-in-error": Reason.NO_CONSENT,
        "unreadable": Reason.UNREADABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Permit:
    """The use is allowed."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The use is not allowed."""

    reason: Reason


_PERMIT: Final = Permit()

_SPEAKING: Final = frozenset({"active", "withdrawn"})
"""What was withdrawn permits nothing any more, and goes on denying what it denied."""


def decide(consents: Iterable[Consent], request: Request, at: datetime) -> Permit | Deny:
    """Decide `request` at the aware time `at`, from all consents of one patient in their current versions.

    Every kind of data asked for, ordinary and each class, must be permitted by a consent and denied by none.
    """
    consents = tuple(consents)
    kinds = _kinds(request.classes)
    purpose = request.purpose
    use = _Use(PURPOSE_TOUCHED_BY[purpose], PURPOSE_COVERED_BY[purpose], request.meets, kinds, at)
    permitted = denied = 0
    for consent in consents:
        if consent.status == "unreadable":
            return Deny(Reason.UNREADABLE)
        if consent.status in _SPEAKING and consent.provision is not None:
            firm = consent.understood and (consent.given is None or consent.given <= at)
            yes, no = _rule(consent.provision, use, kinds.all, kinds.all if firm else 0)
            permitted |= yes if consent.status == "active" else 0
            denied |= no
    if denied:
        return Deny(Reason.DENIED if denied & _ORDINARY else Reason.WITHHELD)
    return _PERMIT if permitted == kinds.all else Deny(_why_silent(consents, request, at))


def current(consents: Iterable[Consent]) -> tuple[Consent, ...]:
    """Return the newest version of each consent id, by `updated`; an undated one is older than any dated one.

    Where the newest version is ambiguous (two that differ, or two patients under one id), all its
    candidates are kept as not understood: none of them permits, each of them can still deny. Their order
    does not matter.
    """
    versions: dict[str, list[Consent]] = {}
    for consent in consents:
        versions.setdefault(consent.id, []).append(consent)
    kept: list[Consent] = []
    for several in versions.values():
        newest = max(_written(consent) for consent in several)
        candidates = _distinct(consent for consent in several if _written(consent) == newest)
        if len({consent.patient for consent in several}) > 1:
            candidates = _distinct(several)
        ambiguous = len(candidates) > 1
        kept += [c.model_copy(update={"understood": False}) if ambiguous else c for c in candidates]
    return tuple(kept)


def after_withdrawal(
    consents: Iterable[Consent], moment: datetime, taken_back: Container[tuple[str, datetime]] = ()
) -> tuple[Consent, ...]:
    """Return the consents of somebody who withdrew at `moment`: what was given until then permits nothing.

    A consent without a date was given before. `taken_back` are others that were there, by id and date: their
    dates lay in the future. What denies goes on denying.
    """
    return tuple(
        consent
        if consent.status != "active" or is_given_after(consent, moment, taken_back)
        else consent.model_copy(update={"status": "withdrawn"})
        for consent in consents
    )


def is_given_after(
    consent: Consent, moment: datetime, taken_back: Container[tuple[str, datetime]] = ()
) -> bool:
    """Return whether a consent was given after a withdrawal at `moment`, which took back `taken_back` too."""
    given = consent.given
    return given is not None and given > moment and (consent.id, given) not in taken_back


def is_permitting(consent: Consent, by: datetime) -> bool:
    """Return whether a consent that was given by a time permits anything: a refusal consents to nothing."""
    given = consent.given is not None and consent.given <= by
    return given and consent.status == "active" and consent.understood and _permits(consent.provision)


def _permits(rule: Provision | None) -> bool:
    return rule is not None and (rule.effect == "permit" or any(map(_permits, rule.exceptions)))


def _written(consent: Consent) -> datetime:
    return consent.updated or datetime.min.replace(tzinfo=UTC)


def _distinct(consents: Iterable[Consent]) -> list[Consent]:
    return list({consent.model_dump_json(): consent for consent in consents}.values())


class _Kinds(NamedTuple):
    """The kinds of data asked for, as bits: ordinary data is bit 0, and each class has one.

    `touched` and `covered` say which of them a rule with some label touches, or covers.
    """

    all: int
    touched: Mapping[str, int]
    covered: Mapping[str, int]


class _Use(NamedTuple):
    """A request at a time, with the purposes that touch its own, and those that cover it."""

    touching: frozenset[str]
    covering: frozenset[str]
    meets: frozenset[str]
    kinds: _Kinds
    at: datetime


_ORDINARY: Final = 1


@lru_cache(maxsize=64)
def _kinds(classes: frozenset[str]) -> _Kinds:
    bits = {asked: 2 << place for place, asked in enumerate(sorted(classes))}

    def over(related: Mapping[str, frozenset[str]]) -> dict[str, int]:
        return {
            label: sum(bit for asked, bit in bits.items() if label in related[asked])
            for label in CLASS_COVERED_BY
        }

    return _Kinds(_ORDINARY + sum(bits.values()), over(CLASS_TOUCHED_BY), over(CLASS_COVERED_BY))


def _rule(rule: Provision, use: _Use, asked: int, firm: int, *, named: bool = False) -> tuple[int, int]:
    """Return which kinds of data, of those `asked`, the rule permits, and which it denies; both is denied.

    `firm` are the kinds for which all enclosing rules are understood, met, and cover the whole use: only for
    them can a permit hold. A deny holds as soon as it touches the use. `named` is true once a rule has named
    its purposes.
    """
    asked, firm = _narrowed(rule, use, asked, firm)
    if not asked:
        return 0, 0
    named = named or bool(rule.purposes)
    permitted = denied = 0
    for inner in rule.exceptions:
        yes, no = _rule(inner, use, asked, firm, named=named)
        permitted |= yes
        denied |= no
    if rule.effect == "deny":
        denied |= asked & ~permitted
    elif rule.effect == "permit" and named:
        permitted |= asked & firm
    return permitted, denied


def _narrowed(rule: Provision, use: _Use, asked: int, firm: int) -> tuple[int, int]:
    """Return the kinds of data that the rule itself speaks of in this use, and those it is firm for."""
    if (rule.start is not None and use.at < rule.start) or (rule.end is not None and rule.end <= use.at):
        return 0, 0
    if rule.purposes:
        if use.touching.isdisjoint(rule.purposes):
            return 0, 0
        if use.covering.isdisjoint(rule.purposes):
            firm = 0
    if rule.labels:
        asked &= _any(use.kinds.touched, rule.labels)
        firm &= _any(use.kinds.covered, rule.labels)
    if rule.opaque or (rule.conditions and not use.meets.issuperset(rule.conditions)):
        firm = 0
    return asked, firm


def _any(bits: Mapping[str, int], labels: tuple[str, ...]) -> int:
    together = 0
    for label in labels:
        together |= bits.get(label, 0)
    return together


def _why_silent(consents: tuple[Consent, ...], request: Request, at: datetime) -> Reason:
    reasons = {reason for consent in consents for reason in _why_inert(consent, request, at)}
    return min(reasons, key=_ORDER.__getitem__, default=Reason.NO_CONSENT)


def _why_inert(consent: Consent, request: Request, at: datetime) -> Iterable[Reason]:
    if consent.status != "active":
        return (_INERT[consent.status],)
    if not consent.understood:
        return (Reason.UNREADABLE,)
    if consent.given is not None and at < consent.given:
        return (Reason.NOT_YET,)
    return _why_not_permitting(consent.provision, request, at) if consent.provision else (Reason.PURPOSE,)


def _why_not_permitting(rule: Provision, request: Request, at: datetime) -> Iterable[Reason]:
    if rule.purposes and PURPOSE_TOUCHED_BY[request.purpose].isdisjoint(rule.purposes):
        yield Reason.PURPOSE
    elif rule.end is not None and rule.end <= at:
        yield Reason.EXPIRED
    elif rule.start is not None and at < rule.start:
        yield Reason.NOT_YET
    elif rule.opaque:
        yield Reason.UNREADABLE
    elif not request.meets.issuperset(rule.conditions):
        yield Reason.CONDITION
    else:
        yield Reason.PURPOSE
        for inner in rule.exceptions:
            yield from _why_not_permitting(inner, request, at)
