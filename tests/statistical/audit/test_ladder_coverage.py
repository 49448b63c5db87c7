"""Whether all ends along a ladder hold together, as often as they say; and that uncorrected ones do not."""

from decimal import Decimal
from functools import cache

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.statistics import Group, excess
from oathbound.core.claims import Verdict
from oathbound.core.ladder import Level, levels, risk, state
from oathbound.core.pooling import pool
from oathbound.core.rungs import published_ladder

pytestmark = pytest.mark.statistical
ALPHA = 0.025
SURE = 0.9999
AUDITS = 800
RUNGS = published_ladder(20)
MEMBERS, HELD_OUT = 150, 100
GROWING = (0.0, 0.0, 0.0, 0.04, 0.04, 0.10, 0.02, 0.20, 0.20)
LEVEL = (0.05,) * len(RUNGS)
"""Excesses at every rung: of a model that tells more to whoever knows more, and of one that tells all."""


@cache
def ladder_measures(truth):
    """Return so many audits' measures: probabilities Beta(4, 4) of everybody, members moved up by `truth`.

    Rungs are independent, which is where a correction has most to do.
    """
    rng = np.random.default_rng(1)
    strata = [((0,),)] * MEMBERS

    def measured(rung, moved):
        return excess(
            rung,
            Group(rng.beta(4, 4, MEMBERS) * 0.8 + moved, strata),
            Group(rng.beta(4, 4, HELD_OUT) * 0.8, strata[:HELD_OUT]),
            minimum=20,
            strata="none",
        )

    return [
        tuple(measured(rung, moved) for rung, moved in zip(RUNGS, truth, strict=True)) for _ in range(AUDITS)
    ]


def corrected(measures):
    return levels(measures, ALPHA)


def uncorrected(measures):
    found = [(measure.score, pool([measure]).interval(ALPHA)) for measure in measures]
    return tuple(Level(rung, ends.lower, ends.upper) for rung, ends in found)


def missed(truth, ends):
    """Return how many audits have a risk that lies outside its ends at any rung: below, and above."""
    risks = np.maximum.accumulate(np.array(truth))
    below = above = 0
    for measures in ladder_measures(truth):
        climbed = risk(ends(measures))
        below += any(float(level.lower) > true for level, true in zip(climbed, risks, strict=True))
        above += any(float(level.upper) < true for level, true in zip(climbed, risks, strict=True))
    return below, above


def most(rate):
    """Return the most of `AUDITS` that are wrong, all but surely, where each is with probability `rate`."""
    return int(stats.binom.ppf(SURE, AUDITS, rate))


@pytest.mark.parametrize("truth", [GROWING, LEVEL])
def test_all_ends_of_a_ladder_hold_together(truth, record_property):
    below, above = missed(truth, corrected)
    record_property("wrong", (below, above))
    assert below <= most(ALPHA)
    assert above <= most(ALPHA)


def test_ends_without_a_correction_are_caught():
    below, _ = missed(LEVEL, uncorrected)
    assert below > most(ALPHA)


def test_a_model_at_the_gate_is_seldom_said_to_exceed_it_and_without_correction_often():
    gate = Decimal("0.05")

    def alarms(ends):
        return sum(
            any(state(level, gate) is Verdict.FAIL for level in risk(ends(measures)))
            for measures in ladder_measures(LEVEL)
        )

    assert alarms(corrected) <= most(ALPHA)
    assert alarms(uncorrected) > most(ALPHA)


def test_up_to_which_level_excess_stayed_below_is_wrong_seldom_though_no_end_is_corrected():
    """The first rung above the gate is one rung, whichever it is: its upper end alone must fail."""
    gate = Decimal("0.09")
    first = next(place for place, true in enumerate(np.maximum.accumulate(GROWING)) if true > float(gate))
    wrong = sum(
        state(risk(uncorrected(measures))[first], gate) is Verdict.PASS
        for measures in ladder_measures(GROWING)
    )
    assert wrong <= most(ALPHA)


def test_the_largest_estimate_is_no_lower_end():
    """Who reports the worst rung as if it were the only one exaggerates."""
    worst = sum(
        max(measure.estimate for measure in measures) > Decimal("0.05") for measures in ladder_measures(LEVEL)
    )
    assert worst > most(0.5)
