"""Records that are given for an audit without a study: MEDS folders, or one with subject splits.

There is no policy, so nobody has said which consents are needed: whoever gives the records answers for them.
Lists are compared only when they are long, and a refusal counts nobody: with a list of one, whether it
overlaps with another is an answer about a person.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import polars as pl

from oathbound.audit.target import AuditedPatients
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data.columns import patients_of
from oathbound.data.meds import open_meds

SPLITS: Final = "metadata/subject_splits.parquet"

LEAST_COMPARED: Final = 100
"""Different patients that a list needs to be compared with another."""

_PART_OF: Final = {"train": "members", "held_out": "held_out", "tuning": "reference"}
"""What the subject splits of MEDS are to an audit."""

Parts = dict[str, tuple[Patient, ...]]
"""Of `members`, `held_out` and `reference`, the patients."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The MEDS folders of members, of held-out patients, and of reference patients if there are any."""

    members: Path
    held_out: Path
    reference: Path | None = None

    def read(self) -> Parts:
        """Return everybody who can be read."""
        reference = _patients(self.reference) if self.reference else ()
        return {
            "members": _patients(self.members),
            "held_out": _patients(self.held_out),
            "reference": reference,
        }


@dataclass(frozen=True, slots=True)
class Split:
    """One MEDS folder with subject splits: train are members, held_out held-out, tuning reference."""

    records: Path

    def read(self) -> Parts:
        """Return everybody who can be read and is in one of the splits."""
        people = {patient.subject_id: patient for patient in _patients(self.records)}
        return {
            part: tuple(people[subject] for subject in subjects if subject in people)
            for part, subjects in _splits(self.records / SPLITS).items()
        }


def compared(parts: Parts) -> AuditedPatients:
    """Return the patients to audit: within a part, copies of a record are taken out first.

    A reference part that is too short to be compared is left out. Raises `NothingExamined` where members or
    held-out patients are too few to be compared, and `WrongInput`, without a count, where parts overlap: by
    id, or by a record that has a date.
    """
    distinct = {name: _distinct(part) for name, part in parts.items()}
    short = {name for name, part in distinct.items() if len(part) < LEAST_COMPARED}
    if short - {"reference"}:
        raise NothingExamined(
            f"not measurable: fewer than {LEAST_COMPARED} different members, or held-out patients",
            hint="shorter lists are not even compared with each other",
        )
    used = {name: () if name in short else part for name, part in distinct.items()}
    ids = [patient.subject_id for part in used.values() for patient in part]
    records = [record for part in used.values() for patient in part if (record := _dated(patient))]
    if len(set(ids)) != len(ids) or len(set(records)) != len(records):
        raise WrongInput(
            "members, held-out and reference overlap: a person, or a copy of a record, is in two of them",
            hint="take whoever is in two out of both; held-out patients must be new to the model",
        )
    return AuditedPatients(used["members"], used["held_out"], used["reference"])


def _patients(folder: Path) -> tuple[Patient, ...]:
    source = open_meds({"path": "."}, folder)
    readable = frozenset(source.subjects()) - source.unreadable()
    pieces = source.read(readable)
    return tuple(chain.from_iterable(map(patients_of, pieces)))


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


def _distinct(patients: Sequence[Patient]) -> tuple[Patient, ...]:
    """Return the patients without those whose record is a copy of an earlier one's."""
    first: dict[object, Patient] = {}
    for patient in patients:
        first.setdefault(_dated(patient) or patient.subject_id, patient)
    return tuple(first.values())


def _dated(patient: Patient) -> tuple[Event, ...]:
    """Return the record, by which copies are known; nothing where no date tells it from another's."""
    return patient.events if any(event.time is not None for event in patient.events) else ()
