"""A pool is of one kind, and of somebody; where its sites' scores are perfect, its ends still say so much."""

from decimal import Decimal
from itertools import permutations

import pytest

from oathbound.core.finding import Auc, AucDifference, Excess, TruePositiveRate
from oathbound.core.pooling import pool

PATIENTS = {"members": 1000, "held_out": 1000}


def auc(estimate, error):
    facts = {"estimate": Decimal(estimate), "standard_error": Decimal(error)}
    return Auc(kind="auc", score="s", **facts, **PATIENTS)


RATE = TruePositiveRate(kind="tpr-at-1-percent", score="s", lower_hits=5, upper_hits=10, **PATIENTS)
DIFFERENCE = AucDifference(
    kind="auc-difference",
    score="s",
    member_auc=Decimal("0.6"),
    member_error=Decimal("0.01"),
    held_out_auc=Decimal("0.5"),
    held_out_error=Decimal("0.01"),
    member_others=1000,
    held_out_others=1000,
    **PATIENTS,
)
EXCESS = Excess(
    kind="excess",
    score="s",
    estimate=Decimal("0.1"),
    standard_error=Decimal("0.01"),
    member_mean=Decimal("0.2"),
    held_out_mean=Decimal("0.1"),
    strata="none",
    **PATIENTS,
)
KINDS = {"auc": auc("0.6", "0.01"), "difference": DIFFERENCE, "rate": RATE, "excess": EXCESS}


@pytest.mark.parametrize("kinds", list(permutations(KINDS, 2)))
def test_measures_of_two_kinds_have_no_mean(kinds):
    """The mean of an AUC and an excess would be a number, and would be held against a gate."""
    one, other = (KINDS[kind] for kind in kinds)
    pool([one, one])
    with pytest.raises(ValueError, match="of one kind"):
        pool([one, other])


def test_a_pool_of_nobody_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        pool([])


def test_sites_that_err_never_and_always_are_not_known_to_be_chance():
    """Either error of DeLong's is 0: of their mean, one half, that would leave an interval of no width."""
    ends = pool([auc("1", "0"), auc("0", "0")]).interval(0.025)
    assert ends.lower < Decimal("0.499")
    assert ends.upper > Decimal("0.501")


def test_an_auc_that_is_only_rounded_to_one_has_no_exact_limit():
    """That limit holds where every member outranks; an error above 0 says that not every one does."""
    exact, rounded = (pool([auc("1", error)]).interval(0.025) for error in ("0", "0.001"))
    assert exact.lower > Decimal("0.99") > rounded.lower
    assert exact.upper == rounded.upper == 1
