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
