"""MEDS data sets (0.3 and 0.4): `data/**/*.parquet` with `subject_id`, `time`, `code`, `numeric_value`.

Read with polars, one shard at a time, so that a data set may be larger than memory. A file that is wrong is
named; a row that is wrong takes out its patient, whole, or nobody where it names none. Values are never told.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.columns import copies, of_frame, patients_of, pieces, reading
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.disclosure import rounded
from oathbound.data.source import check_there

MAX_SHARD_ROWS: Final = 200_000_000

_HINT: Final = (
    "the MEDS schema: subject_id int64, time timestamp (may be null), code string, numeric_value float"
)
_FIRST_SECOND: Final = -62_135_596_800
_END_SECOND: Final = 253_402_300_800
"""Where the years 1 and 10000 begin, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Meds:
    """A MEDS data set whose every shard was checked when it was opened.

    `shards` has the ids of each one's readable patients, ascending; `codes` all codes, which places refer to.
    """

    folder: Path
    shards: Mapping[Path, NDArray[np.int64]] = field(repr=False)
    codes: tuple[str, ...] = field(repr=False)
    quarantined: frozenset[int] = field(repr=False)
    description: SourceDescription

    def describe(self) -> SourceDescription:
        """Return the description."""
        return self.description

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending, those who cannot be read as well."""
        return tuple(sorted(self.quarantined.union(*(ids.tolist() for ids in self.shards.values()))))

    def unreadable(self) -> frozenset[int]:
        """Return those with a null code, a time outside the years 1 to 9999, or events in two shards."""
        return self.quarantined

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        return copies(self.read, subjects)

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, by shard and id. Raises `WrongInput` for one the source lacks."""
        return chain.from_iterable(map(patients_of, self.columns(cohort)))

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield the same as columns: a shard in memory, a piece of it at a time."""
        check_there(cohort.subjects.difference(*(ids.tolist() for ids in self.shards.values())))
        return self.read(cohort.subjects)

    def read(self, subjects: frozenset[int]) -> Iterator[Columns]:
        """Yield the records of these people, one shard at a time; of people who are not there, nothing."""
        wanted = np.array(sorted(subjects), dtype=np.int64)
        for shard, ids in self.shards.items():
            mine = np.intersect1d(ids, wanted, assume_unique=True)
            if mine.size:
                yield from pieces(_events(self.folder, shard, mine, self.codes))


def open_meds(options: Mapping[str, str], base: Path) -> Meds:
    """Open the data set in the folder `options["path"]`; every shard is checked, its values are not kept.

    Raises `WrongInput` for a shard that is no parquet file or lacks a column, since its patients are unknown,
    and `NothingExamined` where no row has a subject.
    """
    if set(options) != {"path"}:
        raise WrongInput("a meds source has one option: path", hint='path = "meds" in site.toml')
    folder = base / options["path"]
    paths = sorted(_shards(folder / "data"))
    if not paths:
        raise WrongInput(
            "the meds source holds no data/**/*.parquet", hint="is path the folder that holds data/?"
        )
    checked = {path: _check(folder, path) for path in paths}
    everybody, shards_of = np.unique(
        np.concatenate([shard.subjects for shard in checked.values()]), return_counts=True
    )
    if not everybody.size:
        raise NothingExamined("the meds source holds no events of anybody")
    unreadable = np.union1d(
        everybody[shards_of > 1], np.concatenate([shard.unreadable for shard in checked.values()])
    )
    codes = sorted(frozenset().union(*(shard.codes for shard in checked.values())))
    columns = {name: kind for shard in checked.values() for name, kind in shard.columns.items()}
    dropped = Dropped(
        rows=rounded(sum(shard.unowned for shard in checked.values())),
        patients=rounded(len(unreadable)),
        numbers=rounded(sum(shard.not_finite for shard in checked.values())),
    )
    schema = digest_of({"columns": columns})
    return Meds(
        folder,
        {path: np.setdiff1d(shard.subjects, unreadable) for path, shard in checked.items()},
        tuple(codes),
        frozenset(unreadable.tolist()),
        SourceDescription("meds", schema, None, dropped),
    )


_PER_SECOND: Final[Mapping[pl.DataType, int]] = MappingProxyType(
    {pl.Datetime("ms"): 10**3, pl.Datetime("us"): 10**6, pl.Datetime("ns"): 10**9}
)
_COLUMNS: Final = ("subject_id", "time", "code", "numeric_value")


@dataclass(frozen=True, slots=True)
class _Checked:
    subjects: NDArray[np.int64]
    unreadable: NDArray[np.int64]
    codes: frozenset[str]
    columns: dict[str, str]
    unowned: int
    not_finite: int


def _check(folder: Path, path: Path) -> _Checked:
    """Check one shard whole; nothing of it is kept but its subjects, its codes and counts."""
    name = path.relative_to(folder).as_posix()
    with reading(name, "a parquet file", hint="write it again"):
        lazy = pl.scan_parquet(path)
        schema = lazy.collect_schema()
        columns = _columns(name, schema)
        rows = lazy.select(pl.len()).collect().item()
        if rows > MAX_SHARD_ROWS:
            raise WrongInput(f"{name} has more than {MAX_SHARD_ROWS} rows", hint="split it into shards")
        number = pl.col("numeric_value") if "numeric_value" in columns else pl.lit(None, pl.Float64)
        people = (
            lazy.filter(pl.col("subject_id").is_not_null())
            .group_by("subject_id")
            .agg(
                rows=pl.len(),
                unreadable=(pl.col("code").is_null() | ~_in_years_1_to_9999(schema["time"])).any(),
                not_finite=(~number.is_finite()).sum(),
            )
            .sort("subject_id")
            .collect()
        )
        codes = lazy.select(pl.col("code").drop_nulls().unique()).collect()["code"].to_list()
    subjects = people["subject_id"].to_numpy()
    return _Checked(
        subjects,
        subjects[people["unreadable"].to_numpy()],
        frozenset(codes),
        columns,
        unowned=rows - int(people["rows"].sum()),
        not_finite=int(people["not_finite"].sum()),
    )


def _in_years_1_to_9999(kind: pl.DataType) -> pl.Expr:
    """Return whether `time`, of this type, is one that Python can hold; null for a static fact."""
    per_second = _PER_SECOND[kind]
    first, last = (
        min(max(second * per_second, -(2**63)), 2**63 - 1) for second in (_FIRST_SECOND, _END_SECOND)
    )
    return pl.col("time").to_physical().is_between(first, last, closed="left")


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


def _events(folder: Path, path: Path, subjects: NDArray[np.int64], codes: tuple[str, ...]) -> Columns:
    """Read out the events of `subjects` alone."""
    with reading(path.relative_to(folder).as_posix(), "a parquet file", hint="write it again"):
        lazy = pl.scan_parquet(path)
        number = (
            pl.col("numeric_value") if "numeric_value" in lazy.collect_schema() else pl.lit(None, pl.Float32)
        )
        frame = (
            lazy.filter(pl.col("subject_id").is_in(subjects))
            .select("subject_id", pl.col("time").cast(pl.Datetime("us")), "code", numeric_value=number)
            .collect()
        )
        return of_frame(frame, codes)


def _shards(data: Path) -> Iterator[Path]:
    """Yield every shard below a folder, through links too; `WrongInput` if one cannot be listed."""

    def refuse(error: OSError) -> None:
        if data.exists():
            raise WrongInput(f"a folder of the meds source cannot be listed: {error.strerror}") from None

    for folder, _, names in os.walk(data, followlinks=True, onerror=refuse):
        yield from (Path(folder) / name for name in names if name.endswith(".parquet"))
