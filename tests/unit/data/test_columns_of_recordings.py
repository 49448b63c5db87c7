"""Recordings stay with their events: between patients and columns, and in pieces of bounded size."""

import numpy as np
import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data import columns as of_columns
from oathbound.data.columns import of_patients, of_subjects, patients_of, pieces


def scans(subject, count):
    frames = np.random.default_rng(subject).integers(256, size=(count, 2, 3)).astype(np.uint8)
    return Patient(subject, tuple(Event(None, "scan", None, frame) for frame in frames))


PEOPLE = [scans(1, 3), scans(2, 1), scans(5, 4)]


def same(one, other):
    return one == other and all(
        np.array_equal(here.frame, there.frame)
        for a, b in zip(one, other, strict=True)
        for here, there in zip(a.events, b.events, strict=True)
    )


def test_columns_give_back_the_recordings():
    columns = of_patients(PEOPLE)
    assert columns.frames.shape == (8, 2, 3)
    assert same(list(patients_of(columns)), PEOPLE)
    assert same(list(patients_of(of_subjects(columns, frozenset({1, 5})))), [PEOPLE[0], PEOPLE[2]])
    assert of_patients([Patient(1, (Event(None, "a", None),))]).frames is None


def test_a_piece_ends_with_whoever_fills_it(monkeypatch):
    monkeypatch.setattr(of_columns, "MOST_FRAME_BYTES", 4 * 6)
    some = list(pieces(of_patients(PEOPLE)))
    assert [np.unique(piece.subject).tolist() for piece in some] == [[1, 2], [5]]
    assert same([one for piece in some for one in patients_of(piece)], PEOPLE)


@pytest.mark.parametrize("frame", [None, np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.float32)])
def test_a_record_that_mixes_them_is_refused(frame):
    mixed = Patient(7, (*scans(7, 1).events, Event(None, "scan", None, frame)))
    with pytest.raises(WrongInput, match="of one shape and type, or none"):
        of_patients([mixed])
