import json
from datetime import UTC, datetime

import pytest

from oathbound.core.errors import WrongInput
from oathbound.data import duo
from oathbound.data.codes import PURPOSE_COVERED_BY, PURPOSE_SYSTEM
from oathbound.data.consent import Deny, Permit, Reason, Request, decide
from oathbound.data.fhir import parse_consent

AT = datetime(2026, 1, 1, tzinfo=UTC)

NRES, HMB, DS, POA, GSO, NMDS, NPUNCU = (f"DUO:00000{n}" for n in ("04", "06", "07", "11", "16", "15", "18"))
PUB, COL, IRB, GS, MOR, TS, RTN, GRU, CC, NPOA, NPU, NCU = (
    f"DUO:00000{n}" for n in ("19", "20", "21", "22", "24", "25", "29", "42", "43", "44", "45", "46")
)
RS, US, PS, IS = (f"DUO:00000{n}" for n in ("12", "26", "27", "28"))


def term(code):
    return {"system": duo.SYSTEM, "code": code}


def v3(code):
    return {"system": PURPOSE_SYSTEM, "code": code}


def permit(*terms, **more):
    return {"type": "permit", "code": [{"coding": [term(code)]} for code in terms]} | more


def decision(provision, purpose="HRESCH", meets=()):
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    resource = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": {"coding": [scope]},
        "patient": {"reference": "Patient/1"},
        "provision": provision,
    }
    consent = parse_consent(json.dumps(resource).encode())
    return decide([consent], Request(purpose, frozenset(), frozenset(meets)), AT)


RESEARCH = ["HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "DSRCH", "POARCH", "TRANSRCH"]


@pytest.mark.parametrize(
    ("code", "covered"),
    [
        (GRU, RESEARCH),
        (HMB, ["BIORCH", "CLINTRCH", "CLINTRCHNPC", "DSRCH", "TRANSRCH"]),
        (POA, ["POARCH"]),
        (CC, ["TREAT"]),
        (NRES, [*RESEARCH, "TREAT", "HQUALIMP", "HMARKT"]),
    ],
)
def test_a_permission_covers_its_purposes_only(code, covered):
    for purpose in [*RESEARCH, "TREAT", "HQUALIMP", "HMARKT"]:
        assert isinstance(decision(permit(code), purpose), Permit) is (purpose in covered), purpose


def test_a_term_may_stand_as_purpose_or_as_code_in_three_forms():
    for form in ("DUO:0000042", "DUO_0000042", "http://purl.obolibrary.org/obo/DUO_0000042"):
        assert decision(permit(form)) == Permit()
        assert decision({"type": "permit", "purpose": [term(form)]}) == Permit()


@pytest.mark.parametrize(
    "code", ["GRU", "DUO:42", "duo:0000042", " DUO:0000042", "DUO:0000042\n", "DUO:٠٠٠٠٠٤٢", "", None]
)
def test_any_other_form_is_not_understood(code):
    assert decision(permit(code)) == Deny(Reason.UNREADABLE)


@pytest.mark.parametrize("code", sorted(duo.CONDITIONS))
def test_a_condition_stops_a_permit_until_the_request_meets_it(code):
    assert decision(permit(GRU, code)) == Deny(Reason.CONDITION)
    assert decision(permit(GRU, code), meets=duo.CONDITIONS - {code}) == Deny(Reason.CONDITION)
    assert decision(permit(GRU, code), meets=[code]) == Permit()


def test_conditions_are_those_of_the_page():
    assert {GSO, NPUNCU, PUB, COL, IRB, RTN, NPU, NCU} == duo.CONDITIONS


def test_all_conditions_must_be_met():
    assert decision(permit(GRU, IRB, NCU), meets=[IRB]) == Deny(Reason.CONDITION)
    assert decision(permit(GRU, IRB, NCU), meets=[IRB, NCU]) == Permit()


def test_a_condition_beside_a_purpose_narrows_it():
    rule = {"type": "permit", "purpose": [v3("HRESCH"), term(NCU)]}
    assert decision(rule) == Deny(Reason.CONDITION)
    assert decision(rule, meets=[NCU]) == Permit()
    rule = {"type": "permit", "purpose": [v3("HRESCH")], "code": [{"coding": [term(NCU)]}]}
    assert decision(rule) == Deny(Reason.CONDITION)
    assert decision(rule, meets=[NCU]) == Permit()


def test_a_condition_of_an_enclosing_rule_binds():
    inner = {"type": "permit", "purpose": [v3("HRESCH")]}
    assert decision(permit(IRB, provision=[inner])) == Deny(Reason.CONDITION)
    assert decision(permit(IRB, provision=[inner]), meets=[IRB]) == Permit()


def test_a_condition_alone_names_no_purpose():
    assert decision(permit(IRB), meets=[IRB]) == Deny(Reason.PURPOSE)


def test_a_condition_never_softens_a_denial():
    denial = permit(IRB) | {"type": "deny"}
    assert decision(denial) == decision(denial, meets=[IRB]) == Deny(Reason.DENIED)


@pytest.mark.parametrize("code", [DS, GS, MOR, TS, RS, US, PS, IS])
def test_a_term_whose_meaning_stands_elsewhere_never_permits(code):
    assert decision(permit(GRU, code), meets=duo.CONDITIONS) == Deny(Reason.UNREADABLE)
    assert decision({"type": "permit", "purpose": [v3("HRESCH"), term(code)]}) == Deny(Reason.UNREADABLE)
    with pytest.raises(WrongInput):
        Request("HRESCH", meets=frozenset({code}))


@pytest.mark.parametrize("code", ["DUO:0000005", "DUO:0000001", "DUO:0000017", "DUO:0000031", "DUO:9999999"])
def test_an_obsolete_or_unknown_term_never_permits(code):
    assert decision(permit(GRU, code)) == Deny(Reason.UNREADABLE)
    assert decision(permit(code) | {"type": "deny"}) == Deny(Reason.DENIED)


def test_a_denial_with_a_term_that_is_not_understood_denies_all():
    grant = {"type": "permit", "purpose": [v3("TREAT")]}
    denial = {"type": "deny", "purpose": [v3("CLINTRCH"), term(DS)]}
    assert decision(grant | {"provision": [denial]}, "TREAT") == Deny(Reason.DENIED)


@pytest.mark.parametrize("purpose", ["HRESCH", "BIORCH", "POARCH", "HQUALIMP"])
def test_no_methods_research_forbids_training(purpose):
    assert decision(permit(NRES, NMDS), purpose) == Deny(Reason.DENIED)
    assert decision({"type": "permit", "purpose": [v3(purpose), term(NMDS)]}, purpose) == Deny(Reason.DENIED)


def test_a_prohibition_overrides_another_permit_inside_the_same_consent():
    other = {"type": "permit", "purpose": [v3("HRESCH")]}
    assert decision({"provision": [permit(GRU, NMDS), other]}) == Deny(Reason.DENIED)
    assert decision(permit(NMDS, "DUO:9999999")) == Deny(Reason.DENIED)


def test_no_ancestry_research_forbids_it_and_what_includes_it():
    assert decision(permit(GRU, NPOA), "BIORCH") == Permit()
    assert decision(permit(GRU, NPOA), "POARCH") == Deny(Reason.DENIED)
    assert decision(permit(GRU, NPOA), "HRESCH") == Deny(Reason.DENIED)


@pytest.mark.parametrize(("code", "spared"), [(GRU, "TREAT"), (POA, "BIORCH"), (HMB, "POARCH")])
def test_a_denial_of_a_permission_denies_its_purposes(code, spared):
    grant = {"type": "permit", "purpose": [v3("HRESCH"), v3("TREAT")]}
    tree = grant | {"provision": [permit(code) | {"type": "deny"}]}
    assert decision(tree) == Deny(Reason.DENIED)
    assert decision(tree, spared) == Permit()


def test_a_denial_of_no_restriction_denies_all():
    for purpose in PURPOSE_COVERED_BY:
        grant = {"type": "permit", "purpose": [v3(purpose)]}
        tree = grant | {"provision": [permit(NRES) | {"type": "deny"}]}
        assert decision(tree, purpose) == Deny(Reason.DENIED)


def test_permissions_in_purpose_and_code_at_once_are_not_understood():
    rule = permit(GRU, purpose=[v3("HRESCH")])
    assert decision(rule) == Deny(Reason.UNREADABLE)
    assert decision(rule | {"type": "deny"}) == Deny(Reason.DENIED)


@pytest.mark.parametrize(
    "code",
    [
        [{"coding": [term(GRU), {"system": "http://loinc.org", "code": "1"}]}],
        [{"coding": [term(GRU)]}, {"text": "only this"}],
        [{"coding": [term(GRU)], "modifierExtension": [{"url": "urn:x"}]}],
        [{"coding": [{"system": "urn:other", "code": GRU}]}],
    ],
)
def test_a_code_that_is_not_a_term_alone_stops_a_permit_and_not_a_deny(code):
    assert decision({"type": "permit", "purpose": [v3("HRESCH")], "code": code}) == Deny(Reason.UNREADABLE)
    assert decision({"type": "permit", "code": code}) == Deny(Reason.UNREADABLE)
    grant = {"type": "permit", "purpose": [v3("HRESCH")]}
    assert decision(grant | {"provision": [{"type": "deny", "code": code}]}) == Deny(Reason.DENIED)


def test_a_deny_that_mixes_a_term_with_another_code_denies_all():
    mixed = [{"coding": [term(POA), {"system": "http://loinc.org", "code": "1"}]}]
    grant = {"type": "permit", "purpose": [v3("HRESCH")]}
    tree = grant | {"provision": [{"type": "deny", "code": mixed}]}
    assert decision(tree, "BIORCH") == Deny(Reason.DENIED)


def test_every_purpose_of_a_term_is_a_purpose():
    named = {p for purposes in [*duo.PERMISSIONS.values(), *duo.PROHIBITIONS.values()] for p in purposes}
    assert named <= set(PURPOSE_COVERED_BY)
    roots = {p for p, above in PURPOSE_COVERED_BY.items() if above == {p}}
    assert set(duo.PERMISSIONS[NRES]) == roots
