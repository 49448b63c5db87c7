from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Features
from oathbound.data.columns import of_patients
from oathbound.models.features import FeatureEncoder, count_missing

DAY = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
PLAIN = {
    "present": ["sex//F", "smokes"],
    "numbers": [
        {"code": "chol", "centre": "200", "scale": "50", "missing": ["0", "-1"]},
        {"code": "age", "centre": "50", "scale": "10", "missing": []},
    ],
    "label": {"code": "ill", "at_least": "1"},
}


def features(**changes):
    return Features.parse({**PLAIN, **changes}, what="features")


def patient(*events, number=1):
    return Patient(number, tuple(Event(DAY, code, value) for code, value in events))


@pytest.fixture
def encoder():
    return FeatureEncoder(features())


def test_a_row_is_flags_numbers_with_flags_and_the_label(encoder):
    row = encoder.encode(patient(("sex//F", None), ("chol", 250.0), ("age", 45.0), ("ill", 2.0)))
    assert row.dtype == np.float32
    assert row.tolist() == [1, 0, 1, 1, -0.5, 1, 1]
    assert encoder.size == 6


@pytest.mark.parametrize(
    ("value", "standard"), [(0.0, (0, 0)), (-1.0, (0, 0)), (1.0, (-3.98, 1)), (1e9, (4, 1))]
)
def test_what_is_coded_as_missing_is_absent_and_what_is_extreme_is_cut(encoder, value, standard):
    row = encoder.encode(patient(("chol", value)))
    assert row[2:4].tolist() == pytest.approx(standard)


def test_the_last_value_that_was_measured_counts(encoder):
    values = (("chol", 150.0), ("chol", 250.0), ("chol", 0.0), ("chol", None), ("chol", float("nan")))
    assert encoder.encode(patient(*values))[2:4].tolist() == [1, 1]


@pytest.mark.parametrize(("events", "label"), [((), None), ((("ill", 0.0),), 0), ((("ill", 1.0),), 1)])
def test_a_label_of_a_value_is_unknown_where_there_is_none(encoder, events, label):
    row = encoder.encode(patient(("age", 50.0), *events))
    assert np.isnan(row[-1]) if label is None else row[-1] == label


def test_a_label_of_a_code_is_whether_it_occurs():
    encoder = FeatureEncoder(features(label={"code": "ill"}))
    assert encoder.encode(patient(("age", 50.0)))[-1] == 0
    assert encoder.encode(patient(("ill", None)))[-1] == 1


events = st.tuples(
    st.sampled_from(["sex//F", "smokes", "chol", "age", "ill", "other"]),
    st.one_of(st.none(), st.sampled_from([0.0, -1.0, 1.0, 0.1, 250.0, 1e38]), st.floats(width=32)),
)


@given(st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=5), st.booleans())
def test_columns_are_encoded_as_patients_are(records, occurs):
    encoder = FeatureEncoder(features(**({"label": {"code": "ill"}} if occurs else {})))
    # a source gives no infinite numbers
    finite = [[(c, v if v is not None and np.isfinite(v) else None) for c, v in record] for record in records]
    patients = [patient(*record, number=number) for number, record in enumerate(finite)]
    subjects, rows = encoder.encode_columns(of_patients(patients))
    assert subjects.tolist() == [each.subject_id for each in patients]
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, encoder.encode_all(patients))


def test_what_counts_as_missing_is_counted_by_code_and_value():
    everybody = [
        patient(("chol", 0.0), ("age", 0.0), ("ill", 1.0), number=1),
        patient(("chol", -1.0), ("chol", 0.0), number=2),
        patient(("chol", 180.0), ("chol", None), ("ill", 0.0), number=3),
    ]
    counts = count_missing(features(), [of_patients(everybody)])
    assert {(code, None if v is None else str(v)): n for (code, v), n in counts.items()} == {
        ("chol", "0"): 2,
        ("chol", "-1"): 1,
        ("ill", None): 1,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"label": {"code": "chol"}},
        {"present": ["smokes", "chol"]},
        {"present": [], "numbers": []},
        {"numbers": [{"code": "a", "centre": "0", "scale": "0", "missing": []}]},
    ],
)
def test_features_that_contradict_themselves_are_refused(changes):
    with pytest.raises(WrongInput):
        features(**changes)
