"""What one pillar needs of another, as the smallest Protocol; `workflow` connects them."""

from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class PatientSampler(Protocol):
    """The members of one site's cohort, each in or out by an independent coin."""

    @property
    def size(self) -> int:
        """How many members there are. It is private: only training without a budget weighs by it."""
        ...

    def sample(self, rate: Decimal) -> "np.ndarray":
        """Return what the model sees of the sampled members, one row each: tokens or features.

        Each member is included independently with probability `rate`, with coins from the CSPRNG that are
        never logged. The number of rows is itself private.
        """
        ...


class GroupSampler(Protocol):
    """The members of one site's cohort, each in one group for the whole study, chosen without its record."""

    def group(self, number: int) -> "np.ndarray":
        """Return what the model sees of the members of group `number`, from 0, one row each."""
        ...


class PastSums(Protocol):
    """A site's own sums of one study's last steps, durable, and as private as records."""

    def steps(self) -> tuple[int, ...]:
        """Return the steps whose sums are kept."""
        ...

    def sums(self) -> dict[int, bytes]:
        """Return the sums that are kept, by step."""
        ...

    def keep(self, step: int, total: bytes, *, most: int) -> None:
        """Keep the sum of `step`, and of the others those of the `most` newest steps with it, durably."""
        ...


class Ledger(Protocol):
    """The durable account of the attempts that one study has charged to its members at one site."""

    def charge(self, attempt: int) -> None:
        """Record `attempt` durably, in full, for every member, before returning.

        Raises `ProtocolRefused` for an attempt not above every earlier one, and `BudgetRefused` when the
        policy's attempts are used up.
        """
        ...

    def highest(self) -> int:
        """Return the highest attempt ever charged, 0 if none."""
        ...
