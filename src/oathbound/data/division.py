"""One data set divided among simulated hospitals, by hash: to try a consortium out on one machine."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, Self

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.columns import columns_of
from oathbound.data.description import SourceDescription
from oathbound.data.source import Source

OPTIONS: Final = frozenset({"parts", "part"})

_MOST_PARTS: Final = 100
_WEIGHT: Final = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Division:
    """The weights of the hospitals, and the place of this one among them, from 0."""

    weights: tuple[int, ...]
    place: int

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Return the division that `parts = "5,3,2"` and `part = "1"` describe, or raise `WrongInput`."""
        texts = options.get("parts", "").split(",")
        part = options.get("part", "")
        if (
            set(options) != OPTIONS
            or len(texts) > _MOST_PARTS
            or not all(_WEIGHT.fullmatch(text) for text in (*texts, part))
            or int(part) > len(texts)
        ):
            raise WrongInput(
                "a divided source takes parts and part together", hint='parts = "5,3,2" and part = "1"'
            )
        return cls(tuple(int(text) for text in texts), int(part) - 1)

    def holds(self, subject: int) -> bool:
        """Return whether a person is this hospital's: 64 bits of a hash, on a line cut by the weights."""
        draw = hashlib.sha256(f"oathbound-demo-site:{subject}".encode()).digest()[:8]
        position = int.from_bytes(draw, "big") * sum(self.weights) >> 64
        ends = enumerate(accumulate(self.weights))
        return next(index for index, end in ends if position < end) == self.place


@dataclass(frozen=True, slots=True)
class Divided:
    """One hospital's part of a source: a source itself."""

    whole: Source
    division: Division

    def describe(self) -> SourceDescription:
        """Return the whole's description, which says that this hospital is simulated."""
        described = self.whole.describe()
        hospitals = f"simulated: one data set divided among {len(self.division.weights)} hospitals by hash"
        return replace(described, simulated="; ".join(filter(None, (described.simulated, hospitals))))

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of this hospital's subjects, ascending; `NothingExamined` if there is nobody."""
        mine = tuple(subject for subject in self.whole.subjects() if self.division.holds(subject))
        if not mine:
            raise NothingExamined(
                "this part of the data set holds nobody", hint="give it more weight in `parts`"
            )
        return mine

    def unreadable(self) -> frozenset[int]:
        """Return those of this hospital's subjects who have an event that cannot be read."""
        return frozenset(filter(self.division.holds, self.whole.unreadable()))

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose record equals that of one of them with a smaller id."""
        return self.whole.duplicates(subjects)

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort. Raises `WrongInput` for one of another hospital."""
        self._check(cohort)
        return self.whole.patients(cohort)

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield the records of the cohort. Raises `WrongInput` for a patient of another hospital."""
        self._check(cohort)
        return columns_of(self.whole, cohort)

    def _check(self, cohort: Cohort) -> None:
        if not all(map(self.division.holds, cohort.subjects)):
            raise WrongInput("admitted patients are of another hospital's part", hint="has `part` changed?")
