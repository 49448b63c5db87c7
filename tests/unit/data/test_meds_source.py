import math
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data import columns
from oathbound.data.cohort import restored
from oathbound.data.description import Dropped
from oathbound.data.kinds import open_source

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
DAY = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32}


def write(folder, rows, name="0.parquet", schema=SCHEMA):
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
    return path


def opened(folder):
    return open_source("meds", {"path": folder.name}, folder.parent)


def cohort(*subjects):
    return restored("study", "sha256:0", {"members": subjects[:1], "held_out": subjects[1:]})


def test_patients_come_whole_static_first_then_by_time_else_in_order(tmp_path):
    rows = [
        (2, DAY, "B", 1.0),
        (1, DAY.replace(day=3), "LATE", None),
        (1, DAY, "SECOND", 2.0),
        (1, DAY, "FIRST", 3.0),
        (1, None, "STATIC", None),
    ]
    write(tmp_path, rows)
    source = opened(tmp_path)
    assert source.subjects() == (1, 2)
    assert list(source.patients(cohort(1, 2))) == [
        Patient(
            1,
            (
                Event(None, "STATIC", None),
                Event(DAY, "SECOND", 2.0),
                Event(DAY, "FIRST", 3.0),
                Event(DAY.replace(day=3), "LATE", None),
            ),
        ),
        Patient(2, (Event(DAY, "B", 1.0),)),
    ]


def test_nobody_outside_the_cohort_is_read_out(tmp_path):
    write(tmp_path, [(n, DAY, "A", None) for n in (1, 2, 3)])
    write(tmp_path, [(n, DAY, "A", None) for n in (4, 5)], "deep/er/1.parquet")
    source = opened(tmp_path)
    assert [patient.subject_id for patient in source.patients(cohort(5, 2))] == [2, 5]
    with pytest.raises(WrongInput, match="fewer than 10"):
        source.patients(cohort(5, 6))


def test_numbers_that_are_not_finite_count_as_absent(tmp_path):
    values = [math.nan, math.inf, -math.inf, *[math.nan] * 20, 1.5, None]
    write(tmp_path, [(1, DAY, "A", value) for value in values] + [(2, DAY, "A", 0.0)])
    source = opened(tmp_path)
    patient = next(iter(source.patients(cohort(1, 2))))
    assert [event.value for event in patient.events] == [None] * 23 + [1.5, None]
    assert source.describe().dropped == Dropped(rows=0, patients=0, numbers=25)


def test_the_number_column_is_optional(tmp_path):
    schema = {column: dtype for column, dtype in SCHEMA.items() if column != "numeric_value"}
    write(tmp_path, [(1, DAY, "A"), (2, DAY, "A")], schema=schema)
    assert [p.events[0].value for p in opened(tmp_path).patients(cohort(1, 2))] == [None, None]


def test_the_schema_is_of_columns_and_tells_no_code(tmp_path):
    digests = []
    for name, code, value in (("a", "A", 1.0), ("b", "A", 2.0), ("c", "B", 1.0)):
        write(tmp_path / name, [(1, DAY, code, value)])
        digests.append(opened(tmp_path / name).describe().schema)
    schema = {column: dtype for column, dtype in SCHEMA.items() if column != "numeric_value"}
    write(tmp_path / "d", [(1, DAY, "A")], schema=schema)
    assert digests[0] == digests[1] == digests[2] != opened(tmp_path / "d").describe().schema


def test_duplicates_are_found_across_shards_and_in_any_order_of_events(tmp_path):
    one, other = (DAY, "A", 1.0), (DAY, "B", None)
    write(tmp_path, [(7, *one), (7, *other), (8, *one), (9, *one), (9, *other)], "a.parquet")
    write(tmp_path, [(3, *other), (3, *one), (4, *other)], "b.parquet")
    source = opened(tmp_path)
    assert source.duplicates(frozenset({3, 4, 7, 8, 9})) == {7, 9}
    assert source.duplicates(frozenset({4, 7, 8})) == frozenset()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject_id": pl.Int32}, "subject_id has type Int32"),
        ({"subject_id": pl.String}, "subject_id has type String"),
        ({"time": pl.Date}, "time has type Date"),
        ({"time": pl.Datetime("us", "UTC")}, "time has type"),
        ({"code": pl.Int64}, "code has type Int64"),
        ({"numeric_value": pl.String}, "numeric_value has type String"),
        ({"time": None}, "time is missing"),
        ({"code": None}, "code is missing"),
        ({"subject_id": None}, "subject_id is missing"),
    ],
)
def test_a_wrong_column_is_named(tmp_path, change, said):
    schema = {column: dtype for column, dtype in (SCHEMA | change).items() if dtype is not None}
    write(tmp_path, [], schema=schema)
    with pytest.raises(WrongInput, match=said) as caught:
        opened(tmp_path)
    assert caught.value.message.startswith("data/0.parquet:")


def test_a_row_without_a_subject_is_dropped_and_counted(tmp_path):
    nobody = [(None, DAY, code, 1.0) for code in ("A", None, "NOBODY'S") * 7]
    write(tmp_path, [(1, DAY, "A", 1.0), *nobody, (2, DAY, "A", 1.0)])
    source = opened(tmp_path)
    assert source.subjects() == (1, 2)
    assert source.unreadable() == frozenset()
    assert [len(patient.events) for patient in source.patients(cohort(1, 2))] == [1, 1]
    assert source.describe().dropped == Dropped(rows=20)


def test_a_patient_with_a_row_that_cannot_be_read_is_quarantined_whole(tmp_path):
    write(tmp_path, [(1, DAY, "A", 1.0), (2, DAY, "A", 1.0), (2, DAY, None, 1.0), (3, DAY, "A", 1.0)])
    source = opened(tmp_path)
    assert source.subjects() == (1, 2, 3)
    assert source.unreadable() == {2}
    assert source.describe().dropped == Dropped(patients=None)
    assert [patient.subject_id for patient in source.patients(cohort(1, 3))] == [1, 3]
    with pytest.raises(WrongInput, match="fewer than 10 admitted patients are gone, or can no longer"):
        source.patients(cohort(1, 2))


@pytest.mark.parametrize(
    ("unit", "per_second", "first", "last"),
    [
        ("us", 10**6, -62_135_596_800, 253_402_300_799),
        ("ms", 10**3, -62_135_596_800, 253_402_300_799),
        ("ns", 10**9, -9_223_372_036, 9_223_372_036),
    ],
)
def test_a_time_that_python_cannot_hold_is_quarantined(tmp_path, unit, per_second, first, last):
    beyond = [] if unit == "ns" else [first - 1, last + 1]
    moments = [moment * per_second for moment in (first, last, *beyond)]
    schema = SCHEMA | {"time": pl.Int64}
    path = write(tmp_path, [(n, moment, "A", 1.0) for n, moment in enumerate(moments)], schema=schema)
    pl.read_parquet(path).with_columns(pl.col("time").cast(pl.Datetime(unit))).write_parquet(path)
    source = opened(tmp_path)
    assert source.unreadable() == set(range(2, len(moments)))
    years = [patient.events[0].time.year for patient in source.patients(cohort(0, 1))]
    assert years == ([1677, 2262] if unit == "ns" else [1, 9999])


def test_a_subject_in_two_shards_is_quarantined(tmp_path):
    write(tmp_path, [(1, DAY, "A", 1.0), (2, DAY, "A", 1.0)], "0.parquet")
    write(tmp_path, [(1, DAY, "B", 1.0), (3, DAY, "B", 1.0)], "1.parquet")
    source = opened(tmp_path)
    assert source.subjects() == (1, 2, 3)
    assert source.unreadable() == {1}
    assert source.describe().dropped == Dropped(patients=None)


def test_records_that_change_while_they_are_open_are_refused(tmp_path):
    for code in ("NEW", None):
        write(tmp_path, [(1, DAY, "A", 1.0), (2, DAY, "A", 1.0)])
        source = opened(tmp_path)
        write(tmp_path, [(1, DAY, "A", 1.0), (2, DAY, code, 1.0)])
        with pytest.raises(WrongInput, match="changed while they were read"):
            list(source.patients(cohort(1, 2)))


def test_columns_hold_the_same_and_end_with_a_patient(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "MOST_EVENTS", 4)
    write(tmp_path, [(n, DAY, f"CODE{n % 5}", float(n)) for n in range(9) for _ in range(1 + n % 3)])
    write(tmp_path, [(20, DAY, "ELSE", None)] * 7, "1.parquet")
    source = opened(tmp_path)
    everybody = cohort(*source.subjects())
    some = list(source.columns(everybody))
    assert [len(piece.subject) for piece in some] == [6, 6, 6, 7]
    assert len({piece.codes for piece in some}) == 1
    assert [p for piece in some for p in columns.patients_of(piece)] == list(source.patients(everybody))


class WithoutColumns:
    """A source that knows patients alone."""

    def __init__(self, source):
        self.patients = source.patients


def test_any_source_can_be_read_as_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_PATIENTS", 2)
    write(tmp_path, [(n, DAY, "A", float(n)) for n in range(5)])
    source = opened(tmp_path)
    everybody = cohort(*source.subjects())
    some = list(columns.columns_of(WithoutColumns(source), everybody))
    assert [piece.subject.tolist() for piece in some] == [[0, 1], [2, 3], [4]]
    assert [p for piece in some for p in columns.patients_of(piece)] == list(source.patients(everybody))
    [whole] = columns.columns_of(source, everybody)
    assert whole.value.tolist() == [0, 1, 2, 3, 4]
    assert whole.value.dtype == np.float32  # its own columns, as they are stored


def test_a_divided_source_gives_the_columns_of_its_own_part(tmp_path):
    write(tmp_path, [(n, DAY, "A" if n % 7 else None, None) for n in range(1, 60)])
    parts = [
        open_source("meds", {"path": tmp_path.name, "parts": "1,1", "part": part}, tmp_path.parent)
        for part in "12"
    ]
    mine, theirs = (frozenset(part.subjects()) for part in parts)
    assert mine | theirs == set(range(1, 60))
    assert parts[0].unreadable() == {n for n in mine if n % 7 == 0}
    readable = sorted(mine - parts[0].unreadable())
    found = np.concatenate([piece.subject for piece in parts[0].columns(cohort(*readable))])
    assert found.tolist() == readable
    with pytest.raises(WrongInput, match="another hospital"):
        parts[0].columns(cohort(*(theirs - parts[1].unreadable())))


def test_missing_data_is_refused(tmp_path):
    with pytest.raises(WrongInput, match="no data"):
        opened(tmp_path / "nowhere")
    (tmp_path / "data").mkdir()
    with pytest.raises(WrongInput, match="no data"):
        opened(tmp_path)
    write(tmp_path, [])
    with pytest.raises(NothingExamined):
        opened(tmp_path)


def test_a_damaged_file_is_refused(tmp_path, capfd):
    path = write(tmp_path, [(n, DAY, f"CODE{n}", float(n)) for n in range(1, 200)])
    data = path.read_bytes()
    for damaged in (
        b"",
        b"PAR1",
        b"not parquet" * 50,
        data[:-1],
        data[: len(data) // 2],
        data[:4] + data[-8:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(WrongInput, match=r"data/0\.parquet"):
            opened(tmp_path)
    capfd.readouterr()


def test_a_shard_that_vanishes_is_refused(tmp_path):
    path = write(tmp_path, [(1, DAY, "A", 1.0), (2, DAY, "A", 1.0)])
    source = opened(tmp_path)
    path.unlink()
    with pytest.raises(WrongInput, match=r"data/0\.parquet"):
        list(source.patients(cohort(1, 2)))


@pytest.mark.parametrize("options", [{}, {"path": "x", "more": "y"}, {"folder": "x"}])
def test_other_options_are_refused(tmp_path, options):
    with pytest.raises(WrongInput):
        open_source("meds", options, tmp_path)


def test_another_kind_is_refused(tmp_path):
    with pytest.raises(WrongInput, match="unknown kind"):
        open_source("csv", {}, tmp_path)


@pytest.mark.skipif(
    not (SHARED / "mimic_iv_demo").is_dir(), reason="the folder shared/ is not beside the repository"
)
def test_a_real_hospitals_records_are_read():
    source = open_source("meds", {"path": "mimic_iv_demo"}, SHARED)
    subjects = source.subjects()
    assert len(subjects) == 100
    patients = list(source.patients(cohort(*subjects[::10])))
    assert tuple(sorted(patient.subject_id for patient in patients)) == subjects[::10]
    assert all(patient.events for patient in patients)
