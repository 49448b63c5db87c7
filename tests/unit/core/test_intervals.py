"""Intervals against SciPy and against what can be said exactly."""

import itertools
from decimal import Decimal

import pytest
from scipy import stats

from oathbound.core.intervals import binomial_at_most, clopper_pearson, logit, normal, quantile

ALPHA = 0.025


@pytest.mark.parametrize(
    ("hits", "n"),
    [(0, 300), (3, 300), (150, 300), (299, 300), (300, 300), (0, 1), (1, 1), (200, 20_000), (9_999, 20_000)],
)
@pytest.mark.parametrize("alpha", [0.025, 0.0001])
def test_clopper_pearson_is_the_beta_quantile_rounded_outward(hits, n, alpha):
    ends = clopper_pearson(hits, n, alpha)
    lower = stats.beta.ppf(alpha, hits, n - hits + 1) if hits else 0.0
    upper = stats.beta.ppf(1 - alpha, hits + 1, n - hits) if hits < n else 1.0
    assert 0 <= lower - float(ends.lower) < 0.001 + 1e-9
    assert 0 <= float(ends.upper) - upper < 0.001 + 1e-9


def test_no_hits_give_the_rule_of_three():
    assert clopper_pearson(0, 300, 0.05).upper == Decimal("0.010")


@pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(hits, n):
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson(hits, n, ALPHA)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, -1.0, float("nan")])
def test_an_end_needs_an_error_rate_below_one_half(alpha):
    for interval in (
        lambda: clopper_pearson(1, 10, alpha),
        lambda: normal(Decimal("0.1"), Decimal("0.1"), alpha),
        lambda: quantile(alpha),
    ):
        with pytest.raises(ValueError, match="alpha"):
            interval()


def test_binomial_tail_is_exact_on_both_sides_of_the_mean():
    for n, p in itertools.product((1, 7, 436, 20_000), (0.0, 1e-6, 0.01, 0.3, 0.99, 1.0)):
        for k in {-1, 0, 1, int(n * p), int(n * p) + 3, n - 1, n}:
            assert binomial_at_most(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-8, abs=1e-12)


def test_what_is_less_than_any_float_is_not_summed_term_by_term():
    """Whoever reads a count of a thousand million would wait an hour for a limit that is nought."""
    assert binomial_at_most(10**9 // 2, 10**9, 0.75) == 0


def test_normal_ends_contain_every_estimate_that_rounds_to_the_published_one():
    ends = normal(Decimal("0.010"), Decimal("0.005"), ALPHA)
    assert float(ends.lower) <= 0.0095 - 1.95996 * 0.005
    assert float(ends.upper) >= 0.0105 + 1.95996 * 0.005


def test_logit_ends_stay_in_the_unit_interval_and_cover_the_estimate():
    for auc, error in itertools.product(("0.001", "0.5", "0.93", "0.999", "1", "0"), ("0.001", "0.2")):
        ends = logit(Decimal(auc), Decimal(error), 100, ALPHA)
        assert 0 <= ends.lower <= Decimal(auc) <= ends.upper <= 1


def test_perfect_separation_has_the_exact_rank_limit_and_its_mirror():
    above = logit(Decimal(1), Decimal(0), 100, ALPHA)
    below = logit(Decimal(0), Decimal(0), 100, ALPHA)
    assert above.upper == 1
    assert float(above.lower) <= ALPHA ** (1 / 100) < float(above.lower) + 0.001
    assert (below.lower, below.upper) == (1 - above.upper, 1 - above.lower)


def test_the_rank_limit_is_only_for_perfect_separation_without_an_error():
    """An AUC that was rounded to 1 has its own error; one of a half without an error is only rounded."""
    exact, rounded = (logit(Decimal(1), Decimal(error), 100, ALPHA) for error in ("0", "0.0001"))
    assert exact.lower < Decimal("0.97") < rounded.lower
    half = logit(Decimal("0.5"), Decimal(0), 100, ALPHA)
    assert (half.lower, half.upper) == (Decimal("0.499"), Decimal("0.501"))


def test_no_pairs_say_nothing_about_perfect_separation():
    assert logit(Decimal(1), Decimal(0), 0, ALPHA).lower == 0
