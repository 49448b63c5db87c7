import math
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data.cohort import restored
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
    assert source.describe().dropped == "about 25"


def test_the_number_column_is_optional(tmp_path):
    schema = {column: dtype for column, dtype in SCHEMA.items() if column != "numeric_value"}
    write(tmp_path, [(1, DAY, "A"), (2, DAY, "A")], schema=schema)
    assert [p.events[0].value for p in opened(tmp_path).patients(cohort(1, 2))] == [None, None]


def test_the_schema_is_of_columns_and_codes_and_not_of_values(tmp_path):
    digests = []
    for name, code, value in (("a", "A", 1.0), ("b", "A", 2.0), ("c", "B", 1.0)):
        write(tmp_path / name, [(1, DAY, code, value)])
        digests.append(opened(tmp_path / name).describe().schema)
    assert digests[0] == digests[1] != digests[2]


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


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((None, DAY, "SECRET", 1.0), "subject_id is null in fewer than 10 rows"),
        ((123456, DAY, None, 1.0), "code is null in fewer than 10 rows"),
    ],
)
def test_a_wrong_row_is_counted_and_not_shown(tmp_path, row, said):
    write(tmp_path, [(1, DAY, "A", 1.0), row])
    with pytest.raises(WrongInput, match=said) as caught:
        opened(tmp_path)
    assert "SECRET" not in caught.value.message
    assert "123456" not in caught.value.message


def test_a_time_that_python_cannot_hold_is_refused(tmp_path):
    path = write(tmp_path, [(1, DAY, "A", 1.0)])
    frame = pl.read_parquet(path).with_columns(time=pl.lit(2**62).cast(pl.Datetime("us")))
    frame.write_parquet(path)
    with pytest.raises(WrongInput, match="time is outside"):
        opened(tmp_path)


def test_a_subject_in_two_shards_is_refused(tmp_path):
    write(tmp_path, [(1, DAY, "A", 1.0)], "0.parquet")
    write(tmp_path, [(1, DAY, "B", 1.0)], "1.parquet")
    with pytest.raises(WrongInput, match="another shard"):
        opened(tmp_path)


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
