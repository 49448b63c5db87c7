from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from oathbound.core.errors import WrongInput
from oathbound.data.consent import (
    Consent,
    Deny,
    Permit,
    Provision,
    Reason,
    Request,
    after_withdrawal,
    current,
    decide,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RESEARCH = Request("HRESCH")


def permit(*purposes, **more):
    return Provision(effect="permit", purposes=purposes or ("HRESCH",), **more)


def deny(**more):
    return Provision(effect="deny", **more)


def consent(provision, **more):
    fields = {"id": "c", "patient": 1, "status": "active"} | more
    return Consent(provision=provision, **fields)


def reason(consents, request=RESEARCH, at=AT):
    decision = decide(consents, request, at)
    return decision.reason if isinstance(decision, Deny) else decision


def test_a_permit_for_the_purpose_permits():
    assert reason([consent(permit())]) == Permit()


def test_a_withdrawal_takes_back_what_was_permitted_and_nothing_that_was_denied():
    given = consent(permit(exceptions=(deny(labels=("SUD",)),)), given=AT - DAY)
    drugs = Request("HRESCH", frozenset({"SUD"}))
    (after,) = after_withdrawal([given], AT)
    later = consent(permit(), id="later", given=AT + DAY)
    assert reason([after], at=AT + 2 * DAY) is Reason.WITHDRAWN
    assert reason([after, later], at=AT + 2 * DAY) == Permit()
    assert reason([given, later], drugs, AT + 2 * DAY) is Reason.WITHHELD
    assert reason([after, later], drugs, AT + 2 * DAY) is Reason.WITHHELD
    refused = after_withdrawal([consent(deny(), given=AT - DAY)], AT)
    assert reason([*refused, later], at=AT + 2 * DAY) is Reason.DENIED


def test_an_opt_in_that_was_withdrawn_does_not_deny_a_later_one():
    opted_in = consent(deny(exceptions=(permit("HRESCH"),)), given=AT - DAY)
    later = consent(deny(exceptions=(permit("HRESCH"),)), id="later", given=AT + DAY)
    withdrawn = after_withdrawal([opted_in], AT)
    assert reason(withdrawn, at=AT + 2 * DAY) is Reason.WITHDRAWN
    assert reason([*withdrawn, later], at=AT + 2 * DAY) == Permit()


def test_a_withdrawal_takes_back_what_was_there_and_dated_later():
    future = consent(permit(), given=AT + DAY)
    assert after_withdrawal([future], AT) == (future,)
    (after,) = after_withdrawal([future], AT, {("c", AT + DAY)})
    assert reason([after], at=AT + 2 * DAY) is Reason.WITHDRAWN


def test_nothing_permits_by_default():
    assert reason([]) is Reason.NO_CONSENT
    assert reason([consent(None)]) is Reason.PURPOSE
    assert reason([consent(Provision(effect="permit"))]) is Reason.PURPOSE


@pytest.mark.parametrize(
    ("purpose", "covered"),
    [("CLINTRCHPC", True), ("DSRCH", True), ("HRESCH", True), ("TREAT", False), ("HQUALIMP", False)],
)
def test_a_purpose_covers_its_descendants_only(purpose, covered):
    assert isinstance(decide([consent(permit("HRESCH"))], Request(purpose), AT), Permit) is covered


def test_a_narrower_permit_does_not_cover_a_wider_request():
    assert reason([consent(permit("CLINTRCH"))]) is Reason.PURPOSE


def test_a_narrower_deny_touches_a_wider_request():
    assert reason([consent(permit(exceptions=(deny(purposes=("CLINTRCH",)),)))]) is Reason.DENIED


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("inactive", Reason.WITHDRAWN),
        ("rejected", Reason.DENIED),
        ("draft", Reason.NOT_YET),
        ("proposed", Reason.NOT_YET),
        ("entered-in-error", Reason.NO_CONSENT),
        ("unreadable", Reason.UNREADABLE),
    ],
)
def test_only_an_active_consent_permits(status, expected):
    assert reason([consent(permit(), status=status)]) is expected


def test_an_unreadable_consent_denies_beside_a_permit():
    unreadable = consent(None, id="line:3", status="unreadable", understood=False)
    assert reason([consent(permit()), unreadable]) is Reason.UNREADABLE


def test_a_withdrawn_consent_does_not_undo_another():
    assert reason([consent(permit(), status="inactive", id="old"), consent(permit(), id="new")]) == Permit()


def test_a_period_starts_included_and_ends_excluded():
    timed = [consent(permit(start=AT, end=AT + DAY))]
    assert reason(timed, at=AT - timedelta(microseconds=1)) is Reason.NOT_YET
    assert reason(timed, at=AT) == Permit()
    assert reason(timed, at=AT + DAY - timedelta(microseconds=1)) == Permit()
    assert reason(timed, at=AT + DAY) is Reason.EXPIRED


def test_a_consent_given_later_can_only_deny():
    assert reason([consent(permit(), given=AT + DAY)]) is Reason.NOT_YET
    assert reason([consent(permit()), consent(deny(), id="d", given=AT + DAY)]) is Reason.DENIED


def test_a_deny_overrides_a_permit_of_another_consent():
    assert reason([consent(permit()), consent(deny(), id="d")]) is Reason.DENIED


def test_an_exception_permits_within_a_deny_and_denies_within_a_permit():
    assert reason([consent(deny(exceptions=(permit(),)))]) == Permit()
    assert reason([consent(deny(exceptions=(permit(exceptions=(deny(),)),)))]) is Reason.DENIED


def test_a_root_without_type_leaves_the_word_to_its_exceptions():
    assert reason([consent(Provision(effect=None, exceptions=(permit(),)))]) == Permit()
    assert reason([consent(Provision(effect=None))]) is Reason.PURPOSE


def test_an_exception_inherits_the_purpose_of_its_rule():
    inner = Provision(effect="permit")
    assert reason([consent(deny(purposes=("HRESCH",), exceptions=(inner,)))]) == Permit()
    assert reason([consent(deny(exceptions=(inner,)))]) is Reason.DENIED


@pytest.mark.parametrize(
    ("withheld", "asked", "refused"),
    [
        ("MH", "MH", True),
        ("SPI", "MH", True),  # what is withheld covers what is asked
        ("MH", "SPI", True),  # what is asked covers what is withheld
        ("ETH", "OPIOIDUD", True),  # kin
        ("MH", "HIV", False),
    ],
)
def test_a_withheld_class_is_withheld_with_its_kin(withheld, asked, refused):
    consents = [consent(permit(exceptions=(deny(labels=(withheld,)),)))]
    expected = Reason.WITHHELD if refused else Permit()
    assert reason(consents, Request("HRESCH", frozenset({asked}))) == expected
    assert reason(consents) == Permit()


def test_a_permit_for_a_class_does_not_permit_ordinary_data():
    classed = consent(permit(labels=("MH",)))
    assert reason([classed]) is Reason.PURPOSE
    assert reason([classed], Request("HRESCH", frozenset({"MH"}))) is Reason.PURPOSE
    both = [classed, consent(permit(), id="ordinary")]
    assert reason(both, Request("HRESCH", frozenset({"MH"}))) == Permit()


def test_a_permit_for_a_narrower_class_does_not_permit_a_wider_one():
    consents = [consent(permit()), consent(permit(exceptions=(deny(labels=("SPI",)),)), id="d")]
    assert reason(consents, Request("HRESCH", frozenset({"MH"}))) is Reason.WITHHELD
    narrow = [consent(deny(labels=("SPI",), exceptions=(permit(labels=("MH",)),))), consent(permit(), id="o")]
    assert reason(narrow, Request("HRESCH", frozenset({"MH"}))) == Permit()
    assert reason(narrow, Request("HRESCH", frozenset({"SPI"}))) is Reason.WITHHELD


def test_an_opaque_rule_cannot_permit_and_can_deny():
    assert reason([consent(permit(opaque=True))]) is Reason.UNREADABLE
    assert reason([consent(deny(opaque=True))]) is Reason.DENIED
    assert reason([consent(deny(opaque=True, exceptions=(permit(),)))]) is Reason.DENIED
    assert reason([consent(permit(exceptions=(deny(opaque=True),)))]) is Reason.DENIED


def test_a_deny_inside_a_permit_that_does_not_hold_still_denies():
    inside = consent(permit(opaque=True, exceptions=(deny(),)))
    assert reason([inside, consent(permit(), id="other")]) is Reason.DENIED


def test_a_consent_that_is_not_understood_cannot_permit():
    assert reason([consent(permit(), understood=False)]) is Reason.UNREADABLE


@pytest.mark.parametrize("request_of", [lambda: Request("NOPE"), lambda: Request("HRESCH", frozenset({"X"}))])
def test_a_request_holds_known_codes(request_of):
    with pytest.raises(WrongInput):
        request_of()


def test_the_newest_version_of_a_consent_counts():
    old = consent(permit(), updated=AT - DAY)
    new = consent(permit(), status="inactive", updated=AT)
    undated = consent(permit())
    for order in permutations([old, new, undated, new]):
        assert current(order) == (new,)


def test_an_ambiguous_version_cannot_permit():
    one, other = consent(permit(), updated=AT), consent(permit("HRESCH", "TREAT"), updated=AT)
    for order in permutations([one, other]):
        assert reason(current(order)) is Reason.UNREADABLE


def test_an_id_of_two_patients_permits_for_neither():
    one, other = consent(permit(), updated=AT), consent(permit(), updated=AT - DAY, patient=2)
    assert {c.patient for c in current([one, other])} == {1, 2}
    assert not any(c.understood for c in current([one, other]))
