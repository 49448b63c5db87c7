"""`encode_columns` is `encode`, for every record."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.data.columns import of_patients, patients_of
from oathbound.models.tokenizer import BIRTH, Tokenizer

EDGES = ["-0.1", "0", "1.3", "2.67", "1000000.1"]
AGES, GAPS = ["0.5", "40", "41.3"], ["0.00000000003", "0.3", "30", "365"]
START = datetime(1950, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
YEAR = timedelta(days=365.25)


def tokenizer(*codes):
    edges = {"LAB//x": EDGES, "LAB//y": ["0.1"], "LAB//z": []}
    data = {"codes": ["DX//a", *edges, "SEX//F", *codes], "edges": edges, "ages": AGES, "gaps": GAPS}
    return Tokenizer(Vocabulary.parse(data, what="vocabulary"))


VOCABULARIES = [tokenizer(), tokenizer(BIRTH)]

near = st.sampled_from([-1, 0, 0, 1])
spans = st.one_of(
    st.sampled_from([float(gap) for gap in GAPS]).map(lambda gap: timedelta(days=gap)),
    st.sampled_from([float(age) for age in AGES]).map(lambda age: age * YEAR),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30_000)),
)
times = st.one_of(
    st.none(),
    st.just(START),
    st.sampled_from([datetime.min, datetime.max]),  # noqa: DTZ901 - as far apart as times can be
    st.builds(lambda span, step: START + span + timedelta(microseconds=step), spans, near),
)


def beside(edge, step):
    """Return a number on an edge, or next to it, in single or double precision."""
    single = np.float32(edge)
    return [
        float(np.nextafter(single, np.float32(-np.inf))),
        float(single),
        float(edge),
        float(np.nextafter(single, np.float32(np.inf))),
    ][step]


values = st.one_of(
    st.none(),
    st.builds(beside, st.sampled_from(EDGES), st.integers(0, 3)),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1e300, -1e300]),
)
codes = st.sampled_from(
    ["DX//a", "LAB//x", "LAB//x", "LAB//y", "LAB//z", "SEX//F", BIRTH, "LAB//unknown", ""]
)
events = st.lists(st.builds(Event, times, codes, values), min_size=1, max_size=12)
records = st.dictionaries(st.integers(-(2**63), 2**63 - 1), events, max_size=5).map(
    lambda drawn: [Patient(subject, tuple(drawn[subject])) for subject in sorted(drawn)]
)

TWICE_BORN = Patient(
    1,
    (
        Event(START + YEAR, BIRTH, None),
        Event(START, BIRTH, None),
        Event(START + 2 * YEAR, "LAB//x", 1.3),
    ),
)


@pytest.mark.parametrize("tokenizer", VOCABULARIES, ids=["birth unlisted", "birth listed"])
@given(patients=records, length=st.integers(0, 20))
@example(patients=[TWICE_BORN], length=20)
def test_columns_encode_as_patients_do(tokenizer, patients, length):
    subjects, tokens = tokenizer.encode_columns(of_patients(patients), length)
    assert subjects.tolist() == [patient.subject_id for patient in patients]
    assert tokens.shape == (len(patients), length)
    for patient, row in zip(patients, tokens.tolist(), strict=True):
        encoded = tokenizer.encode(patient, length)
        assert row == [*encoded, *[tokenizer.pad] * (length - len(encoded))]


@given(patients=records)
def test_columns_give_back_the_patients(patients):
    assert list(patients_of(of_patients(patients))) == patients
