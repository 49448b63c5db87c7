"""Consent as an algebra: what patients wrote, and one pure function that decides on a use.

The rules are numbered in `spec/consent.md`. In one sentence: deny by default, deny overrides, a permit must
be understood whole and name its purpose, and a deny that is not understood still denies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field

from oathbound.core.errors import WrongInput
from oathbound.core.record import Record
from oathbound.data.codes import CLASS_COVERED_BY, CLASS_TOUCHED_BY, PURPOSE_COVERED_BY, PURPOSE_TOUCHED_BY

Status = Literal["draft", "proposed", "active", "rejected", "inactive", "entered-in-error", "unreadable"]


class Provision(Record):
    """A rule and its exceptions.

    `effect` is None only at the root, where the exceptions alone speak. The rule is in force from `start`,
    included, to `end`, excluded. Empty `purposes` or `labels` mean any. `opaque` says that the rule is
    narrower than what was understood of it.
    """

    effect: Literal["permit", "deny"] | None
    start: datetime | None = None
    end: datetime | None = None
    purposes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    opaque: bool = False
    exceptions: tuple["Provision", ...] = ()


class Consent(Record):
    """One consent of one patient. `understood` is false where something outside the rules may narrow them.

    `given` is when the patient gave it, `updated` when the hospital last wrote it. Status `unreadable` stands
    for a resource of which only the patient could be read.
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

    Raises `WrongInput` for a code that the trees of `codes` do not list.
    """

    purpose: str
    classes: frozenset[str] = frozenset()

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


class Reason(StrEnum):
    """Why a use is denied. Where several apply, the first of this order is given."""

    UNREADABLE = "a consent cannot be read"
    DENIED = "denied"
    WITHHELD = "a data class is withheld"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    NOT_YET = "not yet in force"
    PURPOSE = "purpose not covered"
    NO_CONSENT = "no consent"


_ORDER: Final = MappingProxyType({reason: place for place, reason in enumerate(Reason)})

_INERT: Final[Mapping[Status, Reason]] = MappingProxyType(
    {
        "draft": Reason.NOT_YET,
        "proposed": Reason.NOT_YET,
        "rejected": Reason.DENIED,
        "inactive": Reason.WITHDRAWN,
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


def decide(consents: Iterable[Consent], request: Request, at: datetime) -> Permit | Deny:
    """Decide `request` at the aware time `at`, from all consents of one patient in their current versions.

    Every kind of data asked for, ordinary and each class, must be permitted by a consent and denied by none.
    """
    consents = tuple(consents)
    for consent in consents:
        if consent.status == "unreadable":
            return Deny(Reason.UNREADABLE)
    active = [consent for consent in consents if consent.status == "active"]
    silent = withheld = False
    for label in (None, *request.classes):
        verdicts = {_verdict(consent, request.purpose, label, at) for consent in active}
        if False in verdicts:
            if label is None:
                return Deny(Reason.DENIED)
            withheld = True
        elif True not in verdicts:
            silent = True
    if withheld:
        return Deny(Reason.WITHHELD)
    if silent:
        return Deny(_why_silent(consents, request.purpose, at))
    return Permit()


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


def _written(consent: Consent) -> datetime:
    return consent.updated or datetime.min.replace(tzinfo=UTC)


def _distinct(consents: Iterable[Consent]) -> list[Consent]:
    return list({consent.model_dump_json(): consent for consent in consents}.values())


def _verdict(consent: Consent, purpose: str, label: str | None, at: datetime) -> bool | None:
    if consent.provision is None:
        return None
    firm = consent.understood and (consent.given is None or consent.given <= at)
    return _rule(consent.provision, purpose, label, at, firm=firm, named=False)


def _rule(
    rule: Provision, purpose: str, label: str | None, at: datetime, *, firm: bool, named: bool
) -> bool | None:
    """Return whether `rule` permits (True), denies (False) or is silent (None) on one kind of data.

    `firm` is true while all enclosing rules are understood and cover the whole use: only then can a permit
    hold. A deny holds as soon as it touches the use. `named` is true once a rule has named its purposes.
    """
    if not _touches(rule, purpose, label, at):
        return None
    firm = firm and _covers(rule, purpose, label)
    named = named or bool(rule.purposes)
    exceptions = {_rule(inner, purpose, label, at, firm=firm, named=named) for inner in rule.exceptions}
    if False in exceptions or (rule.effect == "deny" and True not in exceptions):
        return False
    if True in exceptions or (rule.effect == "permit" and firm and named):
        return True
    return None


def _touches(rule: Provision, purpose: str, label: str | None, at: datetime) -> bool:
    """Return whether the rule is in force and speaks of any part of the use."""
    if (rule.start is not None and at < rule.start) or (rule.end is not None and rule.end <= at):
        return False
    if rule.purposes and PURPOSE_TOUCHED_BY[purpose].isdisjoint(rule.purposes):
        return False
    return not rule.labels or (label is not None and not CLASS_TOUCHED_BY[label].isdisjoint(rule.labels))


def _covers(rule: Provision, purpose: str, label: str | None) -> bool:
    """Return whether a rule that touches the use speaks, as far as is understood, of all of it."""
    if rule.opaque or (rule.purposes and PURPOSE_COVERED_BY[purpose].isdisjoint(rule.purposes)):
        return False
    return not rule.labels or (label is not None and not CLASS_COVERED_BY[label].isdisjoint(rule.labels))


def _why_silent(consents: tuple[Consent, ...], purpose: str, at: datetime) -> Reason:
    reasons = {reason for consent in consents for reason in _why_inert(consent, purpose, at)}
    return min(reasons, key=_ORDER.__getitem__, default=Reason.NO_CONSENT)


def _why_inert(consent: Consent, purpose: str, at: datetime) -> Iterable[Reason]:
    if consent.status != "active":
        return (_INERT[consent.status],)
    if not consent.understood:
        return (Reason.UNREADABLE,)
    if consent.given is not None and at < consent.given:
        return (Reason.NOT_YET,)
    return _why_not_permitting(consent.provision, purpose, at) if consent.provision else (Reason.PURPOSE,)


def _why_not_permitting(rule: Provision, purpose: str, at: datetime) -> Iterable[Reason]:
    if rule.purposes and PURPOSE_TOUCHED_BY[purpose].isdisjoint(rule.purposes):
        yield Reason.PURPOSE
    elif rule.end is not None and rule.end <= at:
        yield Reason.EXPIRED
    elif rule.start is not None and at < rule.start:
        yield Reason.NOT_YET
    elif rule.opaque:
        yield Reason.UNREADABLE
    else:
        yield Reason.PURPOSE
        for inner in rule.exceptions:
            yield from _why_not_permitting(inner, purpose, at)
