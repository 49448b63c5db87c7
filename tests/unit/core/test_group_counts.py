"""Disjoint groups count no more patients than there are, and no fewer where all of them were measured."""

from decimal import Decimal

import pytest

from oathbound.core.finding import Auc, Baseline, Excess, NotMeasurable
from oathbound.core.groups import SUPPRESSED, counts_fit


def area(score, members, held_out):
    facts = {"estimate": Decimal("0.5"), "standard_error": Decimal("0.1")}
    return Auc(kind="auc", score=score, members=members, held_out=held_out, **facts)


def excess(score, members, held_out):
    means = dict.fromkeys(("estimate", "member_mean", "held_out_mean"), Decimal(0))
    facts = {"standard_error": Decimal("0.1"), "strata": "none"} | means
    return Excess(kind="excess", score=score, members=members, held_out=held_out, **facts)


def blind(members, held_out=100):
    facts = {"estimate": Decimal("0.5"), "standard_error": Decimal("0.1")}
    return Baseline(kind="baseline", score="records", members=members, held_out=held_out, **facts)


UNSAID = NotMeasurable(kind="not-measurable", metric="auc", score="a", reason=SUPPRESSED)
OTHER = NotMeasurable(kind="not-measurable", metric="auc", score="c", reason=SUPPRESSED)
NO_EXCESS = NotMeasurable(kind="not-measurable", metric="excess", score="a", reason="too few")


@pytest.mark.parametrize(
    "measures",
    [
        [area("a", 60, 40), area("b", 240, 160)],
        [area("a", 65, 40), area("b", 240, 165)],  # rounding: 62.5 + 237.5
        [UNSAID, OTHER, area("b", 45, 40)],
        [UNSAID.model_copy(update={"reason": "the scores have no spread"}), area("b", 45, 40)],
        [area("a", 60, 40), area("b", 240, 160), excess("a", 60, 40), excess("b", 240, 160)],
        [area("a", 60, 40), area("b", 240, 160), excess("b", 40, 40)],
        [UNSAID, OTHER],
        [],
    ],
)
def test_parts_of_everybody_fit(measures):
    assert counts_fit(measures, 300, 200, all_of_them=True)


@pytest.mark.parametrize(
    "measures",
    [
        [area("a", 300, 200), area("b", 300, 200)],
        [area("a", 60, 40), area("b", 240, 175)],
        [area("a", 60, 40), area("b", 225, 160)],  # somebody was left out
        [area("a", 60, 40), area("b", 225, 160), NO_EXCESS],  # and an excess unsaid is no excuse for that
        [UNSAID, OTHER, area("b", 310, 200)],
        [UNSAID, area("b", 45, 40)],  # the other's patients follow by subtraction
        [area("a", 60, 40), area("b", 240, 160), blind(310)],
        [area("a", 60, 40), area("b", 240, 160), blind(150, 210)],
        [area("a", 60, 40), area("b", 240, 160), excess("a", 300, 40), excess("b", 60, 40)],
    ],
)
def test_more_or_fewer_than_everybody_do_not(measures):
    assert not counts_fit(measures, 300, 200, all_of_them=True)


def test_where_not_everybody_is_scored_fewer_fit_and_more_do_not():
    assert counts_fit([area("a", 60, 40), area("b", 100, 60)], 300, 200, all_of_them=False)
    assert not counts_fit([area("a", 200, 40), area("b", 200, 60)], 300, 200, all_of_them=False)
