"""Rows that are too many for memory lie on disk, and are the same rows."""

from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Recordings
from oathbound.data.cohort import restored
from oathbound.data.columns import of_patients
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.memory import InMemory
from oathbound.models.recordings import RecordingEncoder
from oathbound.workflow import records
from oathbound.workflow.members import Members
from oathbound.workflow.records import rows_of

SEEN = {"shape": [4, 5], "most": 3, "centre": "0", "scale": "64", "classes": ["a", "b"]}
MEMBERS = (3, 4, 8, 20)


def scans(subject):
    rng = np.random.default_rng(subject)
    frames = rng.integers(256, size=(subject % 5 + 1, 4, 5)).astype(np.uint8)
    return Patient(subject, tuple(Event(None, "ab"[subject % 2], None, frame) for frame in frames))


@pytest.fixture
def source():
    described = SourceDescription("scans", "sha256:" + "0" * 64, None, Dropped())
    return InMemory(of_patients(map(scans, (*MEMBERS, 30))), frozenset(), described)


@pytest.fixture
def encoder():
    return RecordingEncoder(Recordings.parse(SEEN, what="recordings"))


def cohort(members=MEMBERS):
    return restored("study", "sha256:0", {"members": members, "held_out": [30]})


def test_rows_on_disk_are_those_in_memory(source, encoder, tmp_path, monkeypatch):
    in_memory = rows_of(source, cohort(), MEMBERS, encoder, tmp_path)
    np.testing.assert_array_equal(in_memory, encoder.encode_all([scans(subject) for subject in MEMBERS]))
    monkeypatch.setattr(records, "MOST_IN_MEMORY", in_memory.nbytes - 1)
    on_disk = rows_of(source, cohort(), MEMBERS, encoder, tmp_path)
    assert not on_disk.flags.owndata
    assert not on_disk.flags.writeable
    np.testing.assert_array_equal(on_disk, in_memory)
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_a_sample_is_of_those_who_may_be_used(source, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_IN_MEMORY", 0)
    rows = rows_of(source, cohort(), MEMBERS, encoder, tmp_path)
    sample = Members(rows, np.array([1, 3])).sample(Decimal(1))
    np.testing.assert_array_equal(sample, encoder.encode_all([scans(4), scans(20)]))
    assert sample.flags.writeable
    assert not len(Members(rows, np.array([], dtype=np.int64)).sample(Decimal(1)))


def test_where_they_cannot_be_laid_out_it_says_so(source, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_IN_MEMORY", 0)
    with pytest.raises(Unavailable, match="cannot be laid out") as refused:
        rows_of(source, cohort(), MEMBERS, encoder, tmp_path / "missing")
    assert refused.value.hint


@pytest.mark.parametrize("most", [0, 2**30])
def test_somebody_without_events_is_missed(source, encoder, tmp_path, monkeypatch, most):
    class Forgetful:
        def describe(self):
            return source.describe()

        def patients(self, _cohort):
            yield scans(3)

    monkeypatch.setattr(records, "MOST_IN_MEMORY", most)
    with pytest.raises(WrongInput, match="no events of fewer than 10 admitted patients"):
        rows_of(Forgetful(), cohort(), MEMBERS, encoder, tmp_path)
