"""Files and resources of FHIR Consents, R4 and R5 beside each other, to the internal form: `spec/consent.md`.

One line, or one entry of a Bundle, that cannot be read does not lose the rest; if it names its patient, it
denies.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data import fhir_r4, fhir_r5
from oathbound.data.consent import Consent
from oathbound.data.fhir_elements import patient

MAX_BYTES: Final = 1024 * 1024
"""Of one line of an NDJSON file: one resource, or one Bundle."""

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""Of a .json file, which is one document."""

_R4_ONLY: Final = frozenset({"patient", "scope"})

# The other types of Bundle say what to do, or what was, and not what is.
_STATES: Final = frozenset({"collection", "searchset"})


class ConsentFile(NamedTuple):
    """The consents of a file, and how many of its resources could not be read.

    A resource of which only the patient could be read is in both: its consent is `unreadable`, and denies.
    """

    consents: tuple[Consent, ...]
    quarantined: int


def parse_consent(data: bytes | Mapping[str, Any]) -> Consent:
    """Return the consent in one Consent resource, as JSON text or decoded; `WrongInput` if wrong.

    R5 names its patient `subject`; R4 names it `patient`, and has a `scope`. Both at once is wrong.
    """
    decoded = _decode(data, MAX_BYTES) if isinstance(data, bytes) else data
    if "subject" not in decoded:
        return fhir_r4.consent(decoded)
    if _R4_ONLY.isdisjoint(decoded):
        return fhir_r5.consent(decoded)
    raise WrongInput(
        "a consent is of FHIR R4 and R5 at once", hint="R4 has patient and scope; R5 has subject"
    )


def read_consents(path: Path) -> ConsentFile:
    """Read an NDJSON file, one resource a line, or a .json file that is one Bundle or resource.

    Blank lines are skipped, and so are a Bundle's other resources. Raises `WrongInput` for a file that
    cannot be read or a Bundle that is not the whole of what is, `NothingExamined` for an empty one.
    """
    consents: list[Consent] = []
    quarantined = number = 0
    try:
        with path.open("rb") as file:
            documents = _document(file) if path.suffix == ".json" else _lines(file)
            for number, resource in enumerate(_resources(documents), start=1):
                try:
                    consents.append(parse_consent(resource))
                except WrongInput:
                    quarantined += 1
                    consents += _standing_denials(resource, number)
    except OSError as error:
        raise WrongInput(
            f"consents cannot be read: {error.strerror}", hint=f"is {path.name} a file?"
        ) from None
    if not number:
        raise NothingExamined("the consent file is empty", hint="export Consent resources as FHIR NDJSON")
    if quarantined == number:
        raise NothingExamined(
            "nothing in the consent file is a FHIR Consent",
            hint="NDJSON, one JSON object on each line; or a .json file that is one Bundle",
        )
    return ConsentFile(tuple(consents), quarantined)


def _lines(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Yield what each line holds, {} where it cannot be decoded; memory is bounded by `MAX_BYTES`."""
    while line := file.readline(MAX_BYTES + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_BYTES + 1)
        if line.strip():
            try:
                yield _decode(line, MAX_BYTES)
            except WrongInput:
                yield {}


def _document(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    data = file.read(MAX_DOCUMENT_BYTES + 1)
    if data.strip():
        yield _decode(data, MAX_DOCUMENT_BYTES)


def _resources(documents: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the resources in `documents`: themselves, or a Bundle's Consents, {} for an entry without."""
    for document in documents:
        if document.get("resourceType") == "Bundle":
            yield from _consents(document)
        else:
            yield document


def _consents(bundle: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    kind = bundle.get("type")
    if not isinstance(kind, str) or kind not in _STATES:
        raise WrongInput(
            "a Bundle of consents is neither a collection nor a searchset",
            hint="other Bundles say what to change, and not what patients have said",
        )
    links, entries = bundle.get("link", []), bundle.get("entry", [])
    if not isinstance(links, list) or any(not isinstance(link, dict) for link in links):
        raise WrongInput("a Bundle's links are not a list of objects", hint="hl7.org/fhir/bundle.html")
    if any(link.get("relation") == "next" for link in links):
        raise WrongInput(
            "a Bundle is one page of several, and a denial may be on the next",
            hint="export all Consents, for instance as NDJSON",
        )
    if not isinstance(entries, list):
        raise WrongInput("a Bundle's entries are not a list", hint="hl7.org/fhir/bundle.html")
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            yield {}
        elif resource.get("resourceType") == "Consent":
            yield resource


def _standing_denials(resource: Mapping[str, Any], number: int) -> Iterator[Consent]:
    """Yield an unreadable consent for each patient that a resource names."""
    for element in ("patient", "subject"):
        reference = resource.get(element)
        try:
            subject = patient(reference.get("reference") if isinstance(reference, dict) else None)
        except WrongInput:
            continue
        # A colon is not in FHIR ids, so this one supersedes nothing and nothing supersedes it.
        yield Consent(id=f"line:{number}:{element}", patient=subject, status="unreadable", understood=False)


def _decode(data: bytes, most: int) -> Mapping[str, Any]:
    if len(data) > most:
        raise WrongInput(f"a consent, or a Bundle of them, is larger than {most} bytes")
    try:
        # json.loads guesses the encoding of bytes, line by line: of a UTF-16 file it would read some lines
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_constant)
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
