from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns, Event, Patient
from oathbound.core.shape import Recordings
from oathbound.data.columns import of_patients
from oathbound.models.recordings import RecordingEncoder, count_unlabelled

DAY = datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
PLAIN = {
    "shape": [1, 2],
    "most": 2,
    "centre": "10",
    "scale": "4",
    "classes": ["scan//ill", "scan//well"],
}


def recordings(**changes):
    return Recordings.parse({**PLAIN, **changes}, what="recordings")


def patient(*events, number=1):
    frames = [(code, np.array([values], dtype=np.float32)) for code, values in events]
    return Patient(
        number,
        tuple(
            Event(DAY + timedelta(days=day), code, None, frame) for day, (code, frame) in enumerate(frames)
        ),
    )


def test_a_row_is_a_recording_standardised_and_cut_and_its_class():
    encoder = RecordingEncoder(recordings())
    (rows,) = encoder.encode_all([patient(("scan//well", [10, 12]), ("scan//ill", [-30, 1e9]))])
    assert rows.dtype == np.float16
    assert rows.tolist() == [[0, 0.5, 1], [-8, 8, 0]]
    assert encoder.size == 4


def test_what_is_not_there_and_what_is_of_no_class_has_no_number():
    encoder = RecordingEncoder(recordings(most=3))
    (rows,) = encoder.encode_all([patient(("scan//ill", [10, 10]), ("scan//unclear", [14, 14]))])
    np.testing.assert_array_equal(rows, [[0, 0, 0], [1, 1, np.nan], [0, 0, np.nan]])


@pytest.mark.parametrize(
    ("most", "recorded", "taken"),
    [
        (1, 1, [0]),
        (1, 4, [2]),
        (2, 4, [1, 3]),
        (3, 3, [0, 1, 2]),
        (3, 4, [0, 2, 3]),
        (4, 9, [1, 3, 5, 7]),
        (2, 100, [25, 75]),
        (3, 2, [0, 1]),
    ],
)
def test_of_more_recordings_those_that_are_evenly_spaced_are_seen(most, recorded, taken):
    encoder = RecordingEncoder(recordings(most=most, centre="0", scale="16"))
    (rows,) = encoder.encode_all([patient(*(("scan//ill", [i, i]) for i in range(recorded)))])
    assert (rows[: len(taken), 0] * 16).tolist() == taken
    assert np.isnan(rows[len(taken) :, -1]).all()


def test_a_patient_without_recordings_among_others_has_an_empty_array():
    encoder = RecordingEncoder(recordings())
    rows = encoder.encode_all([Patient(1, ()), patient(("scan//ill", [10, 14]), number=2)])
    assert np.isnan(rows[0, :, -1]).all()
    assert not rows[0, :, :-1].any()
    assert rows[1, 0].tolist() == [0, 1, 0]
    assert encoder.encode_all(()).shape == (0, 2, 3)


def frames_of(kind):
    values = st.floats(width=32, allow_nan=False) if kind == "float32" else st.integers(0, 255)
    return st.lists(values, min_size=2, max_size=2)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@given(data=st.data())
def test_columns_are_encoded_as_the_definition_says(kind, data):
    codes = st.sampled_from(["scan//ill", "scan//well", "scan//unclear"])
    drawn = data.draw(
        st.lists(st.lists(st.tuples(codes, frames_of(kind)), min_size=1, max_size=7), min_size=1, max_size=4)
    )
    most = data.draw(st.integers(1, 5))
    people = [
        Patient(
            number,
            tuple(
                Event(DAY, code, None, np.array([values], dtype=kind).reshape(1, 2))
                for code, values in record
            ),
        )
        for number, record in enumerate(drawn)
    ]
    encoder = RecordingEncoder(recordings(most=most))
    subjects, rows = encoder.encode_columns(of_patients(people))
    assert subjects.tolist() == list(range(len(people)))
    for got, record in zip(rows, drawn, strict=True):
        n = len(record)
        seen = record if n <= most else [record[(2 * i + 1) * n // (2 * most)] for i in range(most)]
        for row, (code, values) in zip(got, seen, strict=False):
            standard = (np.array(values, dtype=kind).astype(np.float32) - np.float32(10)) / np.float32(4)
            np.testing.assert_array_equal(row[:-1], np.clip(standard, -8, 8).astype(np.float16))
            number = {"scan//ill": 0, "scan//well": 1}.get(code, np.nan)
            np.testing.assert_array_equal(row[-1], number)
        assert np.isnan(got[len(seen) :, -1]).all()
    np.testing.assert_array_equal(rows, encoder.encode_all(people))


def columns(frames):
    return Columns(
        subject=np.array([1]),
        time=np.array(["NaT"], dtype="datetime64[us]"),
        code=np.array([0], dtype=np.uint8),
        value=np.array([np.nan]),
        codes=("scan//ill",),
        frames=frames,
    )


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (None, "without recordings"),
        (np.zeros((1, 2, 1), np.uint8), "of 2 x 1 values, and the policy's of 1 x 2"),
        (np.full((1, 1, 2), np.nan, np.float32), "no number"),
    ],
)
def test_what_no_model_of_scans_can_see_is_refused(frames, said):
    encoder = RecordingEncoder(recordings())
    with pytest.raises(WrongInput, match=said) as refused:
        encoder.encode_columns(columns(frames))
    assert refused.value.hint
    event = Event(None, "scan//ill", None, None if frames is None else frames[0])
    with pytest.raises(WrongInput, match=said):
        encoder.encode_all([Patient(1, (event,))])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["a", "a"]}, "twice"),
        ({"classes": ["a"]}, "classes"),
        ({"shape": []}, "shape"),
        ({"shape": [1, 2, 3]}, "shape"),
        ({"shape": [0]}, "shape"),
        ({"most": 0}, "most"),
        ({"shape": [4096, 4096], "most": 2}, "16,777,216 numbers"),
        ({"scale": "0"}, "scale"),
    ],
)
def test_recordings_that_no_model_could_see_are_refused(changes, said):
    with pytest.raises(WrongInput, match=said):
        recordings(**changes)


def test_patients_without_a_listed_class_are_counted():
    people = [
        patient(("scan//ill", [0, 0]), ("scan//unclear", [0, 0]), number=1),
        patient(("scan//unclear", [0, 0]), number=2),
        patient(("scan//unclear", [0, 0]), ("scan//other", [0, 0]), number=3),
        patient(("scan//well", [0, 0]), number=4),
    ]
    pieces = [of_patients(people[:2]), of_patients(people[2:])]
    assert count_unlabelled(recordings(), pieces) == 2
    assert count_unlabelled(recordings(classes=["a", "b"]), pieces) == 4
    assert count_unlabelled(recordings(), []) == 0
