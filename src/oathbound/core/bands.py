"""How the noise of DP-FTRL is correlated over steps: the integer matrix that the sums are multiplied by.

The lower triangular Toeplitz matrix whose column is the first `bands` coefficients of (1 - x)^(-1/2), the
square root of the matrix of prefix sums (Fichtenberger, Henzinger, Upadhyay 2023), cut after `bands` (Kalinin
and Lampert 2024), in integers: what sites add on the ring stays exact, and so does what bounds one patient.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Final

SCALE: Final = 8
"""The first coefficient. A finer one would leave fewer of the sampler's bits to a patient's vector.

Against real coefficients the error of prefix sums grows by at most 6 % (`spec/training.md`).
"""

MOST_BANDS: Final = 64
"""From 83 on coefficients would round to 0 at this scale."""


@lru_cache(maxsize=64)
def coefficients(bands: int) -> tuple[int, ...]:
    """Return c_0, ..., c_(bands - 1): 8 times 1, 1/2, 3/8, 5/16, ..., each rounded, halves up.

    They fall, at first strictly, so all zeros of their polynomial lie outside the unit circle (Enestroem and
    Kakeya): noise is not blown up by solving for the sums.
    """
    exact, rounded = Fraction(SCALE), []
    for j in range(bands):
        rounded.append(int(exact + Fraction(1, 2)))
        exact *= Fraction(2 * j + 1, 2 * j + 2)
    return tuple(rounded)
