"""A source whose records are in memory: what a file that fits is turned into."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from oathbound.core.patient import Columns, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.columns import copies, of_subjects, patients_of, pieces
from oathbound.data.description import SourceDescription
from oathbound.data.source import check_there


@dataclass(frozen=True, slots=True)
class InMemory:
    """The events of everybody who can be read, and the ids of those who cannot."""

    events: Columns = field(repr=False)
    quarantined: frozenset[int] = field(repr=False)
    description: SourceDescription

    def describe(self) -> SourceDescription:
        """Return the description."""
        return self.description

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending, those who cannot be read as well."""
        return tuple(sorted(self.quarantined | self._readable()))

    def unreadable(self) -> frozenset[int]:
        """Return those of the subjects whose record cannot be read."""
        return self.quarantined

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        return copies(self._read, subjects)

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, by id. Raises `WrongInput` for one the source lacks."""
        return chain.from_iterable(map(patients_of, self.columns(cohort)))

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield the same as columns, a piece at a time."""
        check_there(cohort.subjects - self._readable())
        return self._read(cohort.subjects)

    def _readable(self) -> frozenset[int]:
        return frozenset(np.unique(self.events.subject).tolist())

    def _read(self, subjects: frozenset[int]) -> Iterator[Columns]:
        yield from pieces(of_subjects(self.events, subjects))
