"""MEDS data sets (0.3 and 0.4): `data/**/*.parquet` with `subject_id`, `time`, `code`, `numeric_value`.

Read with polars, one shard at a time, so that a data set may be larger than memory. What is wrong is named by
file, column and a suppressed count, never by a value.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR
from itertools import groupby
from pathlib import Path
from typing import Final

import polars as pl

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.description import SourceDescription
from oathbound.data.disclosure import spoken

MAX_SHARD_ROWS: Final = 200_000_000

_HINT: Final = (
    "the MEDS schema: subject_id int64, time timestamp (may be null), code string, numeric_value float"
)


@dataclass(frozen=True, slots=True)
class Meds:
    """A MEDS data set whose every shard was checked when it was opened."""

    folder: Path
    shards: Mapping[Path, frozenset[int]] = field(repr=False)
    description: SourceDescription

    def describe(self) -> SourceDescription:
        """Return the description."""
        return self.description

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending."""
        return tuple(sorted(subject for ids in self.shards.values() for subject in ids))

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        return copies(self._read(subjects))

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, by shard and id. Raises `WrongInput` for one the source lacks."""
        missing = cohort.subjects.difference(*self.shards.values())
        if missing:
            raise WrongInput(
                f"records of {spoken(len(missing))} admitted patients are gone",
                hint="restore them, or admit anew",
            )
        return self._read(cohort.subjects)

    def _read(self, subjects: frozenset[int]) -> Iterator[Patient]:
        for shard, ids in self.shards.items():
            wanted = ids & subjects
            if wanted:
                yield from patients_of(_events(self.folder, shard, wanted))


def open_meds(options: Mapping[str, str], base: Path) -> Meds:
    """Open the data set in the folder `options["path"]`; every shard is checked, its values are not kept."""
    if set(options) != {"path"}:
        raise WrongInput("a meds source has one option: path", hint='path = "meds" in site.toml')
    folder = base / options["path"]
    paths = sorted(_shards(folder / "data"))
    if not paths:
        raise WrongInput(
            "the meds source holds no data/**/*.parquet", hint="is path the folder that holds data/?"
        )
    shards: dict[Path, frozenset[int]] = {}
    codes: set[str] = set()
    columns: dict[str, str] = {}
    dropped = 0
    for path in paths:
        checked = _check(folder, path)
        repeated = checked.subjects & frozenset().union(*shards.values())
        if repeated:
            raise WrongInput(
                f"{spoken(len(repeated))} subjects of {path.relative_to(folder)} are in another shard too",
                hint="MEDS keeps a subject's events in one file",
            )
        shards[path] = checked.subjects
        codes |= checked.codes
        columns |= checked.columns
        dropped += checked.dropped
    if not any(shards.values()):
        raise NothingExamined("the meds source holds no events")
    schema = digest_of({"columns": columns, "codes": sorted(codes)})
    return Meds(folder, shards, SourceDescription("meds", schema, None, spoken(dropped)))


def patients_of(frame: pl.DataFrame) -> Iterator[Patient]:
    """Yield the patients of a frame of events, by id: static facts first, then by time, else as they come."""
    ordered = frame.sort("subject_id", "time", nulls_last=False, maintain_order=True)
    rows = zip(*(ordered[column].to_list() for column in _COLUMNS), strict=True)
    for subject, group in groupby(rows, key=lambda row: row[0]):
        yield Patient(subject, tuple(Event(time, code, value) for _, time, code, value in group))


def copies(patients: Iterable[Patient]) -> frozenset[int]:
    """Return the patients whose events equal those of one with a smaller id; keeps 32 bytes a patient."""
    first: dict[bytes, int] = {}
    repeated: set[int] = set()
    for patient in patients:
        lines = sorted(f"{event.time}\0{event.code}\0{event.value!r}" for event in patient.events)
        record = hashlib.sha256("\1".join(lines).encode()).digest()
        other = first.setdefault(record, patient.subject_id)
        if other != patient.subject_id:
            repeated.add(max(other, patient.subject_id))
            first[record] = min(other, patient.subject_id)
    return frozenset(repeated)


_COLUMNS: Final = ("subject_id", "time", "code", "numeric_value")


@dataclass(frozen=True, slots=True)
class _Checked:
    subjects: frozenset[int]
    codes: frozenset[str]
    columns: dict[str, str]
    dropped: int


def _check(folder: Path, path: Path) -> _Checked:
    """Check one shard whole; nothing of it is kept but its subjects, its codes and counts."""
    name = path.relative_to(folder).as_posix()
    with _reading(name):
        lazy = pl.scan_parquet(path)
        schema = lazy.collect_schema()
        columns = _columns(name, schema)
        if lazy.select(pl.len()).collect().item() > MAX_SHARD_ROWS:
            raise WrongInput(f"{name} has more than {MAX_SHARD_ROWS} rows", hint="split it into shards")
        number = pl.col("numeric_value") if "numeric_value" in columns else pl.lit(None, pl.Float64)
        wrong = lazy.select(
            pl.col("subject_id", "code").null_count(),
            time=(~pl.col("time").dt.year().is_between(MINYEAR, MAXYEAR)).sum(),
            dropped=(~number.is_finite()).sum(),
        ).collect()
        subjects = lazy.select(pl.col("subject_id").unique()).collect()["subject_id"].to_list()
        codes = lazy.select(pl.col("code").unique()).collect()["code"].to_list()
    for column, fault in (("subject_id", "null"), ("code", "null"), ("time", "outside the years 1 to 9999")):
        count = wrong[column].item()
        if count:
            raise WrongInput(f"{name}: {column} is {fault} in {spoken(count)} rows", hint=_HINT)
    return _Checked(frozenset(subjects), frozenset(codes), columns, wrong["dropped"].item())


def _columns(name: str, schema: pl.Schema) -> dict[str, str]:
    """Return the names and types of the columns that are read; `WrongInput` for one that is wrong."""
    right = {
        "subject_id": schema.get("subject_id") == pl.Int64,
        "time": isinstance(time := schema.get("time"), pl.Datetime) and time.time_zone is None,
        "code": schema.get("code") == pl.String,
        "numeric_value": schema.get("numeric_value", pl.Float64) in {pl.Float32, pl.Float64},
    }
    for column, is_right in right.items():
        if not is_right:
            fault = f"has type {schema[column]}" if column in schema else "is missing"
            raise WrongInput(f"{name}: column {column} {fault}", hint=_HINT)
    return {column: str(schema[column]) for column in _COLUMNS if column in schema}


def _events(folder: Path, path: Path, subjects: frozenset[int]) -> pl.DataFrame:
    """Read out the events of `subjects` alone, in the file's order."""
    with _reading(path.relative_to(folder).as_posix()):
        lazy = pl.scan_parquet(path)
        number = pl.col("numeric_value") if "numeric_value" in lazy.collect_schema() else pl.lit(None)
        value = number.cast(pl.Float64)
        return (
            lazy.filter(pl.col("subject_id").is_in(sorted(subjects)))
            .select(
                "subject_id",
                pl.col("time").cast(pl.Datetime("us")),
                "code",
                numeric_value=pl.when(value.is_finite()).then(value),
            )
            .collect()
        )


def _shards(data: Path) -> Iterator[Path]:
    """Yield every shard below a folder, through links too; `WrongInput` if one cannot be listed."""

    def refuse(error: OSError) -> None:
        if data.exists():
            raise WrongInput(f"a folder of the meds source cannot be listed: {error.strerror}") from None

    for folder, _, names in os.walk(data, followlinks=True, onerror=refuse):
        yield from (Path(folder) / name for name in names if name.endswith(".parquet"))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    # A damaged file makes polars panic now and then; its panic is not an `Exception`.
    try:
        yield
    except PermissionError:
        raise WrongInput(f"{name} cannot be read: permission denied") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise WrongInput(f"{name} is not a parquet file that can be read", hint="write it again") from None
