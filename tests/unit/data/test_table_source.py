import gzip
from datetime import date, datetime

import polars as pl
import pytest

from oathbound.core.errors import NothingExamined, OathboundError, WrongInput
from oathbound.core.patient import Event
from oathbound.data import table
from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source

VISITS = """\
patient,visit,on,age,diag,smoker,weight
7,2,2001-03-01,51,V57,true,80.5
7,1,2001-01-01,50,250.83,false,?
9,5,2001-02-01,60,,true,
"""


def opened(folder, text=VISITS, /, **options):
    (folder / "visits.csv").write_text(text)
    return open_source("table", {"path": "visits.csv", **options}, folder)


def records(source):
    first, *others = sorted(set(source.subjects()) - source.unreadable())
    everybody = restored("study", "sha256:0", {"members": others, "held_out": [first]})
    return {patient.subject_id: patient.events for patient in source.patients(everybody)}


def on(*day):
    return datetime(*day)  # noqa: DTZ001 - MEDS times have no zone


@pytest.mark.parametrize(("take", "ages"), [("first", [50]), ("last", [51]), ("all", [50, 51])])
def test_the_rows_of_a_patient_that_are_taken(tmp_path, take, ages):
    source = opened(tmp_path, subject="patient", order="visit", take=take)
    assert [event.value for event in records(source)[7] if event.code == "age"] == ages
    assert source.describe().kind == "table"


def test_cells_become_events_and_empty_ones_do_not(tmp_path):
    source = opened(tmp_path, subject="patient", order="visit", take="all", time="on")
    assert records(source) == {
        7: (
            Event(on(2001, 1, 1), "age", 50.0),
            Event(on(2001, 1, 1), "diag//250.83", None),
            Event(on(2001, 1, 1), "smoker//false", None),
            Event(on(2001, 3, 1), "age", 51.0),
            Event(on(2001, 3, 1), "diag//V57", None),
            Event(on(2001, 3, 1), "smoker//true", None),
            Event(on(2001, 3, 1), "weight", 80.5),
        ),
        9: (Event(on(2001, 2, 1), "age", 60.0), Event(on(2001, 2, 1), "smoker//true", None)),
    }


def test_without_a_subject_every_row_is_a_patient(tmp_path):
    source = opened(tmp_path, "age,sex\n50,F\n,M\n,\n")
    assert records(source) == {
        1: (Event(None, "age", 50.0), Event(None, "sex//F", None)),
        2: (Event(None, "sex//M", None),),
    }


def test_a_parquet_table_reads_as_the_csv_table_of_the_same_rows(tmp_path):
    source = opened(tmp_path, subject="patient", order="visit", take="all", time="on")
    rows = pl.read_csv(tmp_path / "visits.csv", null_values=["?", ""], try_parse_dates=True)
    rows.with_columns(pl.col("diag").cast(pl.Categorical)).write_parquet(tmp_path / "visits.parquet")
    options = {"path": "visits.parquet", "subject": "patient", "order": "visit", "take": "all", "time": "on"}
    other = open_source("table", options, tmp_path)
    assert records(other) == records(source)


def test_a_column_named_as_text_is_text_whatever_it_holds(tmp_path):
    numbers = opened(tmp_path, "diag\n250\n401\n")
    assert records(numbers)[1] == (Event(None, "diag", 250.0),)
    words = opened(tmp_path, "diag\n250\n401\n", text="diag")
    assert records(words)[1] == (Event(None, "diag//250", None),)
    assert numbers.describe().schema != words.describe().schema


def test_the_schema_does_not_tell_whether_somebody_has_a_rare_code(tmp_path):
    many, other = (opened(tmp_path, f"id,dx\n1,flu\n2,{rare}\n", subject="id") for rare in ("flu", "HIV"))
    assert many.describe().schema == other.describe().schema
    digests = []
    for words in (["flu"], ["flu", "HIV"]):
        pl.DataFrame({"dx": ["flu"]}, schema={"dx": pl.Enum(words)}).write_parquet(tmp_path / "t.parquet")
        digests.append(open_source("table", {"path": "t.parquet"}, tmp_path).describe().schema)
    assert digests[0] == digests[1]


def test_equal_rows_of_two_patients_are_duplicates(tmp_path):
    source = opened(tmp_path, "id,age,sex\n3,50,F\n1,50,F\n2,50,M\n", subject="id")
    assert source.duplicates(frozenset({1, 2, 3})) == {3}
    assert source.duplicates(frozenset({2, 3})) == frozenset()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("id,n,age\n1,1,50\n1,1,51\n2,1,60\n3,,61\n", {"order": "n", "take": "first"}),
        ("id,n,age\n1,1,50\n1,,51\n2,1,60\n3,1,61\n", {"order": "n", "take": "all"}),
        ("id,on,age\n1,2001-13-01,50\n2,2001-01-01,60\n3,2001-01-01 10:00:00,60\n", {"time": "on"}),
        ("id,on,age\n1,,50\n2,2001-01-01,60\n3,2001-01-02,60\n", {"time": "on"}),
    ],
)
def test_a_patient_whose_rows_cannot_be_placed_is_quarantined_whole(tmp_path, text, options):
    source = opened(tmp_path, text, subject="id", **options)
    assert source.unreadable() == {1}
    assert source.subjects() == (1, 2, 3)
    assert set(records(source)) == {2, 3}
    assert source.describe().dropped.patients is None  # fewer than 10 are not counted


def test_rows_of_nobody_and_numbers_that_are_none_are_dropped_and_counted(tmp_path):
    frame = pl.DataFrame({"id": [1, 2, None], "age": [50.0, float("inf"), 60.0], "x": [1.0, 2.0, 3.0]})
    frame.write_parquet(tmp_path / "t.parquet")
    source = open_source("table", {"path": "t.parquet", "subject": "id"}, tmp_path)
    assert source.subjects() == (1, 2)
    assert records(source)[2] == (Event(None, "x", 2.0),)
    dropped = source.describe().dropped
    assert (dropped.rows, dropped.numbers, dropped.patients) == (None, None, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "several rows"),
        ({"take": "first"}, "needs order"),
        ({"take": "some", "order": "visit"}, "take is none of"),
        ({"order": "number"}, "no column number"),
        ({"text": "diag, number"}, "no column number"),
        ({"subject": "diag"}, "not of whole numbers"),
        ({"time": "age", "order": "visit"}, "age is not of dates"),
        ({"sheet": "1"}, "knows no option sheet"),
        ({"path": ""}, "needs a path"),
        ({"path": "other.csv"}, "not there"),
        ({"path": "visits.xlsx"}, r"\.csv or a \.parquet"),
    ],
)
def test_wrong_options_are_named_with_a_hint(tmp_path, options, said):
    with pytest.raises(WrongInput, match=said) as refused:
        opened(tmp_path, **{"subject": "patient", **options})
    assert not {"51", "80.5", "V57"} & set(str(refused.value).split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": "patient", "take": "all"}, "column patient cannot be both subject and order"),
        ({"time": "patient"}, "column patient cannot be both subject and time"),
        ({"order": "on", "time": "on"}, "column on cannot be both order and time"),
    ],
)
def test_a_column_has_one_part(tmp_path, options, said):
    with pytest.raises(WrongInput, match=rf"^visits\.csv: {said}"):
        opened(tmp_path, **{"subject": "patient", **options})


def parquet(folder, columns, **options):
    pl.DataFrame(columns).write_parquet(folder / "t.parquet")
    return open_source("table", {"path": "t.parquet", "subject": "id", **options}, folder)


def test_a_table_without_a_column_to_learn_from_is_named(tmp_path):
    with pytest.raises(WrongInput, match=r"t\.parquet has no column beside id"):
        parquet(tmp_path, {"id": [1, 2]})
    with pytest.raises(WrongInput, match=r"t\.parquet has no column beside id, on"):
        parquet(tmp_path, {"id": [1], "on": ["2001-01-01"]}, time="on")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [([[1], [2]], "List"), ([b"\xff", b"\xfe"], "Binary"), ([{"x": 1}, {"x": 2}], "Struct")],
)
def test_what_cannot_be_text_is_named(tmp_path, cells, kind):
    with pytest.raises(WrongInput, match=rf"t\.parquet: column a has type {kind}$"):
        parquet(tmp_path, {"id": [1, 2], "a": cells}, text="a")


def test_an_id_that_is_too_large_is_refused_and_not_told(tmp_path):
    with pytest.raises(WrongInput, match=r"t\.parquet: column id has a number beyond") as refused:
        parquet(tmp_path, {"id": pl.Series([2**63 + 5, 1], dtype=pl.UInt64), "a": [1, 2]})
    assert str(2**63 + 5) not in refused.value.message + refused.value.hint
    assert refused.value.__cause__ is None
    largest = parquet(tmp_path, {"id": pl.Series([2**63 - 1, None], dtype=pl.UInt64), "a": [1, 2]})
    assert largest.subjects() == (2**63 - 1,)


@pytest.mark.parametrize(
    ("unit", "wrong"), [("ms", 2**62), ("ms", -(2**62)), ("us", 2**62), ("us", -(2**62)), ("day", 2**31 - 1)]
)
def test_a_date_out_of_range_takes_out_its_patient(tmp_path, unit, wrong):
    of = (pl.Int32, pl.Date) if unit == "day" else (pl.Int64, pl.Datetime(unit))
    when = pl.Series([0, wrong], dtype=of[0]).cast(of[1])
    source = parquet(tmp_path, {"id": [1, 2], "on": when, "a": [1, 2]}, time="on")
    assert source.unreadable() == {2}
    assert source.subjects() == (1, 2)


@pytest.mark.parametrize("unit", ["ms", "us", "ns", "day"])
def test_dates_of_the_years_1_to_9999_are_read(tmp_path, unit):
    days = [date(1, 1, 1), date(9999, 12, 31)] if unit != "ns" else [date(1700, 1, 1), date(2262, 1, 1)]
    when = pl.Series(days) if unit == "day" else pl.Series(days).cast(pl.Datetime(unit))
    source = parquet(tmp_path, {"id": [1, 2], "on": when, "a": [1, 2]}, time="on")
    assert [events[0].time.date() for events in records(source).values()] == days


def test_order_needs_a_subject(tmp_path):
    with pytest.raises(WrongInput, match="need subject"):
        opened(tmp_path, order="visit")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", b"PAR1 this is none PAR1"),
        ("t.parquet", b""),
        ("t.csv", b""),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n"),
        ("t.csv", b"a,b\n1,\xff\xfe\n"),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0)),
        ("t.csv", b"a,b\n,\n"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OathboundError) as refused:
        open_source("table", {"path": name}, tmp_path)
    assert refused.value.hint
    assert isinstance(refused.value, (WrongInput, NothingExamined))


def test_a_table_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MAX_CELLS", 20)
    with pytest.raises(WrongInput, match="more than 20 cells"):
        opened(tmp_path, subject="patient", order="visit", take="all")
    pl.DataFrame({"a": range(21)}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(WrongInput, match="more than 20 cells"):
        open_source("table", {"path": "t.parquet"}, tmp_path)
    monkeypatch.setattr(table, "MAX_CSV_BYTES", 20)
    with pytest.raises(WrongInput, match="larger than 20 bytes"):
        opened(tmp_path)


def test_a_column_of_another_type_is_named(tmp_path):
    pl.DataFrame({"a": [1], "born": [date(1950, 1, 1)]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(WrongInput, match="column born has type Date"):
        open_source("table", {"path": "t.parquet"}, tmp_path)


def test_a_column_may_be_called_as_our_own_are(tmp_path):
    source = opened(tmp_path, "id,subject_id,time,code\n4,1,2,x\n", subject="id")
    assert source.subjects() == (4,)
    assert "time" in source.events.codes


def test_an_admitted_patient_who_is_gone_is_missed(tmp_path):
    source = opened(tmp_path, subject="patient", order="visit", take="all")
    with pytest.raises(WrongInput, match="fewer than 10 admitted patients are gone"):
        source.patients(restored("study", "sha256:0", {"members": [7, 8], "held_out": [9]}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id;a;b\n1;2;x\n", "semicolons"),
        ("id\ta\tb\n1\t2\tx\n", "tabs|not printable"),
        ("id,a,a\n1,2,3\n", "two columns of one name"),
        ("id,a\n-1,2\n3,4\n", "a number below 0"),
        ("id,a,when\n1,2,31.12.2001\n", "column when holds no date"),
    ],
)
def test_what_is_no_table_of_ours_is_named(tmp_path, text, said):
    options = {"subject": "id"} if "," in text else {}
    options |= {"time": "when"} if "when" in text else {}
    with pytest.raises(WrongInput, match=said):
        opened(tmp_path, text, **options)


def test_a_table_without_rows_is_nothing(tmp_path):
    with pytest.raises(NothingExamined, match="holds no rows"):
        opened(tmp_path, "id,a\n", subject="id")


def test_a_time_may_be_written_with_a_t(tmp_path):
    text = "id,a,when\n1,2,2001-12-31T10:00:00\n2,2,2001-12-31 10:00:00\n"
    source = opened(tmp_path, text, subject="id", time="when")
    assert [event.time for events in records(source).values() for event in events] == [
        on(2001, 12, 31, 10)
    ] * 2
