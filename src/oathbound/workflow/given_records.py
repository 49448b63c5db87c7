"""Records that are given for an audit without a study: MEDS folders, or one with subject splits.

There is no policy, so nobody has said which consents are needed: whoever gives the records answers for them.
Lists are compared only when they are long, and a refusal counts nobody: with a list of one, whether it
overlaps with another is an answer about a person.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl

from oathbound.audit.target import AuditedPatients
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.meds import open_meds
from oathbound.data.shelf import Shelf

SPLITS: Final = "metadata/subject_splits.parquet"

LEAST_COMPARED: Final = 100
"""Different patients that a list needs to be compared with another."""

_PART_OF: Final = {"train": "members", "held_out": "held_out", "tuning": "reference"}
"""What the subject splits of MEDS are to an audit."""

Parts = dict[str, Shelf]
"""Of `members`, `held_out` and `reference`, the patients, who may be too many for memory."""


@dataclass(frozen=True, slots=True)
class Read:
    """What could be read; of a hundred patients, how many could not, rounded up to a multiple of 5."""

    parts: Parts
    unread: int


@dataclass(frozen=True, slots=True)
class Folders:
    """The MEDS folders of members, of held-out patients, and of reference patients if there are any."""

    members: Path
    held_out: Path
    reference: Path | None = None

    def read(self, room: Path) -> Read:
        """Return everybody who can be read, laid out in the folder `room`."""
        folders = {"members": self.members, "held_out": self.held_out, "reference": self.reference}
        read = {part: _shelf(folder, room) for part, folder in folders.items()}
        return Read({part: shelf for part, (shelf, _) in read.items()}, _unread(read.values()))


@dataclass(frozen=True, slots=True)
class Split:
    """One MEDS folder with subject splits: train are members, held_out held-out, tuning reference."""

    records: Path

    def read(self, room: Path) -> Read:
        """Return everybody who can be read and is in one of the splits, laid out in the folder `room`."""
        splits = _splits(self.records / SPLITS)
        people, unreadable = _shelf(self.records, room)
        parts = {part: people.those(subjects) for part, subjects in splits.items()}
        return Read(parts, _unread([(people, unreadable)]))


def compared(parts: Parts) -> AuditedPatients:
    """Return the patients to audit: within a part, copies of a record are taken out first.

    A reference part that is too short to be compared is left out. Raises `NothingExamined` where members or
    held-out patients are too few to be compared, and `WrongInput`, without a count, where parts overlap: by
    id, or by a record that has a date.
    """
    distinct = {name: _Distinct.of(shelf) for name, shelf in parts.items()}
    short = {name for name, part in distinct.items() if len(part.patients) < LEAST_COMPARED}
    if short - {"reference"}:
        raise _too_few()
    used = [part for name, part in distinct.items() if name not in short]
    ids = np.concatenate([part.patients.ids for part in used])
    records = [record for part in used for record in part.records]
    if len(np.unique(ids)) != len(ids) or len(set(records)) != len(records):
        raise WrongInput(
            "members, held-out and reference overlap: a person, or a copy of a record, is in two of them",
            hint="take whoever is in two out of both; held-out patients must be new to the model",
        )
    return AuditedPatients(**{name: part.patients for name, part in distinct.items() if name not in short})


def uncompared(parts: Parts) -> AuditedPatients:
    """Return the patients as they are given, for who asks what an audit costs, and nothing of the patients.

    They are numbered anew, so that nothing after this compares them either. Raises `NothingExamined` where
    members or held-out patients are fewer than would be compared.
    """
    long = {name: shelf for name, shelf in parts.items() if len(shelf) >= LEAST_COMPARED}
    if not {"members", "held_out"} <= long.keys():
        raise _too_few()
    ends = np.cumsum([len(shelf) for shelf in long.values()])
    return AuditedPatients(
        **{
            name: replace(shelf, ids=np.arange(end - len(shelf), end))
            for (name, shelf), end in zip(long.items(), ends, strict=True)
        }
    )


def _too_few() -> NothingExamined:
    return NothingExamined(
        f"not measurable: fewer than {LEAST_COMPARED} different members, or held-out patients",
        hint="shorter lists are not even compared with each other",
    )


def _shelf(folder: Path | None, room: Path) -> tuple[Shelf, int]:
    """Return those who can be read, and the number of those who cannot."""
    if folder is None:
        return Shelf.of((), room), 0
    source = open_meds({"path": "."}, folder)
    unreadable = source.unreadable()
    return Shelf.of(source.read(frozenset(source.subjects()) - unreadable), room), len(unreadable)


def _unread(read: Iterable[tuple[Shelf, int]]) -> int:
    counts = [(len(shelf), unreadable) for shelf, unreadable in read]
    unreadable = sum(each for _, each in counts)
    everybody = unreadable + sum(size for size, _ in counts)
    return 5 * math.ceil(20 * unreadable / max(everybody, 1))  # so that it is no count of few


@dataclass(frozen=True, slots=True, eq=False)
class _Distinct:
    """Patients without those whose record is a copy of an earlier one's, and digests of dated records."""

    patients: Shelf
    records: frozenset[bytes]

    @classmethod
    def of(cls, shelf: Shelf) -> Self:
        seen: set[bytes] = set()
        kept = np.ones(len(shelf), dtype=bool)
        for place, patient in enumerate(shelf):
            if any(event.time is not None for event in patient.events):  # or nothing tells it from another's
                record = hashlib.sha256(repr(patient.events).encode()).digest()
                kept[place] = record not in seen
                seen.add(record)
        return cls(shelf.part(kept), frozenset(seen))


def _splits(path: Path) -> dict[str, list[int]]:
    """Return the ids of each part, from MEDS' table of splits; other splits are left out."""
    with _reading(path):
        table = pl.read_parquet(path, columns=["subject_id", "split"])
    right = table.schema == {"subject_id": pl.Int64, "split": pl.String}
    if not right or any(column.has_nulls() for column in table.iter_columns()):
        raise _no_table()
    if table["subject_id"].is_duplicated().any():
        raise WrongInput(f"{SPLITS} puts a person in two splits", hint="each person is in one")
    parts = {
        part: table.filter(pl.col("split") == split)["subject_id"].sort().to_list()
        for split, part in _PART_OF.items()
    }
    if not (parts["members"] and parts["held_out"]):
        raise NothingExamined(
            f"{SPLITS} has nobody in train, or nobody in held_out",
            hint="train are the members, held_out the held-out patients, tuning the reference",
        )
    return parts


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise WrongInput(
            f"the records have no {SPLITS}", hint="write that table, or give --members and --held-out"
        )
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise _no_table() from None


def _no_table() -> WrongInput:
    return WrongInput(
        f"{SPLITS} is not MEDS' table of splits", hint="two columns: subject_id int64, split string"
    )
