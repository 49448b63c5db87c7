"""The discrete Gaussian's table, against the exact distribution, and its draws, against the definition."""

from bisect import bisect_right
from decimal import Decimal
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.hazmat.gaussian import DiscreteGaussian, _thresholds
from oathbound.hazmat.random import Words


def known(seed: int) -> Words:
    generator = np.random.default_rng(seed)
    return lambda n: generator.integers(0, 2**64, n, dtype=np.uint64)


def scripted(*answers: list[int]) -> Words:
    """Return a source that gives these words, call by call, and fails on a call of another length."""
    rest = iter(answers)

    def words(n: int) -> NDArray[np.uint64]:
        answer = next(rest)
        assert len(answer) == n
        return np.array(answer, dtype=np.uint64)

    return words


def thresholds(gaussian: DiscreteGaussian) -> list[int]:
    table = gaussian._table
    return [int(h) << 64 | int(low) for h, low in zip(table.high, table.low, strict=True)]


def test_distance_from_the_exact_distribution_is_below_the_tail() -> None:
    mp = pytest.importorskip("mpmath").mp
    gaussian = DiscreteGaussian(Decimal(8))
    drawn = [b - a for a, b in pairwise([0, *thresholds(gaussian), 2**127])]
    with mp.workdps(60):
        weights = [mp.exp(-mp.mpf(m * m) / 128) for m in range(300)]
        whole = 2 * mp.fsum(weights) - 1
        exact = [weights[0] / whole] + [2 * w / whole for w in weights[1:]]
        drawn += [0] * (len(exact) - len(drawn))
        distance = mp.fsum(mp.fabs(mp.mpf(d) / 2**127 - p) for d, p in zip(drawn, exact, strict=True)) / 2
        assert 0 < distance < mp.mpf(str(DiscreteGaussian.tail)) / 1000


@pytest.mark.parametrize("sigma", ["15000", "15952.872105"])
def test_thresholds_by_another_way(sigma: str) -> None:
    """P(|X| <= m) with the normaliser from Poisson summation, sigma sqrt(2 pi), to the last of 127 bits."""
    mp = pytest.importorskip("mpmath").mp
    found = thresholds(DiscreteGaussian(Decimal(sigma)))
    with mp.workdps(80):
        s = mp.mpf(sigma)
        cumulative = -mp.mpf(1)
        for m in range(2000):
            cumulative += 2 * mp.exp(-mp.mpf(m * m) / (2 * s * s))
            exact = cumulative / (s * mp.sqrt(2 * mp.pi)) * 2**127
            # Below, by rounding; above, by the cut, whose mass is less than 2^-121.
            assert exact - 1 < found[m] < exact * (1 + mp.mpf(2) ** -121)
    assert len(found) == ceil(13 * Decimal(sigma))
    assert found[-1] < 2**127


@pytest.mark.parametrize("sigma", [8, 300, 15000])
def test_draws_follow_the_definition(sigma: int) -> None:
    gaussian = DiscreteGaussian(Decimal(sigma))
    words = known(1)(70_000)
    table = list(_thresholds(Decimal(sigma), 13 * sigma))
    expected = [
        bisect_right(table, (int(w) >> 1) << 64) * (-1 if int(w) & 1 else 1) for w in words
    ]  # no ties by chance, so that the low words do not matter
    assert gaussian.sample(70_000, words=known(1)).tolist() == expected


@pytest.mark.parametrize("m", [0, 1, 7, 60])
def test_low_word_decides_a_tie(m: int) -> None:
    gaussian = DiscreteGaussian(Decimal(8))
    high, low = int(gaussian._table.high[m]), int(gaussian._table.low[m])
    for offset, expected in ((-1, m), (0, m + 1), (1, m + 1)):
        drawn = gaussian.sample(2, words=scripted([high << 1, 1], [low + offset]))
        assert drawn.tolist() == [expected, 0]


def test_tie_among_thresholds_with_the_same_high_word() -> None:
    """Far out the thresholds crowd: many share their high word, and the low word chooses among them."""
    gaussian = DiscreteGaussian(Decimal(8))
    high = gaussian._table.high
    assert high[-1] == high[-10] == 2**63 - 1
    for m in range(len(high) - 9, len(high)):
        low = int(gaussian._table.low[m])
        drawn = gaussian.sample(1, words=scripted([2**64 - 1], [low]))
        assert drawn.tolist() == [-(m + 1)]
        drawn = gaussian.sample(1, words=scripted([2**64 - 1], [low - 1]))
        assert drawn.tolist() == [-m]


def test_extreme_words_stay_within_the_cut() -> None:
    gaussian = DiscreteGaussian(Decimal(100))
    assert gaussian.sample(2, words=scripted([0, 1])).tolist() == [0, 0]
    assert gaussian.sample(1, words=scripted([2**64 - 2], [2**64 - 1])).tolist() == [1300]


def test_draws_nothing_and_more_than_a_block() -> None:
    gaussian = DiscreteGaussian(Decimal(8))
    assert gaussian.sample(0).shape == (0,)
    many = gaussian.sample(200_001)
    assert many.dtype == np.int64
    assert (many[-1000:] != 0).any()
    assert (many != gaussian.sample(200_001)).any()


@pytest.mark.parametrize("sigma", ["7.999999", "131072.000001", "0", "-8"])
def test_refuses_a_sigma_out_of_range(sigma: str) -> None:
    with pytest.raises(WrongInput, match="between 8 and 131072"):
        DiscreteGaussian(Decimal(sigma))
