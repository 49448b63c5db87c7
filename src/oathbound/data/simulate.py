"""Consents of invented people, for demos and tests: every kind of answer occurs, most people agree."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

from oathbound.data.codes import CLASS_SYSTEM, PURPOSE_SYSTEM

_WITHHELD: Final = ("MH", "SUD", "HIV", "GDIS", "SEX")

_SHARES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "agrees": 860,
        "withholds": 30,
        "withdrew": 30,
        "expired": 20,
        "treatment": 20,
        "denies": 20,
        "nothing": 20,
    }
)
"""Of 1,000 people, how many answer in which way."""


def generate_consents(
    subjects: Iterable[int], at: datetime, seed: int, *, research: str = "HRESCH", audit: str = "HQUALIMP"
) -> Iterator[dict[str, Any]]:
    """Yield FHIR R4 Consent resources as of the aware time `at`, at most one a subject.

    About 86 % permit both purposes for all data; others deny, withhold a class, withdrew, gave it for a
    time that has passed, allow treatment alone, or were never asked. Depends on `seed` and the subject's id
    alone.
    """
    answers: Mapping[str, Callable[[int], dict[str, Any]]] = {
        "agrees": lambda _: {"provision": _permit(research, audit)},
        "withholds": lambda draw: {
            "provision": _permit(research, audit)
            | {"provision": [_withheld(_WITHHELD[draw % len(_WITHHELD)])]}
        },
        "withdrew": lambda _: {"status": "inactive", "provision": _permit(research, audit)},
        "expired": lambda _: {
            "provision": _permit(research, audit) | {"period": {"end": _day(at - timedelta(days=30))}}
        },
        "treatment": lambda _: {"provision": _permit("TREAT")},
        "denies": lambda _: {"provision": {"type": "deny"}},
    }
    for subject in subjects:
        draw = int.from_bytes(
            hashlib.sha256(f"oathbound-demo-consent:{seed}:{subject}".encode()).digest()[:8], "big"
        )
        answer = answers.get(_kind(draw % 1000))
        if answer is not None:
            yield _resource(subject, at) | answer(draw // 1000)


def _kind(place: int) -> str:
    ends = accumulate(_SHARES.values())
    return next(kind for kind, end in zip(_SHARES, ends, strict=True) if place < end)


def _resource(subject: int, at: datetime) -> dict[str, Any]:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    category = {"system": "http://loinc.org", "code": "59284-0"}
    return {
        "resourceType": "Consent",
        "id": f"consent-{subject}",
        "status": "active",
        "scope": {"coding": [scope]},
        "category": [{"coding": [category]}],
        "patient": {"reference": f"Patient/{subject}"},
        "dateTime": _day(at - timedelta(days=400)),
        "policyRule": {"text": "Consent to research and to its audit, as the site's form says."},
    }


def _permit(*purposes: str) -> dict[str, Any]:
    return {"type": "permit", "purpose": [{"system": PURPOSE_SYSTEM, "code": code} for code in purposes]}


def _withheld(label: str) -> dict[str, Any]:
    return {"type": "deny", "securityLabel": [{"system": CLASS_SYSTEM, "code": label}]}


def _day(time: datetime) -> str:
    return time.date().isoformat()
