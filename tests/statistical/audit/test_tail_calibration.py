"""The tail's lower bound: how often it names more members than there are, and ways that do so too often.

A population has scores; the draw names members, and some of those score higher because they are. The truth
is how many of the counted half lie above the threshold and would not have. A check is a count of misses,
compared with the 99.99 % quantile of the binomial at the claimed rate.
"""

import logging

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.statistics import RANKS, _halves, tail
from oathbound.core.tail import identified, most_by_chance, rank_test

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)
ALPHA, REPETITIONS = 0.025, 600
TOLERATED = stats.binom.ppf(0.9999, REPETITIONS, ALPHA)
CASES = {
    "nobody": (0.0, 0.0, 400, 400),
    "a tenth, a little": (0.1, 1.0, 400, 400),
    "a tenth, exposed": (0.1, 6.0, 600, 600),
    "a third, few held out": (0.3, 2.0, 600, 200),
}


def drawn(rng, share, shift, members, held_out):
    alone = rng.normal(size=members + held_out)
    scores = alone[:members] + shift * (rng.random(members) < share)
    return scores, alone[:members], alone[members:]


@pytest.mark.parametrize("case", CASES)
def test_the_bound_holds(case):
    rng, wrong, named = np.random.default_rng(1), np.zeros(2, int), []
    for repetition in range(REPETITIONS):
        scores, alone, held_out = drawn(rng, *CASES[case])
        found = tail("s", scores, held_out, minimum=10, rng=np.random.default_rng(repetition))
        same = np.random.default_rng(repetition)
        counted, beneath = _halves(np.arange(len(scores)), same)[1], _halves(held_out, same)[1]
        above = np.sort(beneath)[-found.rank]
        hits, truth = (
            (scores[counted] > above).sum(),
            (scores[counted] > above).sum() - (alone[counted] > above).sum(),
        )
        exact = hits - most_by_chance(found.rank, len(counted), len(beneath), ALPHA)
        wrong += [max(exact, 0) > truth, identified(found, ALPHA) > truth]
        named.append(identified(found, ALPHA))
    log.info("tail, %s: wrong %s of %d, names %.1f on average", case, wrong, REPETITIONS, np.mean(named))
    assert wrong.max() <= TOLERATED
    assert (np.mean(named) > 15) == (case in {"a tenth, exposed", "a third, few held out"})


def test_a_threshold_chosen_on_the_patients_that_are_counted_names_too_many():
    rng, wrong, known = np.random.default_rng(2), 0, 0
    for _ in range(REPETITIONS):
        scores, _, held_out = drawn(rng, *CASES["nobody"])
        hits = {rank: (scores > np.sort(held_out)[-rank]).sum() for rank in RANKS if rank <= 400}
        wrong += any(hits[rank] > most_by_chance(rank, 400, 400, ALPHA) for rank in hits)
        expected = stats.binom.ppf(1 - ALPHA, 400, 10 / 400)  # as if the false positive rate were known
        known += hits[10] > expected
    log.info(
        "tail, nobody: chosen on the counted %d, rate taken as known %d of %d", wrong, known, REPETITIONS
    )
    assert min(wrong, known) > TOLERATED


def test_the_rank_test_is_exact_and_finds_a_few_exposed():
    rng, alarms, found = np.random.default_rng(3), 0, 0
    for _ in range(REPETITIONS):
        scores, alone, held_out = drawn(rng, 0.06, 9.0, 400, 400)
        alarms += rank_test(tail("s", alone, held_out, minimum=10, rng=rng)) <= ALPHA
        found += rank_test(tail("s", scores, held_out, minimum=10, rng=rng)) <= ALPHA
    log.info("rank test: %d false, %d true alarms of %d", alarms, found, REPETITIONS)
    assert alarms <= TOLERATED
    assert found > 0.9 * REPETITIONS
