"""Limits by betting hold for skewed values and few of them, where normal ones do not."""

import numpy as np
import pytest
from scipy import stats

from oathbound.audit import betting
from oathbound.audit.betting import betting_limits

pytestmark = pytest.mark.statistical
ALPHA, REPEATED, SURE = 0.05, 2000, 0.9999
TOLERATED = stats.binom.ppf(SURE, REPEATED, ALPHA)


def rare(rng, shape):
    """1 % of patients are memorised; the others' probabilities are small."""
    return np.where(rng.random(shape) < 0.01, 0.95, rng.beta(1, 60, shape))


CASES = {
    "skewed": (lambda rng, shape: rng.beta(0.5, 8, shape), 0.5 / 8.5),
    "rare": (rare, 0.0095 + 0.99 / 61),
    "coin": (lambda rng, shape: (rng.random(shape) < 0.5) * 1.0, 0.5),
    "rare coin": (lambda rng, shape: (rng.random(shape) < 0.01) * 1.0, 0.01),
    "nearly always": (lambda rng, shape: 1 - rng.beta(0.5, 20, shape), 1 - 0.5 / 20.5),
    "constant": (lambda _, shape: np.full(shape, 0.25), 0.25),
}


def misses(drawn, truth, n, limits):
    rng = np.random.default_rng(n)
    values = drawn(rng, (REPEATED, n))
    lower, upper = limits(values, rng)
    return int(((lower > truth) | (upper < truth)).sum())


def bet(values, rng):
    return betting_limits(values, alpha=ALPHA, rng=rng)


def normal(values, _):
    half = stats.t.isf(ALPHA / 2, values.shape[1] - 1) * values.std(axis=1, ddof=1) / values.shape[1] ** 0.5
    return values.mean(axis=1) - half, values.mean(axis=1) + half


@pytest.mark.parametrize("n", [2, 10, 40, 300])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_betting_limits_cover(case, n):
    assert misses(*case, n, bet) <= TOLERATED


@pytest.mark.parametrize(("name", "n"), [("skewed", 10), ("rare", 40), ("rare", 300), ("rare coin", 40)])
def test_normal_limits_of_few_skewed_values_are_caught(name, n):
    assert misses(*CASES[name], n, normal) > TOLERATED


def in_order(values, _):
    """Limits that bet on the values in ascending order, which the stakes then foresee."""

    class Unshuffled:
        permuted = staticmethod(lambda rows, axis: np.sort(rows, axis=axis))

    return betting_limits(values, alpha=ALPHA, rng=Unshuffled())


def test_a_bet_on_sorted_values_is_caught():
    assert misses(*CASES["coin"], 300, in_order) > TOLERATED
    assert misses(*CASES["coin"], 300, lambda values, rng: bet(np.sort(values, axis=1), rng)) <= TOLERATED


def test_no_stake_depends_on_its_own_value_or_a_later_one():
    values = np.random.default_rng(6).random((5, 12))
    for i in range(12):
        other = values.copy()
        other[:, i:] **= 3
        stakes, changed = betting._stakes(values, ALPHA), betting._stakes(other, ALPHA)
        np.testing.assert_array_equal(stakes[:, : i + 1], changed[:, : i + 1])
        assert (stakes[:, i + 1 :] != changed[:, i + 1 :]).all()


def test_betting_limits_are_not_much_wider_than_normal_ones_where_those_hold():
    rng = np.random.default_rng(1)
    values = rng.beta(2, 2, (200, 1000))
    (lower, upper), (below, above) = bet(values, rng), normal(values, rng)
    assert (upper - lower).mean() < 1.3 * (above - below).mean()


def test_none_of_n_is_bounded_by_little_more_than_3_over_n():
    """The exact one-sided limit of 0 of n at 2.5 % is 1 - 0.025^(1/n), about 3.7 / n."""
    for n in (10, 100, 1000):
        lower, upper = bet(np.zeros((1, n)), np.random.default_rng(2))
        exact = 1 - (ALPHA / 2) ** (1 / n)
        assert lower == 0
        assert exact <= upper[0] <= 1.35 * exact


@pytest.mark.parametrize(
    "values", [np.zeros((3, 0)), np.zeros(3), np.full((1, 2), 1.01), np.full((1, 2), np.nan)]
)
def test_what_is_not_bounded_is_refused(values):
    with pytest.raises(ValueError, match=r"between 0 and 1|rows of at least one"):
        bet(values, np.random.default_rng(0))


def test_limits_enclose_and_widen():
    """The mean lies within, less certainty is narrower, and larger values have larger limits."""
    rng = np.random.default_rng(4)
    values = rng.beta(0.5, 3, (500, 30))
    lower, upper = betting_limits(values, alpha=0.05, rng=np.random.default_rng(5))
    assert ((lower <= values.mean(axis=1)) & (values.mean(axis=1) <= upper)).all()
    inner = betting_limits(values, alpha=0.2, rng=np.random.default_rng(5))
    assert (inner[1] - inner[0]).mean() < (upper - lower).mean()
    mirrored = betting_limits(1 - values, alpha=0.05, rng=np.random.default_rng(5))
    np.testing.assert_allclose(1 - mirrored[1], lower, atol=1e-9)
