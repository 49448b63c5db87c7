"""People whose recordings lie in files: scans, beats. Read a person at a time, so that a set may be large.

Opening reads every file once, and keeps nothing of it but whether it can be used. A person with a file that
cannot is quarantined whole, and counted by the reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final, Self

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.data import columns as columns_
from oathbound.data.cohort import Cohort
from oathbound.data.columns import copies, joined, patients_of
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.disclosure import rounded, spoken
from oathbound.data.source import check_there

MOST_BYTES: Final = 2**30
"""Of one person's frames: a person is in memory whole."""

MAX_FILE_BYTES: Final = 2**29

UNREADABLE: Final = "a file is missing, damaged or of another format"


class Unusable(Exception):
    """A recording that cannot be used. `reason` is one of a few sentences, and tells nothing of a record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class InFiles:
    """The source: `recorded` reads all events of one person, or raises `Unusable`."""

    readable: frozenset[int] = field(repr=False)
    quarantined: frozenset[int] = field(repr=False)
    recorded: Callable[[int], Columns] = field(repr=False)
    description: SourceDescription

    @classmethod
    def open(
        cls,
        kind: str,
        subjects: Iterable[int],
        recorded: Callable[[int], Columns],
        *,
        shape: tuple[int, ...],
        refused: Iterable[tuple[int, str]] = (),
        without_subject: int = 0,
    ) -> Self:
        """Read everybody once. `refused` are known to be unusable, and why; nothing of theirs is read.

        Raises `NothingExamined` where nobody can be used.
        """
        reasons = dict(refused)
        everybody = frozenset(subjects).union(reasons)
        for subject in sorted(everybody.difference(reasons)):
            try:
                recorded(subject)
            except Unusable as error:
                reasons[subject] = error.reason
        why = tuple((reason, rounded(count)) for reason, count in sorted(Counter(reasons.values()).items()))
        if len(reasons) == len(everybody):
            raise NothingExamined(
                f"the {kind} source holds no recording that can be used",
                hint=_told(reasons.values()) or "its table or folder is empty",
            )
        schema = digest_of({"frames": list(shape)})
        dropped = Dropped(rounded(without_subject), rounded(len(reasons)), why=why)
        return cls(
            everybody.difference(reasons),
            frozenset(reasons),
            recorded,
            SourceDescription(kind, schema, None, dropped),
        )

    def describe(self) -> SourceDescription:
        """Return the description; `dropped.why` counts the quarantined by reason."""
        return self.description

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending, those who cannot be read as well."""
        return tuple(sorted(self.quarantined | self.readable))

    def unreadable(self) -> frozenset[int]:
        """Return those of the subjects with a recording that cannot be used."""
        return self.quarantined

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events and frames equal those of one of them with a smaller id."""
        return copies(self.read, subjects)

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, by id, with their frames."""
        return chain.from_iterable(map(patients_of, self.columns(cohort)))

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield the same as columns, a piece at a time. Raises `WrongInput` for one the source lacks."""
        check_there(cohort.subjects - self.readable)
        return self.read(cohort.subjects)

    def read(self, subjects: frozenset[int]) -> Iterator[Columns]:
        """Yield the records of these people, some whole people at a time."""
        some: list[Columns] = []
        size = 0
        for subject in sorted(subjects):
            try:
                some.append(self.recorded(subject))
            except Unusable:
                raise WrongInput(
                    "a recording changed while the records were read",
                    hint="restore it: a study's cohort is drawn once",
                ) from None
            size += 0 if some[-1].frames is None else some[-1].frames.nbytes
            if size >= columns_.MOST_FRAME_BYTES:
                yield joined(some)
                some, size = [], 0
        if some:
            yield joined(some)


def content(path: Path) -> bytes:
    """Return the content of a plain file of bounded size; `Unusable` for any other."""
    try:
        if not path.is_file():
            raise Unusable(UNREADABLE)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unusable("a file is too large")
        return path.read_bytes()
    except (OSError, ValueError):  # ValueError: a name that holds a zero byte
        raise Unusable(UNREADABLE) from None


def _told(reasons: Iterable[str]) -> str:
    return "; ".join(f"{spoken(count)} patients: {why}" for why, count in Counter(reasons).most_common())
