"""Patients on disk are those that were put there."""

import datetime as dt

import numpy as np
import pytest

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data.columns import of_patients
from oathbound.data.shelf import Shelf

BIRTH = dt.datetime(1950, 3, 4, 5, 6, 7, 8)  # noqa: DTZ001 - MEDS times have no zone


def patient(subject, *codes):
    static = Event(None, "SEX//F", None)
    return Patient(
        subject,
        (static, *(Event(BIRTH.replace(year=1950 + i), code, i or None) for i, code in enumerate(codes))),
    )


PEOPLE = [patient(-5, "A", "B"), patient(3, "B"), patient(4), patient(90, "C", "A", "A"), patient(1000, "D")]


@pytest.fixture
def shelf(tmp_path):
    """Two pieces whose codes have different places, the later ids first."""
    return Shelf.of([of_patients(PEOPLE[3:]), of_patients(PEOPLE[:3])], tmp_path)


def test_they_come_down_as_they_were_by_id(shelf, tmp_path):
    assert list(shelf) == PEOPLE
    assert len(shelf) == 5
    assert [shelf[i] for i in range(-5, 5)] == PEOPLE * 2
    assert shelf[1:4] == tuple(PEOPLE[1:4])
    assert shelf[7:] == ()
    assert not list(tmp_path.iterdir()), "the file has no name"
    with pytest.raises(IndexError):
        shelf[5]


def test_recordings_come_down_with_their_events(tmp_path):
    rng = np.random.default_rng(1)
    scans = [
        Patient(
            subject,
            tuple(Event(None, code, None, rng.integers(256, size=(3, 4)).astype(np.uint8)) for code in codes),
        )
        for subject, codes in ((5, "ab"), (2, "b"), (9, "caa"))
    ]
    shelf = Shelf.of([of_patients(scans[2:]), of_patients(scans[:1]), of_patients(scans[1:2])], tmp_path)
    assert list(shelf) == sorted(scans, key=lambda one: one.subject_id)
    for got, put in zip(shelf, sorted(scans, key=lambda one: one.subject_id), strict=True):
        for here, there in zip(got.events, put.events, strict=True):
            assert here.frame.dtype == np.uint8
            assert np.array_equal(here.frame, there.frame)


@pytest.mark.parametrize("other", [np.zeros((4, 3), np.uint8), np.zeros((3, 4), np.float32), None])
def test_recordings_of_another_kind_are_refused(other, tmp_path):
    first, second = (
        of_patients([Patient(subject, (Event(None, "a", None, frame),))])
        for subject, frame in ((1, np.zeros((3, 4), np.uint8)), (2, other))
    )
    with pytest.raises(WrongInput, match="not all of one shape"):
        Shelf.of([first, second], tmp_path)


def test_parts_share_the_file(shelf):
    part = shelf.those([90, -5, 7])
    assert list(part) == [PEOPLE[0], PEOPLE[3]]
    assert list(part.part(np.array([False, True]))) == [PEOPLE[3]]
    assert list(shelf.those([])) == []


def test_an_empty_shelf_has_nobody(tmp_path):
    assert list(Shelf.of([], tmp_path)) == []


def test_a_patient_in_two_pieces_is_refused(tmp_path):
    with pytest.raises(WrongInput, match="one subject_id"):
        Shelf.of([of_patients(PEOPLE), of_patients(PEOPLE[:1])], tmp_path)


def test_where_nothing_can_be_written_it_says_so(tmp_path):
    with pytest.raises(Unavailable, match="cannot be laid out"):
        Shelf.of([of_patients(PEOPLE)], tmp_path / "missing")
