"""FHIR R4 Consent (hl7.org/fhir/R4/consent.html; profile IHE PCF 1.1) to the internal form.

What cannot be read raises `WrongInput`. What can be read, but says more than the internal form holds, is
marked `opaque` or not `understood`, so that it cannot permit and can still deny: see `spec/consent.md`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.codes import CLASS_COVERED_BY, CLASS_SYSTEM, PURPOSE_COVERED_BY, PURPOSE_SYSTEM
from oathbound.data.consent import Consent, Provision

MAX_BYTES: Final = 1024 * 1024
"""Of one resource: one line of a file."""

MAX_DEPTH: Final = 8
MAX_PROVISIONS: Final = 256
"""Of one resource: nesting of provisions, and their number."""

# What a Consent may hold besides what is read: none of it changes what the provisions allow.
_HARMLESS: Final = frozenset(
    {
        "language",
        "text",
        "contained",
        "extension",
        "identifier",
        "category",
        "performer",
        "organization",
        "sourceAttachment",
        "sourceReference",
        "policy",
        "policyRule",
        "verification",
    }
)
_SCOPES: Final = frozenset({"research", "patient-privacy"})
_SCOPE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/consentscope"

_PATIENT: Final = re.compile(r"Patient/(0|[1-9][0-9]{0,18})")
_MOMENT: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d:\d\d:\d\d)(\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))?)?)?", re.ASCII
)


class _Element(BaseModel):
    """An element of which only the declared parts are read; `model_extra` holds the rest."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def unread(self, harmless: frozenset[str] = frozenset({"id", "extension"})) -> bool:
        return not harmless.issuperset(self.model_extra or ())


class _Coding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    system: str | None = None
    code: str | None = None


_Codings = Annotated[tuple[_Coding, ...], Field(min_length=1, max_length=256)]


class _Scope(_Element):
    coding: _Codings


class _Period(_Element):
    start: str | None = None
    end: str | None = None


class _Reference(_Element):
    reference: str


class _Meta(_Element):
    lastUpdated: str | None = None  # noqa: N815 - FHIR's name


class _Provision(_Element):
    type: Literal["permit", "deny"] | None = None
    period: _Period | None = None
    purpose: _Codings | None = None
    securityLabel: _Codings | None = None  # noqa: N815 - FHIR's name
    provision: Annotated[tuple["_Provision", ...], Field(min_length=1)] | None = None


class _Consent(_Element):
    resourceType: Literal["Consent"]  # noqa: N815 - FHIR's name
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")]
    meta: _Meta | None = None
    status: Literal["draft", "proposed", "active", "rejected", "inactive", "entered-in-error"]
    scope: _Scope
    patient: _Reference
    dateTime: str | None = None  # noqa: N815 - FHIR's name
    provision: _Provision | None = None


class ConsentFile(NamedTuple):
    """The consents of a file, and how many of its lines could not be read.

    A line of which only the patient could be read is in both: its consent is `unreadable`, and denies.
    """

    consents: tuple[Consent, ...]
    quarantined: int


def parse_consent(data: bytes | Mapping[str, Any]) -> Consent:
    """Return the consent in one FHIR R4 Consent resource, as JSON text or decoded; `WrongInput` if wrong."""
    decoded = _decode(data) if isinstance(data, bytes) else data
    if "subject" in decoded and "patient" not in decoded:
        raise WrongInput(
            "a consent has no patient", hint="R5 resources name a subject; export them as FHIR R4"
        )
    try:
        resource = _Consent.model_validate(decoded)
    except (ValidationError, RecursionError) as error:
        raise WrongInput(
            f"not a FHIR R4 Consent: {_where(error)}", hint="hl7.org/fhir/R4/consent.html"
        ) from None
    return Consent(
        id=resource.id,
        patient=_patient(resource.patient.reference),
        status=resource.status,
        updated=_instant(resource.meta.lastUpdated if resource.meta else None),
        given=_instant(resource.dateTime),
        understood=_scope_understood(resource.scope) and not resource.unread(_HARMLESS),
        provision=_rules(resource.provision) if resource.provision else None,
    )


def read_consents(path: Path) -> ConsentFile:
    """Read a FHIR NDJSON file, one resource a line; a bad line does not lose the rest.

    Blank lines are skipped. Raises `WrongInput` for a file that cannot be read, `NothingExamined` for an
    empty one.
    """
    consents: list[Consent] = []
    quarantined = number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file), start=1):
                try:
                    consents.append(parse_consent(line))
                except WrongInput:
                    quarantined += 1
                    consents += _standing_denial(line, number)
    except OSError as error:
        raise WrongInput(
            f"consents cannot be read: {error.strerror}", hint=f"is {path.name} a file?"
        ) from None
    if not number:
        raise NothingExamined("the consent file is empty", hint="export Consent resources as FHIR R4 NDJSON")
    if quarantined == number:
        raise NothingExamined(
            "no line of the consent file is a FHIR R4 Consent", hint="NDJSON: one JSON object on each line"
        )
    return ConsentFile(tuple(consents), quarantined)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that are not blank, each cut after `MAX_BYTES` + 1 bytes, so that memory is bounded."""
    while line := file.readline(MAX_BYTES + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_BYTES + 1)
        if line.strip():
            yield line


def _standing_denial(line: bytes, number: int) -> Iterator[Consent]:
    # A colon is not in FHIR ids, so this one supersedes nothing and nothing supersedes it.
    try:
        reference = _decode(line)["patient"]["reference"]
        yield Consent(id=f"line:{number}", patient=_patient(reference), status="unreadable", understood=False)
    except (WrongInput, KeyError, TypeError):
        return


def _decode(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_BYTES:
        raise WrongInput(f"a consent is larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(data, object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise WrongInput("a consent is not JSON") from None
    if not isinstance(value, dict):
        raise WrongInput("a consent is not a JSON object")
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ValueError("a key is repeated")
    return decoded


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _where(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Only FHIR's own names are shown: the path of an error never holds a value of the resource.
    return ".".join(str(part) for part in detail["loc"]) + f" ({detail['type']})"


def _patient(reference: object) -> int:
    match = _PATIENT.fullmatch(reference) if isinstance(reference, str) else None
    if match is None or int(match[1]) >= 2**63:
        raise WrongInput(
            "a consent's patient.reference is not of the form Patient/<subject_id>",
            hint="write the record's integer subject_id",
        )
    return int(match[1])


def _scope_understood(scope: _Scope) -> bool:
    return not scope.unread(frozenset({"id", "extension", "text"})) and any(
        coding.system == _SCOPE_SYSTEM and coding.code in _SCOPES for coding in scope.coding
    )


def _rules(root: _Provision) -> Provision:
    left = [MAX_PROVISIONS]

    def convert(rule: _Provision, depth: int) -> Provision:
        left[0] -= 1
        if depth > MAX_DEPTH or left[0] < 0:
            raise WrongInput(f"a consent nests over {MAX_DEPTH} or holds over {MAX_PROVISIONS} provisions")
        if depth > 1 and rule.type is None:
            raise WrongInput(
                "a nested provision has no type", hint="R4 requires permit or deny in all but the root"
            )
        start, end = _period(rule.period)
        purposes = _codes(rule.purpose, PURPOSE_SYSTEM, PURPOSE_COVERED_BY)
        labels = _codes(rule.securityLabel, CLASS_SYSTEM, CLASS_COVERED_BY)
        return Provision(
            effect=rule.type,
            start=start,
            end=end,
            purposes=purposes or (),
            labels=labels or (),
            opaque=purposes is None or labels is None or rule.unread(),
            exceptions=tuple(convert(inner, depth + 1) for inner in rule.provision or ()),
        )

    return convert(root, 1)


def _codes(
    codings: Iterable[_Coding] | None, system: str, known: Mapping[str, frozenset[str]]
) -> tuple[str, ...] | None:
    """Return the codes; () where none are given: any; None where one is unknown: also any, but opaque."""
    codings = tuple(codings or ())
    if any(coding.system != system or coding.code not in known for coding in codings):
        return None
    return tuple(sorted({coding.code for coding in codings if coding.code}))


def _period(period: _Period | None) -> tuple[datetime | None, datetime | None]:
    """Return start, included, and end, excluded. FHIR includes all of what `end` names: a day, a second."""
    if period is None:
        return None, None
    if period.unread():
        raise WrongInput("a period holds what R4 does not define")
    start = _moment(period.start)[0] if period.start is not None else None
    end = _moment(period.end)[1] if period.end is not None else None
    if start is not None and end is not None and end <= start:
        raise WrongInput("a period ends before it starts")
    return start, end


def _instant(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)[0]


def _moment(text: str) -> tuple[datetime, datetime]:
    """Return the first instant that a FHIR dateTime names, and the first after it. Bare dates are in UTC."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise WrongInput("a consent holds a date that is not a FHIR dateTime")
    year, month, day, clock, fraction = match.groups()
    if int(year) == MAXYEAR:
        # 9999 is how records say that a period has no end.
        return datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    try:
        if clock is not None:
            first = datetime.fromisoformat(text).astimezone(UTC)
            return first, first + (timedelta(microseconds=1) if fraction else timedelta(seconds=1))
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        if day is not None:
            return first, first + timedelta(days=1)
        if month is not None:
            return first, (first + timedelta(days=31)).replace(day=1)
        return first, first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        raise WrongInput("a consent holds a date that does not exist") from None
