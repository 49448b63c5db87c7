"""How many uses `decide` decides a second, on one core, by the form and the number of consents.

    python benchmarks/consent_decisions.py

Every form is decided for a request for ordinary data alone, and for one that also asks for five sensitive
classes. In the mixture, half are of `simulate` and the others take turns. Times are of the processor, so that
other programs do not count. The target is 250,000 decisions a second.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from oathbound.data.codes import CLASS_SYSTEM, PURPOSE_SYSTEM
from oathbound.data.consent import Consent, Permit, Request, decide
from oathbound.data.duo import SYSTEM
from oathbound.data.fhir import parse_consent
from oathbound.data.simulate import generate_consents

AT = datetime(2026, 3, 1, tzinfo=UTC)
CLASSES = frozenset({"MH", "SUD", "HIV", "GDIS", "SEX"})
SIZES = (1_000, 10_000, 50_000)
SCOPE = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
RESEARCH = [{"system": PURPOSE_SYSTEM, "code": "HRESCH"}]


def label(code: str) -> dict[str, Any]:
    """Return the element that limits a rule to one class."""
    return {"securityLabel": [{"system": CLASS_SYSTEM, "code": code}]}


def r4(subject: int, provision: Mapping[str, Any]) -> dict[str, Any]:
    """Return an R4 resource around a provision."""
    return {
        "resourceType": "Consent",
        "id": f"c-{subject}",
        "status": "active",
        "scope": {"coding": [SCOPE]},
        "patient": {"reference": f"Patient/{subject}"},
        "dateTime": "2025-06-01",
        "provision": provision,
    }


def simulated(subject: int) -> dict[str, Any]:
    """Return one of the answers of `simulate`; whoever was never asked denies."""
    return next(generate_consents([subject], AT, seed=1), None) or r4(subject, {"type": "deny"})


def nested(subject: int) -> dict[str, Any]:
    """Return a denial with an exception for research, that has five exceptions, one of them with its own."""
    withheld = [{"type": "deny"} | label(code) for code in ("MH", "SUD", "HIV", "STD")]
    withheld += [{"type": "deny", "provision": [{"type": "permit", "purpose": RESEARCH}]} | label("GDIS")]
    return r4(
        subject,
        {
            "type": "deny",
            "period": {"start": "2025", "end": "2035"},
            "provision": [{"type": "permit", "purpose": RESEARCH, "provision": withheld}],
        },
    )


def r5(subject: int) -> dict[str, Any]:
    """Return the opt-in that R5 writes as an exception to a denial, withholding one class."""
    return {
        "resourceType": "Consent",
        "id": f"c-{subject}",
        "status": "active",
        "subject": {"reference": f"Patient/{subject}"},
        "date": "2025-06-01",
        "period": {"start": "2025", "end": "2035"},
        "decision": "deny",
        "provision": [{"purpose": RESEARCH, "provision": [label("SEX")]}],
    }


def data_use(subject: int) -> dict[str, Any]:
    """Return general research use, for non-commercial use only."""
    terms = [{"system": SYSTEM, "code": code} for code in ("DUO:0000042", "DUO:0000046")]
    return r4(subject, {"type": "permit", "code": [{"coding": terms}]})


FORMS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "simple": lambda subject: r4(subject, {"type": "permit", "purpose": RESEARCH}),
    "simulated": simulated,
    "nested": nested,
    "R5": r5,
    "data use terms": data_use,
}


def rate(consents: Sequence[Sequence[Consent]], request: Request) -> tuple[float, float]:
    """Return decisions a second, the best of three passes, and the share of permits."""
    best = 0.0
    permits = 0
    for _ in range(3):
        start = time.process_time()
        decisions = [decide(each, request, AT) for each in consents]
        best = max(best, len(consents) / (time.process_time() - start))
        permits = sum(isinstance(decision, Permit) for decision in decisions)
    return best, permits / len(consents)


def main() -> None:
    """Print one line a form and size."""
    print(f"{'form':<16}{'patients':>9}{'ordinary/s':>13}{'6 kinds/s':>13}{'permitted':>11}")
    meets = frozenset({"DUO:0000046"})
    forms = list(FORMS.values())

    def mixed(subject: int) -> dict[str, Any]:
        return simulated(subject) if subject % 2 else forms[subject // 2 % len(forms)](subject)

    for name, form in {**FORMS, "mixture": mixed}.items():
        for size in SIZES:
            consents = [(parse_consent(form(subject)),) for subject in range(size)]
            ordinary, _ = rate(consents, Request("HRESCH", frozenset(), meets))
            kinds, share = rate(consents, Request("HRESCH", CLASSES, meets))
            print(f"{name:<16}{size:>9,}{ordinary:>13,.0f}{kinds:>13,.0f}{share:>11.2f}")


if __name__ == "__main__":
    main()
