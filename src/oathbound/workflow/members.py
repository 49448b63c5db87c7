"""Whose rows are in a step of training: some of a site's members, by coins, or by turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from oathbound.hazmat.random import bernoulli
from oathbound.models.model import Rows


@dataclass(frozen=True, slots=True)
class Members:
    """What the model sees of one site's members, at their `places` among the `rows`: a `PatientSampler`."""

    rows: Rows
    places: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.places)

    def sample(self, rate: Decimal) -> Rows:
        """Return the rows of the members whose coin came up; no others are read."""
        return self.rows[self.places[bernoulli(rate, len(self.places))]]


@dataclass(frozen=True, slots=True)
class Groups:
    """The same of members who take turns; `numbers` are their groups: a `GroupSampler`."""

    rows: Rows
    places: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def group(self, number: int) -> Rows:
        """Return the rows of one group's members; no others are read."""
        return self.rows[self.places[np.flatnonzero(self.numbers == number)]]


@dataclass(frozen=True, slots=True)
class MemberRows:
    """What the model sees of a site's members, and whose each row is."""

    subjects: NDArray[np.int64]
    rows: Rows

    def of(self, subjects: frozenset[int]) -> Members:
        """Return some of them."""
        return Members(self.rows, np.flatnonzero(np.isin(self.subjects, sorted(subjects))))

    def in_groups(self, groups: Mapping[int, int]) -> Groups:
        """Return some of them, each in its group."""
        some = self.of(frozenset(groups))
        numbers = [groups[subject] for subject in self.subjects[some.places].tolist()]
        return Groups(self.rows, some.places, np.array(numbers, dtype=np.int64))
