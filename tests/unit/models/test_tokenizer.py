from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.data.columns import of_patients
from oathbound.models.tokenizer import Tokenizer

BORN = datetime(1950, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
FIRST = BORN + timedelta(days=round(45 * 365.25))


@pytest.fixture
def tokenizer():
    return Tokenizer(
        Vocabulary.parse(
            {
                "codes": ["GENDER//F", "GENDER//M", "DX//a", "LAB//x"],
                "edges": {"LAB//x": ["1.3", "2.67"]},
                "ages": ["40", "50"],
                "gaps": ["30", "365"],
            },
            what="vocabulary",
        )
    )


def record(*events):
    return Patient(7, (Event(None, "GENDER//F", None), Event(BORN, "MEDS_BIRTH", None), *events))


def said(tokenizer, patient, length=32):
    return [tokenizer.names[token] for token in tokenizer.encode(patient, length)]


def test_a_record_reads_as_static_age_gaps_events(tokenizer):
    patient = record(
        Event(FIRST, "DX//a", None),
        Event(FIRST, "DX//a", None),
        Event(FIRST + timedelta(days=30), "LAB//x", 2.0),
        Event(FIRST + timedelta(days=430), "DX//b", None),
    )
    assert said(tokenizer, patient) == [
        "BOS", "GENDER//F", "AGE//40..50", "DX//a", "DX//a", "GAP//30..365", "LAB//x//1.3..2.67",
        "GAP//>=365", "UNK", "EOS",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (-1e30, "<1.3"),
        (1.29, "<1.3"),
        (float(np.float32(1.3)), "1.3..2.67"),
        (2.67, ">=2.67"),
        (float("inf"), ">=2.67"),
        (float("nan"), "no value"),
        (None, "no value"),
    ],
)
def test_a_value_falls_into_the_bin_that_holds_its_lower_edge(tokenizer, value, name):
    assert said(tokenizer, record(Event(FIRST, "LAB//x", value)))[-2] == f"LAB//x//{name}"


@pytest.mark.parametrize(
    ("days", "name"), [(1 / 24, "<30"), (29.9, "<30"), (30, "30..365"), (365, ">=365"), (9999, ">=365")]
)
def test_a_later_event_has_its_gap_before_it(tokenizer, days, name):
    patient = record(Event(FIRST, "DX//a", None), Event(FIRST + timedelta(days=days), "DX//a", None))
    assert said(tokenizer, patient)[-3] == f"GAP//{name}"


@pytest.mark.parametrize(("years", "name"), [(0, "<40"), (39.9, "<40"), (40, "40..50"), (90, ">=50")])
def test_the_age_is_that_at_the_first_dated_event(tokenizer, years, name):
    patient = record(Event(BORN + timedelta(days=years * 365.25), "DX//a", None))
    assert said(tokenizer, patient)[2] == f"AGE//{name}"


def test_without_a_birth_or_a_dated_event_there_is_no_age(tokenizer):
    assert said(tokenizer, record()) == ["BOS", "GENDER//F", "EOS"]
    assert said(tokenizer, Patient(1, (Event(FIRST, "DX//a", None),))) == ["BOS", "DX//a", "EOS"]
    assert said(tokenizer, Patient(1, ())) == ["BOS", "EOS"]


def test_static_codes_stand_in_the_vocabularys_order(tokenizer):
    codes = ("unknown", "GENDER//M", "GENDER//F")
    patient = Patient(1, tuple(Event(None, code, None) for code in codes))
    assert said(tokenizer, patient) == ["BOS", "GENDER//F", "GENDER//M", "UNK", "EOS"]
    assert tokenizer.encode(patient, 9) == tokenizer.encode(replace(patient, events=patient.events[::-1]), 9)


def test_a_long_record_is_cut_and_has_no_end(tokenizer):
    patient = record(*(Event(FIRST + timedelta(days=n), "DX//a", None) for n in range(50)))
    whole = tokenizer.encode(patient, 1000)
    assert len(whole) == 3 + 50 + 49 + 1
    for length in (1, 2, 8, len(whole) - 1, len(whole)):
        assert tokenizer.encode(patient, length) == whole[:length]
    assert tokenizer.eos not in whole[:-1]


def test_all_patients_become_one_padded_matrix(tokenizer):
    patients = [record(), record(*(Event(FIRST, "DX//a", None) for _ in range(20)))]
    patients[1] = replace(patients[1], subject_id=9)
    subjects, encoded = tokenizer.encode_columns(of_patients(patients), 8)
    assert subjects.tolist() == [7, 9]
    assert encoded.shape == (2, 8)
    assert encoded.dtype == np.int64
    assert tuple(encoded[0]) == (*tokenizer.encode(patients[0], 8), *[tokenizer.pad] * 5)
    assert tuple(encoded[1]) == tokenizer.encode(patients[1], 8)
    assert tokenizer.encode_columns(of_patients([]), 8)[1].shape == (0, 8)


def test_a_value_beyond_single_precision_lies_beyond_every_edge(tokenizer):
    for value, name in ((1e300, ">=2.67"), (-1e300, "<1.3")):
        patient = record(Event(FIRST, "LAB//x", value))
        assert said(tokenizer, patient)[-2] == f"LAB//x//{name}"
        assert tuple(tokenizer.encode_columns(of_patients([patient]), 5)[1][0]) == tokenizer.encode(
            patient, 5
        )


def test_times_are_compared_to_the_microsecond(tokenizer):
    for late, name in ((-1, "30..365"), (0, ">=365")):
        then = FIRST + timedelta(days=365, microseconds=late)
        patient = record(Event(FIRST, "DX//a", None), Event(then, "DX//a", None))
        assert said(tokenizer, patient)[-3] == f"GAP//{name}"


def test_every_token_has_a_name_and_every_code_its_tokens(tokenizer):
    assert len(tokenizer.names) == tokenizer.size == 4 + 3 + 3 + 3 + 4
    assert len(set(tokenizer.names)) == tokenizer.size
    for code in tokenizer.vocabulary.codes:
        stated = {token for token, name in enumerate(tokenizer.names) if name.startswith(code)}
        assert tokenizer.tokens_of(code) == stated
    assert len(tokenizer.tokens_of("LAB//x")) == 4
    with pytest.raises(WrongInput, match="has no code MEDS_BIRTH"):
        tokenizer.tokens_of("MEDS_BIRTH")
