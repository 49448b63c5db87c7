"""Score limits against Wilson's formula, the error of an AUC against exact ones, and both in a pool."""

import math
from decimal import Decimal

import pytest
from scipy import stats

from oathbound.core.finding import Auc, Excess
from oathbound.core.intervals import hanley_mcneil, score_limits
from oathbound.core.pooling import pool

ALPHA = 0.025


@pytest.mark.parametrize(("hits", "n"), [(0, 100), (1, 400), (50, 100), (99, 100), (100, 100)])
def test_with_the_error_of_a_proportion_they_are_wilsons(hits, n):
    def error(value):
        return math.sqrt(value * (1 - value) / n)

    ends = score_limits(Decimal(hits) / n, error, ALPHA, least=0)
    wilson = stats.binomtest(hits, n).proportion_ci(1 - 2 * ALPHA, method="wilson")
    # half a unit of the last digit for the estimate, which the formula stretches, and one for rounding
    assert 0 <= wilson.low - float(ends.lower) <= 0.003
    assert 0 <= float(ends.upper) - wilson.high <= 0.003


@pytest.mark.parametrize("mean", [1.0, 3.0, 20.0])
def test_the_error_is_exact_for_exponential_scores(mean):
    # Members' scores have this mean, held-out ones 1; the variance is that of a U-statistic of two samples.
    m, n, area = 51, 58, mean / (1 + mean)
    two_members = mean / (mean + 2)
    two_held_out = 1 - 2 / (1 + mean) + 1 / (1 + 2 * mean)
    spread = (m - 1) * (two_members - area**2) + (n - 1) * (two_held_out - area**2)
    exact = math.sqrt((area * (1 - area) + spread) / (m * n))
    assert 0.999 * exact <= hanley_mcneil(area, m, n) <= 1.5 * exact


@pytest.mark.parametrize(("members", "held_out"), [(40, 40), (1000, 40), (40, 1000)])
def test_at_chance_the_error_is_that_of_the_rank_test(members, held_out):
    exact = math.sqrt((members + held_out + 1) / (12 * members * held_out))
    assert hanley_mcneil(0.5, members, held_out) == pytest.approx(exact)
    assert hanley_mcneil(0.9, members, held_out) == pytest.approx(hanley_mcneil(0.1, members, held_out))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_spread_there_is_no_error(value):
    assert hanley_mcneil(value, 10, 10) == pytest.approx(0)


def auc(error):
    return Auc(
        kind="auc",
        score="loss",
        estimate=Decimal("0.550"),
        standard_error=Decimal(error),
        members=200,
        held_out=100,
    )


def test_no_published_error_makes_an_auc_surer_than_its_counts_allow():
    honest, bold = (pool([auc(error)]).interval(ALPHA) for error in ("0.035", "0.001"))
    assert bold.upper - bold.lower > Decimal("0.9") * (honest.upper - honest.lower)


@pytest.mark.parametrize("members", [20, 100, 1000])
def test_no_excess_seen_in_n_members_leaves_room_for_what_n_may_miss(members):
    measure = Excess(
        kind="excess",
        score="emission",
        estimate=Decimal(0),
        standard_error=Decimal("0.001"),
        member_mean=Decimal("0.1"),
        held_out_mean=Decimal("0.1"),
        members=members,
        held_out=members,
        strata="none",
    )
    ends = pool([measure]).interval(ALPHA)
    missed = 1 - ALPHA ** (1 / members)  # the share that none of n has with probability alpha
    assert float(ends.upper) >= missed
    assert float(ends.upper) <= 1.3 * missed + 0.005
    assert float(ends.lower) >= -0.0035
