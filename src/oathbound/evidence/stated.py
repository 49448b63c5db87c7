"""The statements of a log, typed, and those of one kind among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from oathbound.core.errors import NotAcceptable
from oathbound.core.study import Policy
from oathbound.evidence.envelope import Signed, open_envelope
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import Decided, Predicate, predicate_of

_P = TypeVar("_P", bound=Predicate)


@dataclass(frozen=True, slots=True)
class Stated:
    """A verified statement: its identity, its signer, and what it says."""

    identity: str
    signer: Party
    predicate: Predicate


def open_leaf(leaf: bytes, parties: Mapping[str, Party]) -> Stated:
    """(3) Return the statement in a leaf, its signatures verified and its predicate typed."""
    signed: Signed = open_envelope(leaf, parties)
    return Stated(identity=signed.identity, signer=signed.signer, predicate=predicate_of(signed.statement))


def each(statements: Sequence[Stated], kind: type[_P]) -> list[_P]:
    """Return the predicates of one kind, in order, each statement once; none is refused."""
    unique = {s.identity: s.predicate for s in statements if isinstance(s.predicate, kind)}
    if not unique:
        raise NotAcceptable(f"the study's log holds no {kind.kind} statement")
    return list(unique.values())


def the_one(statements: Sequence[Stated], kind: type[_P]) -> _P:
    """Return the only predicate of its kind."""
    found = each(statements, kind)
    if len(found) != 1:
        raise NotAcceptable(
            f"the study's log holds {len(found)} {kind.kind} statements; it must be exactly one"
        )
    return found[0]


def one_of_each_site(statements: Sequence[Stated], kind: type[_P], policy: Policy) -> tuple[_P, ...]:
    """Return the predicates of a kind that each site makes exactly once."""
    found = each(statements, kind)
    sites = [getattr(predicate, "site", "") for predicate in found]
    if sorted(sites) != sorted(site.name for site in policy.sites):
        raise NotAcceptable(f"there must be one {kind.kind} statement of each site")
    return tuple(found)


def last_decision(study: Sequence[Stated]) -> Decided:
    """Return the decision in which the study's log must end."""
    predicate = study[-1].predicate
    if not isinstance(predicate, Decided):
        raise NotAcceptable("the study's log does not end in a decision")
    return predicate
