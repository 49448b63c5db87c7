"""The elements that FHIR R4 and R5 Consents share, and how rules, codes and times in them are read.

What cannot be read raises `WrongInput`. What can be read, but says more than the internal form holds, becomes
`opaque`, so that it cannot permit and can still deny.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oathbound.core.errors import WrongInput
from oathbound.data import duo
from oathbound.data.codes import CLASS_COVERED_BY, CLASS_SYSTEM, PURPOSE_COVERED_BY, PURPOSE_SYSTEM
from oathbound.data.consent import Provision

MAX_DEPTH: Final = 8
MAX_PROVISIONS: Final = 256
"""Of one resource: nesting of rules, and their number; the base rule is one."""

HARMLESS: Final = frozenset({"language", "text", "contained", "extension", "identifier", "category"})
"""What a resource of either release may hold that changes nothing."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")]
Effect = Literal["permit", "deny"]

_PATIENT: Final = re.compile(r"Patient/(0|[1-9][0-9]{0,18})")
_MOMENT: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d:\d\d:\d\d)(\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))?)?)?", re.ASCII
)


class Element(BaseModel):
    """An element of which only the declared parts are read; `model_extra` holds the rest."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def unread(self, harmless: frozenset[str] = frozenset({"id", "extension"})) -> bool:
        """Return whether it holds anything that is neither declared nor harmless."""
        return not harmless.issuperset(self.model_extra or ())


class Coding(BaseModel):
    """A code of a system; its display and version change nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    system: str | None = None
    code: str | None = None


Codings = Annotated[tuple[Coding, ...], Field(min_length=1, max_length=256)]


class Concept(Element):
    """A CodeableConcept: codings, and a text beside them."""

    coding: Codings | None = None


class Period(Element):
    """A Period, both ends of which FHIR includes."""

    start: str | None = None
    end: str | None = None


class Reference(Element):
    """A Reference by its literal."""

    reference: str


class Meta(Element):
    """A Meta, of which the time of the last change is read."""

    lastUpdated: str | None = None  # noqa: N815 - FHIR's name


class Rule(Element):
    """A provision. R4 says its `type`; in R5 an exception is the opposite of what it is an exception to."""

    type: Effect | None = None
    period: Period | None = None
    purpose: Codings | None = None
    securityLabel: Codings | None = None  # noqa: N815 - FHIR's name
    code: Annotated[tuple[Concept, ...], Field(min_length=1, max_length=256)] | None = None
    provision: Annotated[tuple["Rule", ...], Field(min_length=1)] | None = None


EffectOf = Callable[[Rule, Effect | None], Effect]
"""The effect of an exception, from itself and the effect of the rule around it; `WrongInput` if unclear."""


def rules(root: Rule, effect: Effect | None, effect_of: EffectOf) -> Provision:
    """Return the internal form of a rule and its exceptions; `WrongInput` beyond the bounds."""
    left = [MAX_PROVISIONS]

    def convert(rule: Rule, effect: Effect | None, depth: int) -> Provision:
        left[0] -= 1
        if depth > MAX_DEPTH or left[0] < 0:
            raise WrongInput(f"a consent nests over {MAX_DEPTH} or holds over {MAX_PROVISIONS} provisions")
        start, end = period(rule.period)
        use = _use(rule)
        labels = _codes(rule.securityLabel, CLASS_SYSTEM, CLASS_COVERED_BY)
        inner = tuple(convert(each, effect_of(each, effect), depth + 1) for each in rule.provision or ())
        return Provision(
            effect=effect,
            start=start,
            end=end,
            purposes=tuple(sorted(use.purposes)),
            conditions=tuple(sorted(use.conditions)),
            labels=labels or (),
            opaque=not use.known or labels is None or rule.unread(),
            exceptions=inner + tuple(Provision(effect="deny", purposes=each) for each in use.forbidden),
        )

    return convert(root, effect, 1)


def _use(rule: Rule) -> duo.Uses:
    """Return what `purpose` and `code` say about the use.

    Elements of a rule narrow each other, so permissions in both are not understood: their intersection has
    no code. Where neither names a purpose, or one that is not understood, any may be meant.
    """
    codings = rule.purpose or ()
    plain = _codes((c for c in codings if c.system != duo.SYSTEM), PURPOSE_SYSTEM, PURPOSE_COVERED_BY)
    purpose = duo.uses(c.code for c in codings if c.system == duo.SYSTEM)
    tags = [coding for concept in rule.code or () for coding in concept.coding or ()]
    code = duo.uses(c.code for c in tags if c.system == duo.SYSTEM)
    code_known = code.known and all(_duo_alone(concept) for concept in rule.code or ())
    if plain is None or not purpose.known:
        purposes = frozenset[str]()
    else:
        purposes = purpose.purposes.union(plain) or (code.purposes if code_known else frozenset())
    in_both = bool((plain or purpose.purposes) and code.purposes)
    return duo.Uses(
        purposes=purposes,
        conditions=purpose.conditions | code.conditions,
        forbidden=purpose.forbidden + code.forbidden,
        known=plain is not None and purpose.known and code_known and not in_both,
    )


def _duo_alone(concept: Concept) -> bool:
    return (
        concept.coding is not None
        and all(coding.system == duo.SYSTEM for coding in concept.coding)
        and not concept.unread(frozenset({"id", "extension", "text"}))
    )


def _codes(
    codings: Iterable[Coding] | None, system: str, known: Mapping[str, frozenset[str]]
) -> tuple[str, ...] | None:
    """Return the codes; () where none are given: any; None where one is unknown: also any, but opaque."""
    codings = tuple(codings or ())
    if any(coding.system != system or coding.code not in known for coding in codings):
        return None
    return tuple(sorted({coding.code for coding in codings if coding.code}))


def patient(reference: object) -> int:
    """Return the subject id in `Patient/<subject_id>`; `WrongInput` for any other reference."""
    match = _PATIENT.fullmatch(reference) if isinstance(reference, str) else None
    if match is None or int(match[1]) >= 2**63:
        raise WrongInput(
            "a consent's patient is not named as Patient/<subject_id>",
            hint="write the record's integer subject_id",
        )
    return int(match[1])


def period(stated: Period | None) -> tuple[datetime | None, datetime | None]:
    """Return start, included, and end, excluded. FHIR includes all of what `end` names: a day, a second."""
    if stated is None:
        return None, None
    if stated.unread():
        raise WrongInput("a period holds what FHIR does not define")
    start = _moment(stated.start).first if stated.start is not None else None
    end = _moment(stated.end).after if stated.end is not None else None
    if start is not None and end is not None and end <= start:
        raise WrongInput("a period ends before it starts")
    return start, end


def given(text: str | None) -> datetime | None:
    """Return the first instant that a FHIR date or dateTime names; `WrongInput` if there is none."""
    return None if text is None else _moment(text).first


def updated(meta: Meta | None) -> datetime | None:
    """Return when a resource was last written, None where it does not say.

    Raises `WrongInput` for what is not a FHIR instant, to the second and with its zone: the month alone would
    make a version older than one of the same month.
    """
    if meta is None or meta.lastUpdated is None:
        return None
    if "T" not in meta.lastUpdated:
        raise WrongInput("a consent's meta.lastUpdated is not a FHIR instant")
    return _moment(meta.lastUpdated).first


class _Span(NamedTuple):
    first: datetime
    after: datetime


def _moment(text: str) -> _Span:
    """Return the first instant that a FHIR dateTime names, and the first after it. Bare dates are in UTC."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise WrongInput("a consent holds a date that is not a FHIR dateTime")
    year, month, day, clock, fraction = match.groups()
    if int(year) == MAXYEAR:
        # 9999 is how records say that a period has no end. Its first instant can still be rounded up.
        return _Span(datetime(MAXYEAR, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    try:
        if clock is not None:
            first = datetime.fromisoformat(text).astimezone(UTC)
            return _Span(first, first + (timedelta(microseconds=1) if fraction else timedelta(seconds=1)))
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        if day is not None:
            return _Span(first, first + timedelta(days=1))
        if month is not None:
            return _Span(first, (first + timedelta(days=31)).replace(day=1))
        return _Span(first, first.replace(year=first.year + 1))
    except (ValueError, OverflowError):
        raise WrongInput("a consent holds a date that does not exist") from None


def wrong(error: ValidationError | RecursionError, release: str) -> WrongInput:
    """Return the refusal of a resource that does not have the shape of a Consent of `release`."""
    where = "nested too deeply"
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Only FHIR's own names are shown: the path of an error never holds a value of the resource.
        where = ".".join(str(part) for part in detail["loc"]) + f" ({detail['type']})"
    return WrongInput(
        f"not a FHIR {release} Consent: {where}", hint=f"see hl7.org/fhir/{release}/consent.html"
    )
