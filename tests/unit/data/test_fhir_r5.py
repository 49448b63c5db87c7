import json
from datetime import UTC, datetime

import pytest

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.codes import CLASS_SYSTEM, PURPOSE_SYSTEM
from oathbound.data.consent import Deny, Permit, Reason, Request, decide
from oathbound.data.fhir import MAX_BYTES, parse_consent, read_consents
from oathbound.data.fhir_elements import MAX_DEPTH

AT = datetime(2026, 1, 1, tzinfo=UTC)
RESEARCH = {"system": PURPOSE_SYSTEM, "code": "HRESCH"}
TREATMENT = {"system": PURPOSE_SYSTEM, "code": "TREAT"}
MENTAL = {"system": CLASS_SYSTEM, "code": "MH"}
PRIVATE = "Zaphod-5551234"


def resource(*provisions, **more):
    base = {
        "resourceType": "Consent",
        "id": "c-1",
        "status": "active",
        "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
        "subject": {"reference": "Patient/17"},
        "date": "2025-06-01",
        "grantor": [{"reference": "Patient/17"}],
        "controller": [{"reference": "Organization/1"}],
        "decision": "deny",
        "provision": list(provisions) or [{"purpose": [RESEARCH]}],
    }
    return {key: value for key, value in (base | more).items() if value is not ...}


def decision(*provisions, classes=(), purpose="HRESCH", at=AT, **more):
    consent = parse_consent(json.dumps(resource(*provisions, **more)).encode())
    return decide([consent], Request(purpose, frozenset(classes)), at)


def test_a_whole_consent_is_read():
    consent = parse_consent(resource(meta={"lastUpdated": "2025-06-02T10:00:00Z"}))
    assert (consent.id, consent.patient, consent.status, consent.understood) == ("c-1", 17, "active", True)
    assert consent.updated == datetime(2025, 6, 2, 10, tzinfo=UTC)
    assert consent.given == datetime(2025, 6, 1, tzinfo=UTC)


def test_a_provision_is_an_exception_to_the_decision():
    assert decision() == Permit()
    assert decision(purpose="TREAT") == Deny(Reason.DENIED)
    assert decision(decision="permit") == Deny(Reason.DENIED)


def test_a_base_permit_names_no_purpose_and_permits_nothing():
    assert decision(decision="permit", provision=...) == Deny(Reason.PURPOSE)
    withheld = {"purpose": [TREATMENT]}
    assert decision(withheld, decision="permit") == Deny(Reason.PURPOSE)


def test_exceptions_alternate_with_depth():
    nested = {"purpose": [RESEARCH], "provision": [{"securityLabel": [MENTAL]}]}
    assert decision(nested) == Permit()
    assert decision(nested, classes=["MH"]) == Deny(Reason.WITHHELD)
    deeper = {"securityLabel": [MENTAL], "provision": [{"purpose": [RESEARCH]}]}
    assert decision({"purpose": [RESEARCH], "provision": [deeper]}, classes=["MH"]) == Permit()


def test_several_provisions_are_all_read():
    assert decision({"purpose": [TREATMENT]}, {"purpose": [RESEARCH]}) == Permit()
    assert decision({"purpose": [TREATMENT]}, {"purpose": [RESEARCH]}, purpose="HMARKT") == Deny(
        Reason.DENIED
    )


def test_the_period_is_that_of_the_base_rule():
    for period in ({"end": "2025"}, {"start": "2027"}):
        assert isinstance(decision(period=period), Deny)
    assert decision(period={"end": "2025"}) == Deny(Reason.EXPIRED)
    assert decision(period={"start": "2025", "end": "2026"}) == Permit()


def test_a_provision_has_a_period_of_its_own():
    assert decision({"purpose": [RESEARCH], "period": {"end": "2025-12-31"}}) == Deny(Reason.DENIED)
    assert decision({"purpose": [RESEARCH], "period": {"end": "2026-01-01"}}) == Permit()


def test_a_consent_that_is_dated_later_can_only_deny():
    assert decision(date="2026-02") == Deny(Reason.DENIED)
    later = parse_consent(resource(date="2026-02", decision="permit", provision=...))
    assert decide([later], Request("HRESCH"), AT) == Deny(Reason.NOT_YET)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("draft", Reason.NOT_YET),
        ("inactive", Reason.WITHDRAWN),
        ("not-done", Reason.NO_CONSENT),
        ("entered-in-error", Reason.NO_CONSENT),
    ],
)
def test_only_an_active_consent_permits(status, reason):
    assert decision(status=status) == Deny(reason)


def test_a_consent_of_unknown_status_permits_nothing_and_denies():
    assert decision(status="unknown", decision="permit", provision=...) == Deny(Reason.UNREADABLE)
    active, unknown = parse_consent(resource()), parse_consent(resource(id="c-2", status="unknown"))
    assert decide([active, unknown], Request("HRESCH"), AT) == Deny(Reason.DENIED)


@pytest.mark.parametrize(
    "restriction",
    [
        {"actor": [{"reference": {"reference": "Organization/1"}}]},
        {"action": [{"coding": [{"code": "access"}]}]},
        {"documentType": [{"code": "x"}]},
        {"resourceType": [{"code": "Observation"}]},
        {"code": [{"text": "x"}]},
        {"dataPeriod": {"start": "2020"}},
        {"data": [{"meaning": "instance", "reference": {"reference": "Observation/1"}}]},
        {"expression": {"language": "text/fhirpath", "expression": "true"}},
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"invented": True},
    ],
)
def test_a_restriction_that_is_not_evaluated_stops_a_permit_and_not_a_deny(restriction):
    assert isinstance(decision({"purpose": [RESEARCH]} | restriction), Deny)
    inner = {"purpose": [RESEARCH], "provision": [restriction]}
    assert decision(inner) == Deny(Reason.DENIED)


@pytest.mark.parametrize(
    "more",
    [
        {"grantee": [{"reference": "Organization/1"}]},
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"implicitRules": "urn:rules"},
        {"_decision": {"extension": []}},
        {"policyRule": {"text": "an element of R4"}},
        {"invented": 1},
    ],
)
def test_what_may_change_the_whole_consent_stops_it_from_permitting(more):
    assert isinstance(decision(**more), Deny)
    assert decision(decision="permit", provision=..., **more) == Deny(Reason.UNREADABLE)
    assert decision({"purpose": [RESEARCH]}, decision="permit", **more) == Deny(Reason.DENIED)


@pytest.mark.parametrize(
    "more",
    [
        {"manager": [{"reference": "Organization/1"}]},
        {"regulatoryBasis": [{"text": "a law"}]},
        {"policyBasis": {"url": "https://x.example/policy"}},
        {"policyText": [{"reference": "DocumentReference/1"}]},
        {"verification": [{"verified": True}]},
        {"text": {"status": "generated", "div": "<div/>"}},
    ],
)
def test_what_describes_a_consent_changes_nothing(more):
    assert decision(**more) == Permit()


@pytest.mark.parametrize(
    "more",
    [
        {"id": ...},
        {"status": "rejected"},
        {"status": PRIVATE},
        {"subject": {"reference": "Group/17"}},
        {"subject": {"reference": "Patient/" + PRIVATE}},
        {"patient": {"reference": "Patient/17"}},
        {"scope": {"coding": [{"code": "research"}]}},
        {"date": "2025-06-01T10:00:00Z"},
        {"date": "2025-02-30"},
        {"date": PRIVATE},
        {"period": {"start": "2026", "end": "2025"}},
        {"decision": PRIVATE},
        {"decision": ...},
        {"provision": []},
        {"provision": {"purpose": [RESEARCH]}},
        {"provision": [{"type": "permit", "purpose": [RESEARCH]}]},
        {"provision": [{"purpose": []}]},
        {"provision": [{}] * 300},
    ],
)
def test_a_wrong_resource_is_refused_without_its_values(more):
    with pytest.raises(WrongInput) as caught:
        parse_consent(resource(**more))
    assert PRIVATE not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


def test_nesting_is_bounded():
    def nested(depth):
        rule = {"purpose": [RESEARCH]}
        for _ in range(depth - 1):
            rule = {"provision": [rule]}
        return rule

    parse_consent(resource(nested(MAX_DEPTH - 1)))  # the base rule is one
    with pytest.raises(WrongInput, match="nests"):
        parse_consent(resource(nested(MAX_DEPTH)))


def r4(number, **more):
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    return {
        "resourceType": "Consent",
        "id": f"r4-{number}",
        "status": "active",
        "scope": {"coding": [scope]},
        "patient": {"reference": f"Patient/{number}"},
        "provision": {"type": "permit", "purpose": [RESEARCH]},
    } | more


def r5(number, **more):
    return resource(id=f"r5-{number}", subject={"reference": f"Patient/{number}"}, **more)


def bundle(*resources, **more):
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": each} for each in resources],
    } | more


def written(path, *documents):
    path.write_text("\n".join(json.dumps(document) for document in documents), encoding="utf-8")
    return read_consents(path)


def test_a_file_holds_both_releases_and_bundles(tmp_path):
    read = written(tmp_path / "c.ndjson", r4(1), r5(2), bundle(r4(3), {"resourceType": "Patient"}, r5(4)))
    assert [c.patient for c in read.consents] == [1, 2, 3, 4]
    assert read.quarantined == 0
    assert all(decide([c], Request("HRESCH"), AT) == Permit() for c in read.consents)


def test_a_json_file_is_one_bundle_or_one_consent(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(bundle(r4(1), r5(2), type="searchset"), indent=2), encoding="utf-8")
    assert [c.patient for c in read_consents(path).consents] == [1, 2]
    path.write_text(json.dumps(r5(3), indent=2), encoding="utf-8")
    assert [c.patient for c in read_consents(path).consents] == [3]


def test_a_large_bundle_is_read_from_a_json_file(tmp_path):
    long = bundle(*(r4(n, text={"div": "x" * 1000}) for n in range(1100)))
    assert len(json.dumps(long)) > MAX_BYTES
    assert len(written(tmp_path / "c.json", long).consents) == 1100


def test_a_bad_entry_does_not_lose_the_rest_and_still_denies(tmp_path):
    broken = bundle(r4(1), r5(2, status="perhaps"), r4(3, scope=None))
    broken["entry"] += [{"fullUrl": "urn:x"}, 5]
    read = written(tmp_path / "c.json", broken)
    assert [(c.patient, c.status) for c in read.consents] == [
        (1, "active"),
        (2, "unreadable"),
        (3, "unreadable"),
    ]
    assert read.quarantined == 4


def test_a_resource_that_names_two_patients_denies_for_both(tmp_path):
    read = written(tmp_path / "c.ndjson", r4(1), r4(2, subject={"reference": "Patient/3"}))
    assert [(c.patient, c.status) for c in read.consents[1:]] == [(2, "unreadable"), (3, "unreadable")]
    assert len({c.id for c in read.consents}) == 3


@pytest.mark.parametrize(
    "more",
    [
        {"type": "transaction"},
        {"type": "history"},
        {"type": ...},
        {"link": [{"relation": "self", "url": "u"}, {"relation": "next", "url": "u"}]},
        {"link": {"relation": "next"}},
        {"link": ["next"]},
        {"entry": {"resource": r4(1)}},
    ],
)
def test_a_bundle_that_is_not_the_whole_of_what_is_is_refused(tmp_path, more):
    refused = {key: value for key, value in (bundle(r4(1)) | more).items() if value is not ...}
    with pytest.raises(WrongInput, match="Bundle"):
        written(tmp_path / "c.ndjson", r4(2), refused)


def test_nothing_empty_passes(tmp_path):
    for empty in (bundle(), bundle({"resourceType": "Patient"}), bundle({"resourceType": "Consent"})):
        with pytest.raises(NothingExamined):
            written(tmp_path / "c.json", empty)
    (tmp_path / "c.json").write_bytes(b" \n")
    with pytest.raises(NothingExamined):
        read_consents(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": NaN}', "[" * 100_000, '{"resourceType": "Bundle"'])
def test_a_json_file_that_is_not_one_object_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    with pytest.raises(WrongInput):
        read_consents(tmp_path / "c.json")
