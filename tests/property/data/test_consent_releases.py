"""What a patient said decides alike, whether FHIR R4 or R5 writes it down."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from oathbound.data import duo
from oathbound.data.codes import CLASS_SYSTEM, PURPOSE_SYSTEM
from oathbound.data.consent import Permit, Request, decide
from oathbound.data.fhir import parse_consent

START = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
OPPOSITE = {"permit": "deny", "deny": "permit"}

days = st.integers(1, 6).map(lambda day: f"2026-01-0{day}")
periods = st.fixed_dictionaries({}, optional={"start": st.just("2026-01"), "end": days})
codes = st.sampled_from(["HRESCH", "HRESCH", "CLINTRCH", "TREAT"])
purposes = codes.map(lambda code: {"system": PURPOSE_SYSTEM, "code": code})
terms = st.sampled_from(["DUO:0000042", "DUO:0000006", "DUO:0000021", "DUO:0000015", "DUO:0000007"]).map(
    lambda code: {"system": duo.SYSTEM, "code": code}
)
labels = st.sampled_from(["MH", "SUD", "HIV"]).map(lambda code: {"system": CLASS_SYSTEM, "code": code})
rules = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "period": periods,
            "purpose": st.lists(purposes | terms, min_size=1, max_size=2),
            "code": st.lists(terms, min_size=1, max_size=2).map(lambda each: [{"coding": each}]),
            "securityLabel": st.lists(labels, min_size=1, max_size=1),
            "dataPeriod": st.just({"start": "2020"}),
        },
    ),
    lambda inner: st.builds(
        lambda rule, exceptions: rule | {"provision": exceptions},
        st.fixed_dictionaries({}, optional={"purpose": st.lists(purposes, min_size=1, max_size=2)}),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
requests = st.builds(
    Request,
    codes,
    st.frozensets(st.sampled_from(["MH", "SPI", "HIV"]), max_size=1),
    st.frozensets(st.just("DUO:0000021")),
)
moments = st.integers(0, 7).map(lambda day: START + timedelta(days=day))


def r4(decision, period, provisions):
    def typed(rule, effect):
        inner = {"provision": [typed(each, OPPOSITE[effect]) for each in rule.get("provision", ())]}
        return {"type": effect} | rule | (inner if rule.get("provision") else {})

    root = typed({"period": period} | ({"provision": provisions} if provisions else {}), decision)
    return {
        "scope": {"coding": [SCOPE]},
        "patient": {"reference": "Patient/1"},
        "dateTime": "2026-01-02",
        "provision": root,
    }


def r5(decision, period, provisions):
    return {
        "subject": {"reference": "Patient/1"},
        "date": "2026-01-02",
        "decision": decision,
        "period": period,
    } | ({"provision": provisions} if provisions else {})


def read(resource, status):
    head = {"resourceType": "Consent", "id": "c", "status": status}
    return parse_consent(json.dumps(head | resource).encode())


said = st.tuples(st.sampled_from(["deny", "deny", "permit"]), periods, st.lists(rules, max_size=3))


@given(
    said, st.sampled_from(["active", "active", "draft", "inactive", "entered-in-error"]), requests, moments
)
def test_both_releases_of_one_consent_decide_alike(said, status, request, at):
    one, other = read(r4(*said), status), read(r5(*said), status)
    assert one == other
    assert decide([one], request, at) == decide([other], request, at)


@given(said, said, requests, moments)
def test_an_unknown_status_denies_what_the_consent_denies_and_never_permits(said, beside, request, at):
    active, unknown = read(r5(*said), "active"), read(r5(*said), "unknown")
    other = read(r4(*beside), "active")
    assert not isinstance(decide([unknown], request, at), Permit)
    if isinstance(decide([unknown, other], request, at), Permit):
        assert isinstance(decide([active, other], request, at), Permit)
