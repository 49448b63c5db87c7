"""Adam (Kingma and Ba 2015, algorithm 1) on one vector.

On noised sums it is post-processing, and costs no privacy.
Elementwise float32 operations alone, each rounded once, so that every machine computes the same weights.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

FIRST_DECAY: Final = 0.9
SECOND_DECAY: Final = 0.999
_EPSILON: Final = 1e-8


@dataclass(frozen=True, slots=True)
class Adam:
    """The weights, and the running means of gradients and of their squares: float32 [d] each."""

    weights: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]

    @classmethod
    def at(cls, weights: NDArray[np.float32]) -> Self:
        """Return the state before the first step."""
        return cls(weights, np.zeros_like(weights), np.zeros_like(weights))

    def stepped(self, gradient: NDArray[np.float32], *, step: int, rate: float) -> "Adam":
        """Return the state after `step`, counted from 1, with learning rate `rate`."""
        first = np.float32(FIRST_DECAY) * self.first + np.float32(1 - FIRST_DECAY) * gradient
        second = np.float32(SECOND_DECAY) * self.second + np.float32(1 - SECOND_DECAY) * gradient * gradient
        slope = first / np.float32(1 - FIRST_DECAY**step)
        spread = np.sqrt(second / np.float32(1 - SECOND_DECAY**step)) + np.float32(_EPSILON)
        weights = self.weights - np.float32(rate) * slope / spread
        return Adam(weights.astype(np.float32), first.astype(np.float32), second.astype(np.float32))
