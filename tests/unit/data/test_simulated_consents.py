from collections import Counter
from datetime import UTC, datetime

from oathbound.data.consent import Deny, Request, decide
from oathbound.data.fhir import parse_consent
from oathbound.data.simulate import generate_consents

AT = datetime(2026, 3, 1, tzinfo=UTC)
PEOPLE = range(1, 5001)


def test_every_answer_occurs_in_about_its_share():
    consents = {c.patient: c for c in map(parse_consent, generate_consents(PEOPLE, AT, 7))}
    request = Request("HRESCH", frozenset({"MH", "SUD", "HIV", "GDIS", "SEX"}))
    outcomes = Counter()
    for subject in PEOPLE:
        given = [consents[subject]] if subject in consents else []
        decisions = [decide(given, r, AT) for r in (request, Request("HQUALIMP", request.classes))]
        assert decisions[0] == decisions[1]
        outcomes[str(decisions[0].reason) if isinstance(decisions[0], Deny) else "permitted"] += 1
    shares = {reason: count / len(PEOPLE) for reason, count in outcomes.items()}
    assert set(shares) == {
        "permitted",
        "denied",
        "a data class is withheld",
        "expired",
        "withdrawn",
        "purpose not covered",
        "no consent",
    }
    assert abs(shares.pop("permitted") - 0.86) < 0.02
    assert all(0.01 < share < 0.045 for share in shares.values())


def test_who_withholds_is_permitted_for_ordinary_data():
    permitted = [
        not isinstance(decide([parse_consent(resource)], Request("HRESCH"), AT), Deny)
        for resource in generate_consents(PEOPLE, AT, 7)
    ]
    assert abs(sum(permitted) / len(PEOPLE) - 0.89) < 0.02


def test_a_seed_settles_everything():
    first = list(generate_consents(PEOPLE, AT, 1))
    assert first == list(generate_consents(PEOPLE, AT, 1))
    assert first != list(generate_consents(PEOPLE, AT, 2))
    assert list(generate_consents([4], AT, 1)) == [r for r in first if r["id"] == "consent-4"]
