"""AUC and true positive rate: what the limits rest on, and that wrong ways to them are caught.

Every check is a count of misses in independent repetitions, compared with the 99.99 % quantile of the
binomial at the claimed rate: a right method fails a check once in 10,000 runs, and seeds are fixed.
"""

from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.statistics import auc, threshold_ranks
from oathbound.core.finding import Auc
from oathbound.core.pooling import pool

pytestmark = pytest.mark.statistical
ALPHA = 0.025
SURE = 0.9999


def tolerated(repetitions, rate=ALPHA):
    return stats.binom.ppf(SURE, repetitions, rate)


def test_the_exact_limit_of_perfect_separation_is_valid_and_sharp():
    # The hardest case: every held-out patient ties, a member lies above with probability A, else below.
    rng = np.random.default_rng(5)
    repetitions, pairs = 4000, 18  # 20 published members may be 18
    measure = Auc(
        kind="auc",
        score="loss",
        estimate=Decimal(1),
        standard_error=Decimal(0),
        members=20,
        held_out=100,
    )
    excluded = float(pool([measure]).interval(ALPHA).lower) - 1e-9
    bolder = ALPHA ** (1 / (2 * pairs))
    perfect = (rng.random((repetitions, pairs)) < excluded).all(axis=1).sum()
    assert perfect <= tolerated(repetitions)
    assert (rng.random((repetitions, pairs)) < bolder).all(axis=1).sum() > tolerated(repetitions)


def test_a_threshold_taken_as_known_is_caught():
    # The usual way: the empirical 99 % quantile of the held-out scores, as if it were the true one.
    rng = np.random.default_rng(8)
    truth, wrong = stats.norm.sf(stats.norm.isf(0.01) - 1.0), 0
    for _ in range(800):
        held_out, members = rng.normal(0, 1, 437), rng.normal(1.0, 1, 5000)
        hits = int((members > np.quantile(held_out, 0.99)).sum())
        ends = stats.binomtest(hits, 5000).proportion_ci(0.95)
        wrong += not ends.low <= truth <= ends.high
    assert wrong > tolerated(800, 2 * ALPHA)


@pytest.mark.parametrize("held_out", [437, 1000, 5000])
def test_threshold_ranks_enclose_one_percent(held_out):
    strict, lax = threshold_ranks(held_out)
    assert stats.beta.cdf(0.01, strict, held_out + 1 - strict) >= 0.9875
    assert stats.beta.cdf(0.01, strict + 1, held_out - strict) < 0.9875
    assert stats.beta.sf(0.01, lax, held_out + 1 - lax) >= 0.9875
    assert stats.beta.sf(0.01, lax - 1, held_out + 2 - lax) < 0.9875


def test_without_the_correction_for_many_claims_there_are_too_many_alarms():
    rng = np.random.default_rng(10)
    alarms = 0
    for _ in range(500):
        scores = rng.normal(size=(300, 9))
        alarms += any(
            float(pool([auc("s", column[:200], column[200:], minimum=20)]).interval(ALPHA).lower) > 0.5
            for column in scores.T
        )
    assert alarms > tolerated(500)
