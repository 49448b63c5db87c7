"""The noise of DP-FTRL: what is opened has fresh noise in every step, and the sums of steps have less."""

from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.accounting import share_sigma
from oathbound.core.bands import coefficients
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.train.ftrl import Solved

BANDS, STEPS, WIDTH = 10, 100, 4000
SOME = coefficients(BANDS)
NOISE = {"noise_multiplier": Decimal(5), "ring_norm": 1024, "honest_shares": 2}
FAR = 5.0


def opened(some):
    """Return the noise of two honest sites in what is opened, int64 [T, d], for one epsilon."""
    noise = DiscreteGaussian(share_sigma(**NOISE, coefficients=some))
    return np.array([noise.sample(WIDTH) + noise.sample(WIDTH) for _ in range(STEPS)])


def solved(some, rows):
    state, out = Solved.at_first(some, WIDTH), []
    for row in rows:
        each, state = state.solve(row)
        out.append(each)
    return np.array(out)


def prefix_error(sums):
    return np.sqrt((np.cumsum(sums, axis=0) ** 2).mean())


def expected_ratio(some):
    """Return the error of prefix sums against independent noise, from the inverse matrix."""
    matrix = sum(c * np.eye(STEPS, k=-j) for j, c in enumerate(some))
    prefix = np.tril(np.ones((STEPS, STEPS)))
    error = np.linalg.norm(prefix @ np.linalg.inv(matrix)) * np.sqrt(sum(c * c for c in some))
    return error / np.linalg.norm(prefix)


@pytest.fixture(scope="module")
def noise():
    return opened(SOME)


def test_what_is_opened_has_the_planned_noise_fresh_in_every_step(noise):
    planned = float(5 * 1024 * Decimal(sum(c * c for c in SOME)).sqrt())
    size = STEPS * WIDTH
    assert abs(noise.std() / planned - 1) < FAR / np.sqrt(2 * size)
    for back in (1, 2, BANDS - 1):
        correlation = (noise[back:] * noise[:-back]).mean() / planned**2
        assert abs(correlation) < FAR / np.sqrt(size - back * WIDTH)
    # noise that a site kept for the next step, and noise for one coefficient alone, would be seen
    reused = noise[1:] + noise[:-1]
    assert (reused[1:] * reused[:-1]).mean() / planned**2 > 0.9
    assert abs(opened((1,)).std() / planned - 1) > 0.5


def test_prefix_sums_have_less_error_than_with_independent_noise_at_the_same_epsilon(noise):
    independent = opened((1,))
    ratio = prefix_error(solved(SOME, noise)) / prefix_error(independent)
    assert ratio == pytest.approx(expected_ratio(SOME), rel=0.03)
    assert 0.40 < ratio < 0.46
    # not so for who does not solve for the sums, nor for who solves with other coefficients
    assert prefix_error(noise / SOME[0]) / prefix_error(independent) > 1.2
    wrong = prefix_error(solved((SOME[0], *([1] * (BANDS - 1))), noise)) / prefix_error(independent)
    assert wrong > 1.3 * ratio


@pytest.mark.parametrize("bands", [2, 10, 20, 50, 64])
def test_eighths_lose_at_most_6_percent(bands):
    exact = np.cumprod([1.0, *((2 * j - 1) / (2 * j) for j in range(1, bands))])
    assert 0.98 < expected_ratio(coefficients(bands)) / expected_ratio(tuple(exact)) < 1.06
