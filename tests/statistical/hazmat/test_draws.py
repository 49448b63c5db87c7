"""Do draws have the distribution that they should? Every test that accepts has one that rejects, at p = 1e-6.

A right sampler fails each comparison here once in a million runs.
"""

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
from numpy.typing import NDArray

from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli, permutation, random_bytes

stats = pytest.importorskip("scipy.stats")

pytestmark = pytest.mark.statistical

ALPHA = 1e-6
DRAWS = 200_000
SIGMAS = ["8", "100.5", "15000", "131072"]


def probabilities(sigma: float) -> tuple[int, NDArray[np.float64]]:
    """Return the exact probabilities of -reach, ..., reach."""
    reach = int(13 * sigma) + 1
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return reach, weights / weights.sum()


def chi_square(draws: NDArray[np.int64], sigma: float, cells: int = 60) -> float:
    """Return the p-value of `draws` under the discrete Gaussian, in cells of about equal probability."""
    reach, exact = probabilities(sigma)
    cell = np.minimum((np.cumsum(exact) * cells).astype(int), cells - 1)
    expected = np.bincount(cell, weights=exact, minlength=cells) * len(draws)
    found = np.bincount(cell[np.clip(draws, -reach, reach) + reach], minlength=cells)
    used = expected > 0
    return float(stats.chisquare(found[used], expected[used]).pvalue)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_accepts_the_right_sigma(sigma: str) -> None:
    assert chi_square(DiscreteGaussian(Decimal(sigma)).sample(DRAWS), float(sigma)) > ALPHA


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_rejects_another_sigma(sigma: str, factor: float) -> None:
    assert chi_square(DiscreteGaussian(Decimal(sigma)).sample(DRAWS), float(sigma) * factor) < ALPHA


@pytest.mark.parametrize("sigma", [8.0, 15000.0])
def test_rejects_a_rounded_continuous_gaussian_of_another_scale(sigma: float) -> None:
    rounded = np.rint(np.random.default_rng().normal(0, sigma * 1.03, DRAWS)).astype(np.int64)
    assert chi_square(rounded, sigma) < ALPHA


def test_rejects_noise_that_lost_its_last_bit() -> None:
    """A fault that no test of scale sees: values that are all even."""
    sigma = 8.0
    good = DiscreteGaussian(Decimal(8)).sample(DRAWS)
    even = 2 * np.rint(good / 2).astype(np.int64)
    assert finest(good, sigma) > ALPHA
    assert finest(even, sigma) < ALPHA


def finest(draws: NDArray[np.int64], sigma: float) -> float:
    """Return the p-value with a cell for every integer within three deviations."""
    reach, exact = probabilities(sigma)
    near = np.abs(np.arange(-reach, reach + 1)) <= 3 * sigma
    expected = np.append(exact[near], exact[~near].sum()) * len(draws)
    counts = np.bincount(draws + reach, minlength=len(exact))
    found = np.append(counts[near], counts[~near].sum())
    return float(stats.chisquare(found, expected).pvalue)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_low_bits_of_large_noise_are_uniform(sigma: str) -> None:
    draws = DiscreteGaussian(Decimal(sigma)).sample(DRAWS)
    assert stats.chisquare(np.bincount(draws % 8, minlength=8)).pvalue > ALPHA
    assert stats.chisquare(np.bincount((draws - draws % 2) % 8, minlength=8)).pvalue < ALPHA


@pytest.mark.parametrize("sigma", SIGMAS)
def test_moments_and_independence(sigma: str) -> None:
    """Mean, variance, fourth moment and neighbours' correlation, each within 6 of its deviations."""
    z = DiscreteGaussian(Decimal(sigma)).sample(DRAWS) / float(sigma)
    deviation = 6 / np.sqrt(DRAWS)
    assert abs(z.mean()) < deviation
    assert abs((z**2).mean() - 1) < deviation * np.sqrt(2)
    assert abs((z**4).mean() - 3) < deviation * np.sqrt(96)
    assert abs((z[1:] * z[:-1]).mean()) < deviation


def test_sums_of_shares_are_gaussian_of_their_total() -> None:
    shares = sum(
        (DiscreteGaussian(Decimal(20)).sample(DRAWS) for _ in range(4)), np.zeros(DRAWS, dtype=np.int64)
    )
    assert chi_square(shares, 40.0) > ALPHA
    assert chi_square(shares, 41.2) < ALPHA


@pytest.mark.parametrize("probability", ["0.01", "0.5", "0.987654321"])
def test_coins(probability: str) -> None:
    heads = int(bernoulli(Decimal(probability), 10**6).sum())
    p = float(probability)
    assert stats.binomtest(heads, 10**6, p).pvalue > ALPHA
    shift = 12 * np.sqrt(p * (1 - p) / 10**6)
    assert stats.binomtest(heads, 10**6, p - shift).pvalue < ALPHA
    assert stats.binomtest(heads, 10**6, p + shift).pvalue < ALPHA


@pytest.mark.parametrize("swap", [False, True])
def test_permutations_are_uniform(*, swap: bool) -> None:
    """All 24 orders of four; and not when the smaller of the first two always comes first."""
    found: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = permutation(4).tolist()
        if swap:
            order[:2] = sorted(order[:2])
        found[tuple(order)] = found.get(tuple(order), 0) + 1
    counts = list(found.values()) + [0] * (24 - len(found))
    assert (stats.chisquare(counts).pvalue > ALPHA) is not swap


def of_the_kernel(n: int) -> bytes:
    return b"".join(random_bytes(4000) for _ in range(n // 4000))


@pytest.mark.parametrize("source", [random_bytes, of_the_kernel])
def test_bytes_are_uniform(source: Callable[[int], bytes]) -> None:
    drawn = np.frombuffer(source(400_000), dtype=np.uint8)
    assert stats.chisquare(np.bincount(drawn, minlength=256)).pvalue > ALPHA
    assert stats.chisquare(np.bincount(drawn & 0xFE, minlength=256)).pvalue < ALPHA
