"""AUC and true positive rate: the limits hold as often as they claim, and wrong ones are caught.

Every check is a count of misses in independent repetitions, compared with the 99.99 % quantile of the
binomial at the claimed rate: a right method fails a check once in 10,000 runs, and seeds are fixed.
"""

from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.statistics import auc, delong, threshold_ranks, true_positive_rate
from oathbound.core.finding import Auc, Finding, Measured, Threat
from oathbound.core.gates import Attempted, Verdict, judge
from oathbound.core.pooling import pool
from oathbound.core.study import AuditPlan, Gate, SensitiveSet

pytestmark = pytest.mark.statistical
ALPHA = 0.025
SURE = 0.9999


def tolerated(repetitions, rate=ALPHA):
    return stats.binom.ppf(SURE, repetitions, rate)


def misses(intervals, truth):
    intervals = list(intervals)
    return max(sum(float(i.lower) > truth for i in intervals), sum(float(i.upper) < truth for i in intervals))


def binormal(rng, truth, members, held_out):
    return rng.normal(np.sqrt(2) * stats.norm.ppf(truth), 1, members), rng.normal(0, 1, held_out)


def published(rng, truth, members=100, held_out=60):
    return auc("loss", *binormal(rng, truth, members, held_out), minimum=20)


@pytest.mark.parametrize("truth", [0.5, 0.55, 0.75, 0.95, 0.995])
def test_auc_limits_cover(truth):
    rng = np.random.default_rng(1)
    intervals = [pool([published(rng, truth)]).interval(ALPHA) for _ in range(1000)]
    assert misses(intervals, truth) <= tolerated(1000)


@pytest.mark.parametrize("truth", [0.55, 0.9])
def test_combined_auc_limits_cover(truth):
    rng = np.random.default_rng(2)
    sizes = ((200, 60), (100, 60), (40, 40))
    intervals = [pool([published(rng, truth, *n) for n in sizes]).interval(ALPHA) for _ in range(1000)]
    assert misses(intervals, truth) <= tolerated(1000)


def test_auc_limits_from_half_the_error_are_caught():
    rng = np.random.default_rng(3)
    measures = [published(rng, 0.75) for _ in range(1000)]
    halved = [m.model_copy(update={"standard_error": m.standard_error / 2}) for m in measures]
    assert misses((pool([m]).interval(ALPHA) for m in halved), 0.75) > tolerated(1000)


def test_delong_on_records_counted_as_patients_is_caught():
    rng = np.random.default_rng(4)
    wide = []
    for _ in range(1000):
        members, held_out = binormal(rng, 0.75, 100, 60)
        area, error = delong(np.repeat(members, 5), np.repeat(held_out, 5))
        wide.append(abs(area - 0.75) > 1.96 * error)
    assert sum(wide) > tolerated(1000, 2 * ALPHA)


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


@pytest.mark.parametrize(("held_out", "shift"), [(437, 0.0), (437, 1.0), (1500, 0.5)])
def test_true_positive_rate_limits_cover(held_out, shift):
    rng = np.random.default_rng(6)
    truth = stats.norm.sf(stats.norm.isf(0.01) - shift)
    intervals = []
    for _ in range(800):
        measure = true_positive_rate(
            "loss", rng.normal(shift, 1, 1000), rng.normal(0, 1, held_out), minimum=20
        )
        intervals.append(pool([measure]).interval(ALPHA))
    assert misses(intervals, truth) <= tolerated(800)


def test_combined_true_positive_rate_limits_cover():
    rng = np.random.default_rng(7)
    truth = stats.norm.sf(stats.norm.isf(0.01) - 0.5)
    intervals = []
    for _ in range(500):
        measures = [
            true_positive_rate("loss", rng.normal(0.5, 1, 600), rng.normal(0, 1, 500), minimum=20)
            for _ in range(3)
        ]
        intervals.append(pool(measures).interval(ALPHA))
    assert misses(intervals, truth) <= tolerated(500)


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


def judged(rng, scores, members, gate):
    """Redraw who is a member at each of two sites, and judge three scores that share most of their noise."""
    findings = []
    for site in ("north", "south"):
        order = rng.permutation(len(scores))
        measures = [
            auc(f"s{i}", column[order[:members]], column[order[members:]], minimum=20)
            for i, column in enumerate(scores.T)
        ]
        findings.append(
            Attempted(
                Finding(
                    test="membership",
                    version=1,
                    site=site,
                    model="sha256:" + "0" * 64,
                    seed="sha256:" + "0" * 64,
                    threat=Threat(sees="s", knows="k"),
                    outcome=Measured(kind="measured", measures=tuple(measures), tokens=1),
                ),
                1,
            )
        )
    plan = AuditPlan(
        alpha=Decimal("0.05"),
        minimum_patients=20,
        sensitive=SensitiveSet(name="s", codes=("S",), implied_by=(), prompt_events=1, horizon=1, chains=1),
    )
    gates = (Gate(test="membership", metric="auc", at_most=Decimal(gate)),)
    return judge(gates, plan, ("north", "south"), findings).verdict


def test_redrawn_labels_raise_no_more_alarms_than_promised():
    rng = np.random.default_rng(9)
    base = rng.normal(size=(300, 1))
    scores = base + 0.5 * rng.normal(size=(300, 3))
    verdicts = [judged(rng, scores, 200, "0.5") for _ in range(500)]
    assert verdicts.count(Verdict.FAIL) <= tolerated(500)
    assert verdicts.count(Verdict.PASS) <= tolerated(500)
    assert verdicts.count(Verdict.INCONCLUSIVE) >= 450


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


def test_a_planted_shift_is_found():
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(100):
        scores = rng.normal(size=(1500, 1))
        # AUC about .60 at both sites: the first 1000 drawn are members, and score higher
        members, held_out = scores[:1000] + 0.36, scores[1000:]
        measure = auc("s", members[:, 0], held_out[:, 0], minimum=20)
        found += float(pool([measure]).interval(ALPHA / 3).lower) > 0.55
    assert found >= stats.binom.ppf(1 - SURE, 100, 0.80)
