"""Copies are found exactly: against a plain comparison, and where all hashes are equal."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oathbound.core.patient import Event, Patient
from oathbound.data import columns
from oathbound.data.columns import copies, of_patients, of_subjects, pieces

DAY = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone

events = st.builds(
    Event,
    st.sampled_from([None, DAY, DAY + timedelta(microseconds=1)]),
    st.sampled_from("AB"),
    st.sampled_from([None, 0.0, -0.0, 1.0]),
)
records = st.lists(st.lists(events, min_size=1, max_size=3), max_size=8)


def key(event):
    return (event.time is not None, event.time or DAY, event.code, event.value is not None, event.value or 0)


def expected(patients):
    kept, repeated = [], set()
    for patient in patients:
        record = sorted(patient.events, key=key)
        if record in kept:
            repeated.add(patient.subject_id)
        kept.append(record)
    return repeated


def found(patients):
    whole = of_patients(patients)
    return copies(
        lambda subjects: pieces(of_subjects(whole, subjects)),
        frozenset(patient.subject_id for patient in patients),
    )


@given(records)
def test_copies_are_those_of_a_plain_comparison(drawn):
    patients = [Patient(3 * n - 7, tuple(record)) for n, record in enumerate(drawn)]
    assert found(patients) == expected(patients)


framed = st.lists(
    st.lists(st.tuples(events, st.sampled_from([0.0, -0.0, 1.0])), min_size=1, max_size=3), max_size=8
)


@given(framed)
def test_events_with_frames_are_equal_where_their_frames_are(drawn):
    """A frame's number counts as one more value of the event: both zeros are one."""
    patients = [
        Patient(3 * n - 7, tuple(event for event, _ in sorted(record, key=lambda each: key(each[0])[:1])))
        for n, record in enumerate(drawn)
    ]
    frames = [shade for record in drawn for _, shade in sorted(record, key=lambda each: key(each[0])[:1])]
    whole = replace(of_patients(patients), frames=np.array(frames, np.float32)[:, None, None])
    kept, repeated = [], set()
    for patient, record in zip(patients, drawn, strict=True):
        shown = sorted((*key(event), shade) for event, shade in record)
        if shown in kept:
            repeated.add(patient.subject_id)
        kept.append(shown)
    found = copies(
        lambda subjects: pieces(of_subjects(whole, subjects)), frozenset(p.subject_id for p in patients)
    )
    assert found == repeated


def test_equal_hashes_alone_make_no_copy(monkeypatch):
    patients = [Patient(n, (Event(DAY, code, None),)) for n, code in enumerate("ABCAD")]
    monkeypatch.setattr(columns, "_sums", lambda piece: np.zeros(len(np.unique(piece.subject)), np.uint64))
    assert found(patients) == {3}
