import json
import math
from datetime import UTC, datetime

import pytest

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.codes import CLASS_SYSTEM, PURPOSE_SYSTEM
from oathbound.data.consent import Deny, Permit, Reason, Request, current, decide
from oathbound.data.fhir import MAX_BYTES, parse_consent, read_consents
from oathbound.data.fhir_elements import MAX_DEPTH

AT = datetime(2026, 1, 1, tzinfo=UTC)


def utc(*moment):
    return datetime(*moment, tzinfo=UTC)


RESEARCH = {"system": PURPOSE_SYSTEM, "code": "HRESCH"}


def resource(provision=None, **more):
    base = {
        "resourceType": "Consent",
        "id": "c-1",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/17", "display": "somebody"},
        "dateTime": "2025-06-01",
        "provision": provision or {"type": "permit", "purpose": [RESEARCH]},
    }
    return {key: value for key, value in (base | more).items() if value is not ...}


def decision(provision=None, classes=(), **more):
    return decide([parse_consent(resource(provision, **more))], Request("HRESCH", frozenset(classes)), AT)


def test_a_whole_consent_is_read():
    consent = parse_consent(
        json.dumps(resource(meta={"lastUpdated": "2025-06-02T10:00:00.5+02:00"})).encode()
    )
    assert (consent.id, consent.patient, consent.status) == ("c-1", 17, "active")
    assert consent.updated == datetime(2025, 6, 2, 8, 0, 0, 500_000, tzinfo=UTC)
    assert consent.given == datetime(2025, 6, 1, tzinfo=UTC)
    assert consent.understood
    assert decide([consent], Request("CLINTRCH"), AT) == Permit()


@pytest.mark.parametrize(
    ("end", "last", "first_after"),
    [
        ("2027", utc(2027, 12, 31, 23, 59, 59), utc(2028, 1, 1)),
        ("2027-02", utc(2027, 2, 28, 23, 59, 59), utc(2027, 3, 1)),
        ("2027-12", utc(2027, 12, 31, 23, 59, 59), utc(2028, 1, 1)),
        ("2028-02-29", utc(2028, 2, 29, 23, 59, 59), utc(2028, 3, 1)),
        ("2027-05-01T10:00:00+02:00", utc(2027, 5, 1, 8, 0, 0), utc(2027, 5, 1, 8, 0, 1)),
    ],
)
def test_the_end_of_a_period_includes_all_of_what_it_names(end, last, first_after):
    consent = parse_consent(resource({"type": "permit", "purpose": [RESEARCH], "period": {"end": end}}))
    request = Request("HRESCH")
    assert decide([consent], request, last) == Permit()
    assert decide([consent], request, first_after) == Deny(Reason.EXPIRED)


@pytest.mark.parametrize(
    "restriction",
    [
        {"actor": [{"role": {"text": "x"}, "reference": {"reference": "Organization/1"}}]},
        {"action": [{"coding": [{"code": "access"}]}]},
        {"class": [{"code": "Observation"}]},
        {"code": [{"text": "x"}]},
        {"data": [{"meaning": "instance", "reference": {"reference": "Observation/1"}}]},
        {"dataPeriod": {"start": "2020"}},
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"_type": {"extension": [{"url": "urn:x", "valueBoolean": True}]}},
        {"purpose": [RESEARCH, {"system": "urn:other", "code": "HRESCH"}]},
        {"purpose": [RESEARCH, {"system": PURPOSE_SYSTEM, "code": "NEW"}]},
        {
            "securityLabel": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}
            ]
        },
        {"invented": True},
    ],
)
def test_a_restriction_that_is_not_evaluated_stops_a_permit_and_not_a_deny(restriction):
    permit = {"type": "permit", "purpose": [RESEARCH]} | restriction
    assert decision(permit) == Deny(Reason.UNREADABLE)
    deny = {"type": "deny"} | restriction
    classed = decision({"type": "permit", "purpose": [RESEARCH], "provision": [deny]}, classes=["HIV"])
    assert isinstance(classed, Deny)


@pytest.mark.parametrize(
    "more",
    [
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"implicitRules": "urn:rules"},
        {"_status": {"extension": []}},
        {
            "scope": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "adr"}]
            }
        },
        {"invented": 1},
    ],
)
def test_what_may_change_the_whole_consent_stops_it_from_permitting(more):
    assert decision(**more) == Deny(Reason.UNREADABLE)
    assert decision({"type": "deny"}, **more) == Deny(Reason.DENIED)


def test_a_withheld_class_is_read():
    withheld = {"type": "deny", "securityLabel": [{"system": CLASS_SYSTEM, "code": "PSY"}]}
    tree = {"type": "permit", "purpose": [RESEARCH], "provision": [withheld]}
    assert decision(tree, classes=["MH"]) == Deny(Reason.WITHHELD)
    assert decision(tree) == Permit()


def nested(depth):
    rule = {"type": "permit", "purpose": [RESEARCH]}
    for _ in range(depth - 1):
        rule = {"type": "permit", "purpose": [RESEARCH], "provision": [rule]}
    return rule


def test_nesting_is_bounded():
    assert decision(nested(MAX_DEPTH)) == Permit()
    with pytest.raises(WrongInput, match="nests"):
        parse_consent(resource(nested(MAX_DEPTH + 1)))


PRIVATE = "Zaphod-5551234"


@pytest.mark.parametrize(
    "more",
    [
        {"resourceType": "Patient"},
        {"id": PRIVATE + "/"},
        {"id": ...},
        {"status": PRIVATE},
        {"status": ...},
        {"scope": ...},
        {"patient": ...},
        {"patient": {"reference": "Patient/" + PRIVATE}},
        {"patient": {"reference": "Patient/017"}},
        {"patient": {"reference": f"Patient/{2**63}"}},
        {"patient": {"reference": "https://x.example/Patient/17"}},
        {"subject": {"reference": "Patient/17"}, "patient": ...},
        {"dateTime": "01.06.2025"},
        {"dateTime": "2025-02-30"},
        {"dateTime": "2025-06-01T10:00:00"},
        {"dateTime": 20250601},
        *(
            {"meta": {"lastUpdated": text}}
            for text in ("2025", "2025-06", "2025-06-02", "2025-06-02T10:00:00")
        ),
        {"provision": {"type": PRIVATE}},
        {"provision": {"type": "permit", "purpose": []}},
        {"provision": {"type": "permit", "purpose": PRIVATE}},
        {"provision": {"type": "permit", "period": {"start": "2026", "end": "2025"}}},
        {"provision": {"type": "permit", "provision": [{"purpose": [RESEARCH]}]}},
        {"provision": {"type": "permit", "provision": [{"type": "deny"}] * 300}},
        {"provision": [1]},
    ],
)
def test_a_wrong_resource_is_refused_without_its_values(more):
    with pytest.raises(WrongInput) as caught:
        parse_consent(resource(**more))
    assert PRIVATE not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"resourceType": NaN}',
        b"[" * 100_000,
        json.dumps(resource()).encode()[:-1],
        json.dumps(resource()).encode()[:-1] + b', "status": "active"}',
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_is_not_one_json_object_is_refused(data):
    with pytest.raises(WrongInput):
        parse_consent(data)


def line(number, **more):
    return json.dumps(resource(id=f"c-{number}", patient={"reference": f"Patient/{number}"}, **more)).encode()


def test_a_bad_line_does_not_lose_the_rest_and_still_denies(tmp_path):
    path = tmp_path / "consents.ndjson"
    long = line(4, text={"div": "x" * 2 * MAX_BYTES})
    path.write_bytes(
        b"\n".join([line(1), b"{broken", b"", line(2, status="perhaps"), line(3), long, line(5)])
    )
    consents, quarantined = read_consents(path)
    assert quarantined == 3
    assert [(c.patient, c.status) for c in consents] == [
        (1, "active"),
        (2, "unreadable"),
        (3, "active"),
        (5, "active"),
    ]
    assert decide([c for c in consents if c.patient == 2], Request("HRESCH"), AT) == Deny(Reason.UNREADABLE)


def test_a_newer_denial_whose_time_of_writing_is_incomplete_denies(tmp_path):
    path = tmp_path / "consents.ndjson"
    older = resource(meta={"lastUpdated": "2025-06-02T10:00:00Z"})
    newer = resource({"type": "deny"}, meta={"lastUpdated": "2025-06"})
    path.write_text("\n".join(json.dumps(each) for each in (older, newer)))
    consents, quarantined = read_consents(path)
    assert quarantined == 1
    assert decide(current(consents), Request("HRESCH"), AT) == Deny(Reason.UNREADABLE)


@pytest.mark.parametrize("kind", [[], {}, 1, None, "batch"])
def test_a_bundle_of_no_type_is_refused(tmp_path, kind):
    (tmp_path / "consents.ndjson").write_text(json.dumps({"resourceType": "Bundle", "type": kind}))
    with pytest.raises(WrongInput, match="neither a collection nor a searchset"):
        read_consents(tmp_path / "consents.ndjson")


@pytest.mark.parametrize(
    "text", ["9999", "9999-12-31", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"]
)
def test_what_was_given_in_the_year_9999_is_a_time_that_can_be_rounded_up(text):
    consent = parse_consent(resource(dateTime=text, meta={"lastUpdated": "9999-12-31T23:59:59Z"}))
    assert datetime.fromtimestamp(math.ceil(consent.given.timestamp()), UTC) == utc(9999, 1, 1)
    assert decide([consent], Request("HRESCH"), AT) == Deny(Reason.NOT_YET)
    period = {"start": "9999", "end": text}
    assert decision({"type": "permit", "purpose": [RESEARCH], "period": period}) == Deny(Reason.NOT_YET)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    with pytest.raises(WrongInput):
        read_consents(tmp_path / "none.ndjson")
    with pytest.raises(WrongInput):
        read_consents(tmp_path)
    (tmp_path / "empty.ndjson").write_bytes(b"\n\n")
    with pytest.raises(NothingExamined):
        read_consents(tmp_path / "empty.ndjson")
