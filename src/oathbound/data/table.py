"""Tables: one parquet or CSV file whose rows are patients, or encounters of patients.

A cell becomes an event. A number of the column `c` is the code `c` with that value, a text `t` the code
`c//t`; nothing, an empty text and "?" are no event. Options: `path`; `subject`, the column of patients' ids
(without it every row is a patient, numbered from 1); `take` = "first", "last" or "all" of a patient's rows,
in the order of the column `order`; `time`, the column of the row's date; `text`, columns that are text
whatever they hold, separated by commas: in a CSV file the type of any other column is that of its contents.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import polars as pl

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.columns import of_frame, reading
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.disclosure import rounded, spoken
from oathbound.data.memory import InMemory
from oathbound.data.source import check_options

MAX_CSV_BYTES: Final = 1024**3
MAX_CELLS: Final = 100_000_000
MAX_NAME: Final = 200

ABSENT: Final = ("", "?")
"""What stands in a cell of text where nothing is known."""

_WORDS: Final = frozenset({pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null})
_TAKES: Final = ("first", "last", "all")
_OPTIONS: Final = ("path", "subject", "order", "take", "time", "text")
_AGAIN: Final = "is it empty? write it again, in UTF-8"
_PACKED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
"""How gzip, zstd and zlib begin: a small file of them may hold any number of bytes."""

SUBJECT: Final = "\0subject"
"""Our own name of the column of ids; no column of a table has a name that is not printable."""

_FIRST_DAY, _END_DAY = -719_162, 2_932_897
"""Where the years 1 and 10000 begin, in days since 1970."""

_PER_DAY: Final[Mapping[pl.DataType, int]] = MappingProxyType(
    {
        pl.Date(): 1,
        pl.Datetime("ms"): 86_400 * 10**3,
        pl.Datetime("us"): 86_400 * 10**6,
        pl.Datetime("ns"): 86_400 * 10**9,
    }
)
TIME: Final = "\0time"
_ORDER, _ROW = "\0order", "\0row"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a table; an empty text is a column that is not named."""

    path: str
    subject: str
    order: str
    take: str
    time: str
    text: tuple[str, ...]

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Return the options; `WrongInput` for one that is unknown, or that needs another."""
        check_options("table", options, _OPTIONS)
        given = {key: options.get(key, "") for key in _OPTIONS if key != "text"}
        text = tuple(filter(None, (name.strip() for name in options.get("text", "").split(","))))
        if given["take"] not in {"", *_TAKES}:
            raise WrongInput(f"take is none of {', '.join(_TAKES)}", hint='such as take = "first"')
        if (given["order"] or given["take"]) and not given["subject"]:
            raise WrongInput("order and take are of a patient's rows: they need subject")
        if given["take"] in {"first", "last"} and not given["order"]:
            raise WrongInput(f'take = "{given["take"]}" needs order, the column that rows are ordered by')
        for one, other in combinations(("subject", "order", "time"), 2):
            if given[one] and given[one] == given[other]:
                raise WrongInput(
                    f"{Path(given['path']).name}: column {given[one]} cannot be both {one} and {other}",
                    hint="name another one, or write the column twice",
                )
        return cls(**given, text=text)


def open_table(options: Mapping[str, str], base: Path) -> InMemory:
    """Open the table; relative paths start at `base`.

    A row without an id is nobody's. A patient with a row whose place or date cannot be read is quarantined
    whole. Raises `WrongInput` for a file, an option or a column that is wrong, `NothingExamined` for a table
    without events.
    """
    asked = Options.parse(options)
    rows, without = rows_of(asked, base)
    spoilt = _spoilt(rows, asked)
    readable = rows.filter(~pl.col(SUBJECT).is_in(spoilt.implode()))
    return source_of(
        "table", _taken(readable, asked), quarantined=frozenset(spoilt.to_list()), without_subject=without
    )


def rows_of(asked: Options, base: Path) -> tuple[pl.DataFrame, int]:
    """Return the rows that are somebody's, with `SUBJECT` and, if asked for, `TIME`; how many are nobody's.

    Raises `WrongInput` for a file or a column that is wrong.
    """
    return _rows(_read(base / asked.path, asked), asked)


def header_of(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns; no row is read. Raises `WrongInput` for what is no table."""
    with reading(path.name, "a table", hint=_AGAIN):
        if path.suffix.lower() == ".parquet":
            return tuple(pl.read_parquet_schema(path))
        return _header(path)


def source_of(
    kind: str,
    table: pl.DataFrame,
    *,
    quarantined: frozenset[int] = frozenset(),
    without_subject: int = 0,
    simulated: str | None = None,
) -> InMemory:
    """Return the source of a table whose rows, in order, are events of the integer column `SUBJECT`.

    Its columns of numbers, texts and truth values become events, row by row.
    """
    rows = table if TIME in table.columns else table.with_columns(pl.lit(None, pl.Datetime("us")).alias(TIME))
    columns = [name for name in rows.columns if name not in {SUBJECT, _ORDER, TIME}]
    numbers = sum(int((~rows[name].is_finite()).sum()) for name in columns if rows[name].dtype.is_float())
    events = pl.concat([_events(rows.with_row_index(_ROW), name) for name in columns], how="vertical").sort(
        _ROW, maintain_order=True
    )
    if events.is_empty():
        raise NothingExamined(f"the {kind} source holds no events", hint="is every cell of it empty?")
    codes = sorted(events["code"].unique().to_list())
    # a type's parameters may be values, such as the words of an Enum
    types = {name: str(dtype.base_type()) for name, dtype in rows.schema.items() if name in columns}
    dropped = Dropped(rounded(without_subject), rounded(len(quarantined)), rounded(numbers))
    description = SourceDescription(kind, digest_of({"columns": types}), simulated, dropped)
    return InMemory(of_frame(events, codes), quarantined, description)


def _events(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the events of one column: subject_id, time, code, numeric_value, and the row they are of."""
    cells, dtype = pl.col(name), rows[name].dtype
    if dtype.is_numeric():
        code, value = pl.lit(name), cells.cast(pl.Float64)
        there = value.is_finite()
    else:
        words = cells.cast(pl.String)
        there = words.is_not_null() & ~words.is_in(ABSENT)
        code, value = pl.concat_str(pl.lit(f"{name}//"), words), pl.lit(None, pl.Float64)
    return rows.filter(there).select(
        pl.col(SUBJECT).alias("subject_id"),
        pl.col(TIME).alias("time"),
        code.alias("code"),
        value.alias("numeric_value"),
        _ROW,
    )


def _read(path: Path, asked: Options) -> pl.DataFrame:
    """Read a table of bounded size, and check its columns' names and types."""
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise WrongInput("a table is a .csv or a .parquet file", hint="name it so, or convert it")
    if not path.is_file():
        raise WrongInput(f"the table {path.name} is not there", hint="is path relative to the site's folder?")
    with reading(path.name, "a table", hint=_AGAIN):
        table = _csv(path, asked.text) if suffix == ".csv" else _parquet(path)
    if not table.height:
        raise NothingExamined(f"{path.name} holds no rows")
    if table.width == 1 and (mark := next((mark for mark in ";\t" if mark in table.columns[0]), "")):
        raise WrongInput(
            f"{path.name} has one column, whose name holds {_MARKS[mark]}",
            hint="separate its cells with commas",
        )
    placing = {asked.subject, asked.order, asked.time} - {""}
    absent = sorted(placing.union(asked.text).difference(table.columns))
    if absent:
        raise WrongInput(
            f"{path.name} has no column {absent[0]}", hint="the options name the table's columns"
        )
    for name, dtype in table.schema.items():
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
            raise WrongInput(f"{path.name} has a column whose name is empty, too long or not printable")
        known = dtype.is_numeric() or dtype.base_type() in _WORDS
        if not known and (name not in placing or name in asked.text):
            raise WrongInput(
                f"{path.name}: column {name} has type {dtype.base_type()}",
                hint="a column is of numbers, text or truth values; name a date with `time`, or leave it out",
            )
    if not set(table.columns) - placing:
        beside = f" beside {', '.join(sorted(placing))}" if placing else ""
        raise WrongInput(
            f"{path.name} has no column{beside}", hint="the other columns are what is learnt from"
        )
    return table.with_columns(pl.col(name).cast(pl.String) for name in asked.text)


_MARKS: Final = {";": "semicolons", "\t": "tabs"}


def _csv(path: Path, text: tuple[str, ...]) -> pl.DataFrame:
    if path.stat().st_size > MAX_CSV_BYTES:
        raise WrongInput(f"{path.name} is larger than {MAX_CSV_BYTES} bytes", hint="write it as parquet")
    with path.open("rb") as file:
        if file.read(4).startswith(_PACKED):
            raise WrongInput(f"{path.name} is compressed", hint="unpack it, or write it as parquet")
    header = _header(path)
    if len(set(header)) != len(header):
        raise WrongInput(f"{path.name} has two columns of one name", hint="rename one of them")
    # the whole column decides its type: a text on the last row must not be lost
    table = pl.read_csv(
        path,
        null_values=list(ABSENT),
        infer_schema_length=None,
        schema_overrides=dict.fromkeys(text, pl.String),
    )
    _check_size(path.name, table.height, table.width)
    return table


def _header(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return tuple(next(csv.reader(lines), ()))


def _parquet(path: Path) -> pl.DataFrame:
    lazy = pl.scan_parquet(path)
    _check_size(path.name, lazy.select(pl.len()).collect().item(), len(lazy.collect_schema()))
    return lazy.collect()


def _check_size(name: str, rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        raise WrongInput(
            f"{name} has more than {MAX_CELLS} cells", hint="leave out columns that nobody needs"
        )


def _rows(table: pl.DataFrame, asked: Options) -> tuple[pl.DataFrame, int]:
    """Return the rows that are somebody's, under our own names, and how many are nobody's."""
    if not asked.subject:
        named = table.with_row_index(SUBJECT, offset=1).with_columns(pl.col(SUBJECT).cast(pl.Int64))
    elif table[asked.subject].dtype.is_integer():
        named = table.rename({asked.subject: SUBJECT}).with_columns(_ids(table[asked.subject], asked))
    else:
        raise WrongInput(
            f"column {asked.subject} is not of whole numbers",
            hint="number the patients, by the number that the consents name",
        )
    if asked.order:
        named = named.rename({asked.order: _ORDER})
    if asked.time:
        named = named.with_columns(_moment(named[asked.time]).alias(TIME)).drop(asked.time)
    rows = named.drop_nulls(SUBJECT)
    return rows, named.height - rows.height


def _ids(column: pl.Series, asked: Options) -> pl.Series:
    ids = column.cast(pl.Int64, strict=False).alias(SUBJECT)
    if ids.null_count() > column.null_count():
        raise WrongInput(
            f"{Path(asked.path).name}: column {column.name} has a number beyond 64 bits with a sign",
            hint="number the patients below 2^63",
        )
    if (ids < 0).any():
        raise WrongInput(
            f"{Path(asked.path).name}: column {column.name} has a number below 0",
            hint="number patients from 0",
        )
    return ids


def _moment(dates: pl.Series) -> pl.Series:
    """Return a column of dates as MEDS times; null where it is no date of the years 1 to 9999."""
    if dates.dtype == pl.String:
        days = dates.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
            days = days.fill_null(dates.str.to_datetime(form, strict=False, time_unit="us"))
        moments = days
        if len(dates) > dates.null_count() and moments.null_count() == len(dates):
            raise WrongInput(
                f"column {dates.name} holds no date", hint="write them as 2001-12-31 or 2001-12-31 10:00:00"
            )
    elif dates.dtype == pl.Date or (isinstance(dates.dtype, pl.Datetime) and dates.dtype.time_zone is None):
        moments = dates
    else:
        raise WrongInput(
            f"column {dates.name} is not of dates without a time zone", hint="write them as 2001-12-31"
        )
    per_day = _PER_DAY[moments.dtype]
    first, end = (min(max(day * per_day, -(2**63)), 2**63 - 1) for day in (_FIRST_DAY, _END_DAY))
    # by the numbers that stand for them: polars panics at a year that it cannot write
    there = pl.col("when").to_physical().is_between(first, end, closed="left")
    frame = moments.to_frame("when")
    return frame.select(pl.when(there).then("when").cast(pl.Datetime("us"))).to_series()


def _spoilt(rows: pl.DataFrame, asked: Options) -> pl.Series:
    """Return the ids of patients with a row whose date, or place among several rows, cannot be known."""
    several = pl.len().over(SUBJECT) > 1
    spoilt = pl.lit(value=False)
    if asked.time:
        spoilt |= pl.col(TIME).is_null()
    if asked.order:
        spoilt |= several & (pl.col(_ORDER).is_null() | pl.struct(SUBJECT, _ORDER).is_duplicated())
    elif not asked.take:
        repeated = rows.filter(several)[SUBJECT].n_unique()
        if repeated:
            raise WrongInput(
                f"{spoken(repeated)} patients have several rows", hint='take = "first", "last" or "all"'
            )
    return rows.filter(spoilt)[SUBJECT].unique()


def _taken(rows: pl.DataFrame, asked: Options) -> pl.DataFrame:
    """Return the rows that count, ordered within each patient."""
    by = [SUBJECT, *([_ORDER] if asked.order else [])]
    ordered = rows.sort(by, maintain_order=True)
    if asked.take not in {"first", "last"}:
        return ordered
    return ordered.unique(SUBJECT, keep="first" if asked.take == "first" else "last", maintain_order=True)
