"""DP-FTRL with banded Toeplitz noise: groups of patients take turns, and noise is correlated over steps.

`spec/training.md`, "Bands". At each step a site adds up, times an integer coefficient each, the sums of its
groups of this step and of the steps before; noise is fresh in every step. Whoever solves for this step's sum
finds it with noise that the noise of later steps takes back, in part, and the sum over many steps holds less
of it. No coin takes part, so nothing rests on how sites sample.

Sources: Kairouz et al. 2021 (arXiv:2103.00039); Choquette-Choo et al. 2023 (arXiv:2306.08153); Kalinin and
Lampert 2024 (arXiv:2405.13763).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import ProtocolRefused
from oathbound.core.ports import GroupSampler, PastSums
from oathbound.hazmat.ring import encode
from oathbound.models.model import Rows


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Turns:
    """One site's groups, and its sums of the steps before, which are as private as the records.

    There are as many groups as `coefficients`, b; step t is of the group t mod b.
    """

    groups: GroupSampler
    past: PastSums
    coefficients: tuple[int, ...]

    def check(self, step: int) -> None:
        """Raise `ProtocolRefused` unless `step` follows the last one, whose sum and b - 2 before it are here.

        So nobody is used twice in b steps, and every sum is of what the coordinator solves it for.
        """
        if set(self.past.steps()) != set(range(max(1, step - len(self.coefficients) + 1), step)):
            raise ProtocolRefused(
                "with bands a step must follow the last one, whose sum is not here",
                hint="a lost step is not made up for: its training is void",
            )

    def members(self, step: int) -> Rows:
        """Return the rows of the step's group."""
        return self.groups.group(step % len(self.coefficients))

    def correlated(self, step: int, total: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what is noised in the place of `total`, the sum of the step's group, on the ring: int64 [d].

        `total` is durable when this returns: the next steps need it.
        """
        kept = self.past.sums()
        first, *others = self.coefficients
        row = first * total
        for back, coefficient in enumerate(others[: step - 1], start=1):
            row += coefficient * np.frombuffer(kept[step - back], dtype="<u4").astype(np.int64)
        self.past.keep(step, encode(total).astype("<u4").tobytes(), most=len(others))
        return row


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Solved:
    """What the sums were solved for, of the last b - 1 steps, newest first: float64 [d] each, at first 0."""

    coefficients: tuple[int, ...]
    sums: tuple[NDArray[np.float64], ...]

    @classmethod
    def at_first(cls, coefficients: tuple[int, ...], dimension: int) -> Self:
        """Return the state before the first step."""
        return cls(coefficients, tuple(np.zeros(dimension) for _ in coefficients[1:]))

    def solve(self, row: NDArray[np.int64]) -> tuple[NDArray[np.float64], "Solved"]:
        """Return the sum of the next step's group, with its noise, and the state after it.

        Without noise it is exact, below 2^53; with the one coefficient 1 it is `row`.
        """
        first, *others = self.coefficients
        solved = row.astype(np.float64)
        for coefficient, earlier in zip(others, self.sums, strict=True):
            solved -= coefficient * earlier
        solved /= first
        return solved, Solved(self.coefficients, (solved, *self.sums)[: len(others)])
