"""The discrete Gaussian on the integers, by exact inversion from a cryptographic source.

P(X = x) is proportional to exp(-x^2 / 2 sigma^2), for every integer x (Canonne, Kamath, Steinke 2020). No
float takes part, so no low bits of a float give away what the noise was added to (Mironov 2012).

A draw takes one 64-bit word: its last bit is the sign, the others are the high bits of a uniform U < 2^127.
The magnitude is the number of thresholds C_m <= U, with C_m = 2^127 P(|X| <= m) rounded down, 0 <= m < M.
The 64 low bits of U decide only where the high bits equal a threshold's, and only then they are drawn.

Distance from the exact distribution, in total variation, per draw:

1. Cut at M = ceil(13 sigma). Given |X| <= M, the distance is P(|X| > M). That is at most
   2 * integral from M of exp(-x^2 / 2 sigma^2) / Z, where Z >= sigma sqrt(2 pi) by Poisson summation, so at
   most exp(-13^2 / 2) < 2^-121.
2. Arithmetic. Weights are fixed-point numbers in units of 2^-256, every product rounded down. The start
   values are less than 2 units too small, so the ratio of step m is less than 2m + 2, the weight less than
   (m + 1)(m + 2), and a sum less than (M + 2)^3 < 2^63: less than 2^-190 in P(|X| <= m).
3. Rounding down to 2^-127, and (2), move P(|X| = m) by less than 2^-126, for each m <= M.

Half the sum of (3) over m, and (1), are below (M + 1) 2^-127 + 2^-121 < 2e-32 for sigma <= 2^17.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import accumulate
from math import ceil
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.accounting import LEAST_SHARE_SIGMA, SAMPLER_TAIL
from oathbound.core.errors import WrongInput
from oathbound.hazmat.random import Words, random_words

GREATEST_SIGMA: Final = Decimal(2**17)

_CUT: Final = 13
_FRACTION: Final = 256
_ONE: Final = 1 << _FRACTION
_THRESHOLD_BITS: Final = 127
_GUIDE_BITS: Final = 20
_BLOCK: Final = 1 << 16  # draws at a time, so that what is drawn and found stays in the cache


class DiscreteGaussian:
    """The discrete Gaussian of parameter `sigma`; `WrongInput` unless 8 <= sigma <= 2^17.

    The time of a draw depends on what is drawn, weakly; who can time single draws learns about them.
    """

    tail: ClassVar[Decimal] = SAMPLER_TAIL
    """Bounds the total variation distance of one draw from the exact distribution, for every sigma."""

    def __init__(self, sigma: Decimal) -> None:
        if not LEAST_SHARE_SIGMA <= sigma <= GREATEST_SIGMA:
            raise WrongInput(
                f"the noise parameter must be between {LEAST_SHARE_SIGMA} and {GREATEST_SIGMA} ring units",
                hint="change ring_norm, the norm that a patient's clipped gradient is scaled to",
            )
        self.sigma = sigma
        self._table = _table(sigma)

    def sample(self, n: int, *, words: Words = random_words) -> NDArray[np.int64]:
        """Return `n` independent draws, int64 [n]."""
        draws = np.empty(n, dtype=np.int64)
        for start in range(0, n, _BLOCK):
            block = draws[start : start + _BLOCK]
            self._table.draw(block, words)
        return draws


@dataclass(frozen=True, eq=False)
class _Table:
    """The thresholds, high (63 bits) and low (64 bits), uint64 [M], and a guide to them, int32 [2^20].

    A cell of the guide stands for all U with the same first 20 bits. It holds their magnitude, or -1 where a
    threshold falls into the cell.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    guide: NDArray[np.int32]

    def draw(self, out: NDArray[np.int64], words: Words) -> None:
        """Fill `out`."""
        drawn = words(len(out))
        out[:] = self.guide[drawn >> (64 - _GUIDE_BITS)]
        unsure = np.flatnonzero(out < 0)
        out[unsure] = self._search(drawn[unsure] >> np.uint64(1), words)
        np.negative(out, out=out, where=(drawn & 1).astype(np.bool_))

    def _search(self, high: NDArray[np.uint64], words: Words) -> NDArray[np.int64]:
        found = np.searchsorted(self.high, high, side="left")
        tied = self.high[np.minimum(found, len(self.high) - 1)] == high
        for i in np.flatnonzero(tied):
            end = np.searchsorted(self.high, high[i], side="right")
            found[i] += np.searchsorted(self.low[found[i] : end], words(1)[0], side="right")
        return found


@lru_cache(maxsize=4)
def _table(sigma: Decimal) -> _Table:
    count = ceil(_CUT * sigma)
    thresholds = b"".join(c.to_bytes(16, "big") for c in _thresholds(sigma, count))
    high, low = np.frombuffer(thresholds, dtype=">u8").astype(np.uint64).reshape(count, 2).T.copy()
    inside = np.bincount((high >> (63 - _GUIDE_BITS)).astype(np.int64), minlength=1 << _GUIDE_BITS)
    guide = np.where(inside == 0, np.cumsum(inside), -1).astype(np.int32)
    return _Table(high, low, guide)


def _thresholds(sigma: Decimal, count: int) -> Iterator[int]:
    """Yield floor(2^127 P(|X| <= m)) for m = 0, ..., count - 1, given |X| <= count."""
    whole = 2 * sum(_weights(sigma, count + 1)) - _ONE
    for cumulative in accumulate(_weights(sigma, count)):
        yield ((2 * cumulative - _ONE) << _THRESHOLD_BITS) // whole


def _weights(sigma: Decimal, count: int) -> Iterator[int]:
    """Yield exp(-m^2 / 2 sigma^2) for m = 0, ..., count - 1, in units of 2^-256.

    The ratio of two neighbours is exp(-(2m + 1) / 2 sigma^2), and the ratio of two ratios is constant.
    """
    with localcontext(prec=100):
        exponent = -1 / (2 * sigma * sigma)
        ratio = int(exponent.exp() * _ONE)
        decay = int((2 * exponent).exp() * _ONE)
    weight = _ONE
    for _ in range(count):
        yield weight
        weight = weight * ratio >> _FRACTION
        ratio = ratio * decay >> _FRACTION
