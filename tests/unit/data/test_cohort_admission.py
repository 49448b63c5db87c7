import hashlib
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.cohort import Cohort, Shares, Window, admit, restored
from oathbound.data.commitment import window_position
from oathbound.data.consent import Provision, Request

KEYS = {subject: hashlib.sha256(str(subject).encode()).digest() for subject in range(1, 1001)}


def consents_of(agreeing, subjects, *purposes):
    return {subject: (agreeing(subject, *purposes),) for subject in subjects}


def test_the_parts_have_their_shares_and_are_disjoint(listed, agreeing, terms, at):
    subjects = range(1, 101)
    cohort, tally = admit(
        listed(subjects), terms(), consents=consents_of(agreeing, subjects), keys=KEYS, at=at
    )
    assert (len(cohort.members), len(cohort.held_out), len(cohort.reference)) == (70, 20, 10)
    assert cohort.subjects == set(subjects)
    assert (tally.considered, tally.rounded()) == (100, {})


def test_the_draw_is_the_permutation(listed, agreeing, terms, at):
    subjects = range(1, 11)
    cohort = admit(
        listed(subjects),
        terms(),
        consents=consents_of(agreeing, subjects),
        keys=KEYS,
        at=at,
        permute=lambda n: np.arange(n)[::-1],
    ).cohort
    assert (cohort.held_out, cohort.reference) == ({10, 9}, {8})


def test_a_record_that_cannot_be_read_is_excluded_whole_and_hides_no_copy(listed, agreeing, terms, at):
    source = listed(range(1, 41), same={21: 20, 31: 30}, unreadable=[*range(1, 13), 20, 40])
    consents = consents_of(agreeing, range(1, 40))
    cohort, tally = admit(source, terms(), consents=consents, keys=KEYS, at=at)
    assert tally.excluded == {
        "record cannot be read": 13,
        "record is a duplicate": 1,
        "training: no consent": 1,
    }
    assert cohort.subjects == {*range(13, 40)} - {20, 31}


def test_exclusions_are_counted_by_reason_and_never_shown_when_few(listed, agreeing, terms, at):
    consents = consents_of(agreeing, range(1, 61))
    consents |= consents_of(agreeing, range(61, 81), "HRESCH")
    consents |= consents_of(agreeing, range(81, 84), "HQUALIMP")
    consents |= {84: (agreeing(84, status="inactive"),)}
    source = listed(range(1, 101), same={50: 2, 51: 99})
    cohort, tally = admit(
        source, terms(unbounded=frozenset(range(1, 13))), consents=consents, keys=KEYS, at=at
    )
    assert tally.excluded == {
        "audit: purpose not covered": 20,
        "training: purpose not covered": 3,
        "training: withdrawn": 1,
        "training: no consent": 16,
        "in an unbounded study": 12,
    }
    assert tally.rounded() == {
        "audit: purpose not covered": 20,
        "training: purpose not covered": None,
        "training: withdrawn": None,
        "training: no consent": 15,
        "in an unbounded study": 10,
    }
    assert cohort.subjects == set(range(13, 61))


def test_a_duplicate_record_is_taken_once(listed, agreeing, terms, at):
    subjects = range(1, 41)
    source = listed(subjects, same={20: 3})
    cohort, tally = admit(source, terms(), consents=consents_of(agreeing, subjects), keys=KEYS, at=at)
    assert cohort.subjects == set(subjects) - {20}
    assert tally.excluded == {"record is a duplicate": 1}


def test_a_withheld_class_excludes_only_where_it_is_asked_for(listed, agreeing, terms, at):
    rule = Provision(
        effect="permit",
        purposes=("HRESCH", "HQUALIMP"),
        exceptions=(Provision(effect="deny", labels=("SUD",)),),
    )
    consents = {subject: (agreeing(subject, provision=rule),) for subject in range(1, 21)}
    assert admit(listed(range(1, 21)), terms(), consents=consents, keys=KEYS, at=at).cohort
    asked = terms(training=Request("HRESCH", frozenset({"SUD"})))
    with pytest.raises(NothingExamined):
        admit(listed(range(1, 21)), asked, consents=consents, keys=KEYS, at=at)


def test_disjoint_windows_give_disjoint_cohorts(listed, agreeing, terms, at):
    subjects = range(1, 501)
    consents = consents_of(agreeing, subjects)
    cuts = [Decimal(0), Decimal("0.3"), Decimal("0.35"), Decimal(1)]
    cohorts = [
        admit(listed(subjects), terms(window=Window(low, high)), consents=consents, keys=KEYS, at=at)
        for low, high in pairwise(cuts)
    ]
    assert sum(len(c.cohort.subjects) for c in cohorts) == 500
    assert frozenset().union(*(c.cohort.subjects for c in cohorts)) == set(subjects)
    assert 100 < len(cohorts[0].cohort.subjects) < 200
    assert cohorts[0].tally.excluded["outside the window"] == 500 - len(cohorts[0].cohort.subjects)


def test_a_window_includes_its_low_end_only():
    key = KEYS[1]
    exact = format(window_position(key) * 5**64, "d")
    place = Decimal("0." + exact.zfill(64))
    assert Window(place, Decimal(1)).holds(key)
    assert not Window(Decimal(0), place).holds(key)


def test_nobody_without_a_key_is_admitted(listed, agreeing, terms, at):
    with pytest.raises(NothingExamined):
        admit(listed(range(1, 21)), terms(), consents=consents_of(agreeing, range(1, 21)), keys={}, at=at)


@pytest.mark.parametrize("subjects", [(), (1,), (1, 2, 3)])
def test_an_empty_part_is_refused(subjects, listed, agreeing, terms, at):
    with pytest.raises(NothingExamined) as refused:
        admit(listed(subjects), terms(), consents=consents_of(agreeing, subjects), keys=KEYS, at=at)
    assert "see source in site.toml" in refused.value.hint


def test_no_held_out_patients_is_nothing_examined(listed, agreeing, terms, at):
    few = terms(shares=Shares(Decimal("0.01"), Decimal(0)))
    with pytest.raises(NothingExamined):
        admit(listed(range(1, 51)), few, consents=consents_of(agreeing, range(1, 51)), keys=KEYS, at=at)


def test_a_cohort_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        Cohort("study", "sha256:0", frozenset({1}), frozenset({2}), frozenset())


def test_a_patient_in_two_parts_is_refused():
    with pytest.raises(WrongInput):
        restored("study", "sha256:0", {"members": [1, 2], "held_out": [2]})


def test_the_text_of_a_cohort_and_a_tally_shows_no_patient(listed, agreeing, terms, at):
    subjects = range(777_001, 777_021)
    keys = dict.fromkeys(subjects, bytes(32))
    admission = admit(listed(subjects), terms(), consents=consents_of(agreeing, subjects), keys=keys, at=at)
    assert "777" not in f"{admission} {admission!r} {terms(unbounded=frozenset(subjects))!r}"
