"""Statistics by brute force, ties, and suppression."""

import itertools
import math
import re
from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit.statistics import (
    Group,
    auc,
    baseline,
    delong,
    excess,
    standardised_difference,
    tail,
    threshold_ranks,
    true_positive_rate,
)
from oathbound.core.errors import WrongInput
from oathbound.core.finding import NotMeasurable
from oathbound.core.tail import above_by_chance, identified, most_by_chance, rank_test


def by_definition(members, held_out):
    wins = (members[:, None] > held_out) + 0.5 * (members[:, None] == held_out)
    variance = wins.mean(1).var(ddof=1) / len(members) + wins.mean(0).var(ddof=1) / len(held_out)
    return wins.mean(), np.sqrt(variance)


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_delong_is_its_definition_also_with_ties(levels):
    rng = np.random.default_rng(1)
    members, held_out = rng.integers(0, levels, 70) * 1.0 + levels / 9, rng.integers(0, levels, 41) * 1.0
    assert delong(members, held_out) == pytest.approx(by_definition(members, held_out), rel=1e-12)


def test_delong_error_is_the_spread_of_a_bootstrap():
    rng = np.random.default_rng(2)
    members, held_out = rng.normal(0.5, 1, 150), rng.normal(0, 1, 90)
    redrawn = [delong(rng.choice(members, 150), rng.choice(held_out, 90))[0] for _ in range(1500)]
    assert delong(members, held_out)[1] == pytest.approx(np.std(redrawn), rel=0.1)


def test_separated_groups():
    assert delong(np.arange(5.0) + 9, np.arange(4.0)) == (1.0, 0.0)
    assert delong(np.arange(4.0), np.arange(5.0) + 9) == (0.0, 0.0)


def test_published_numbers_are_rounded_and_errors_rounded_up():
    rng = np.random.default_rng(3)
    members, held_out = rng.normal(0.3, 1, 123), rng.normal(0, 1, 87)
    measure = auc("loss", members, held_out, minimum=20)
    area, error = delong(members, held_out)
    assert (measure.members, measure.held_out) == (125, 85)
    assert measure.estimate == Decimal(f"{area:.3f}")
    assert 0 <= float(measure.standard_error) - error < 0.001


@pytest.mark.parametrize("few", ["members", "held-out"])
def test_below_the_minimum_nothing_is_said_and_no_count_is_given(few):
    small, large = np.arange(19.0), np.arange(500.0) + 0.5
    groups = (small, large) if few == "members" else (large, small)
    strata = [[((0,),)] * len(group) for group in groups]
    for measure in (
        auc("loss", *groups, minimum=20),
        true_positive_rate("loss", *groups, minimum=20),
        excess("emission", *map(Group, groups, strata), minimum=20, strata="none"),
    ):
        assert isinstance(measure, NotMeasurable)
        assert set(re.findall(r"\d+", measure.reason)) <= {"20", "40"}, "the public limits alone"


def test_a_constant_score_measures_nothing():
    assert isinstance(auc("loss", np.zeros(50), np.zeros(50), minimum=20), NotMeasurable)
    same = Group(np.zeros(50), [((0,),)] * 50)
    assert isinstance(excess("emission", same, same, minimum=20, strata="none"), NotMeasurable)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(value):
    bad, good = np.append(np.arange(49.0), value), np.arange(500.0)
    strata = [((0,),)]
    for measure in (
        lambda: auc("loss", bad, good, minimum=20),
        lambda: auc("loss", good, bad, minimum=20),
        lambda: true_positive_rate("loss", bad, good, minimum=20),
        lambda: excess("e", Group(bad, strata * 50), Group(good, strata * 500), minimum=20, strata="none"),
    ):
        with pytest.raises(WrongInput, match="not a finite number"):
            measure()


def test_a_threshold_at_one_percent_needs_437_held_out_patients():
    members = np.arange(1000.0)
    assert isinstance(true_positive_rate("loss", members, np.arange(436.0), minimum=20), NotMeasurable)
    assert true_positive_rate("loss", members, np.arange(437.0), minimum=20).kind == "tpr-at-1-percent"
    with pytest.raises(ValueError, match="437"):
        threshold_ranks(436)


def test_ties_at_the_threshold_count_against_the_claim():
    measure = true_positive_rate("loss", np.zeros(1000), np.zeros(1000), minimum=20)
    assert (measure.lower_hits, measure.upper_hits) == (0, 1000)


def test_standardisation_removes_a_difference_of_case_mix():
    rng = np.random.default_rng(4)
    old = np.repeat([True, False], [400, 100])
    members = Group(0.1 + 0.5 * old + rng.normal(0, 0.02, 500), [((int(o),),) for o in old])
    held_out = Group(0.1 + 0.5 * ~old + rng.normal(0, 0.02, 500), [((int(not o),),) for o in old])
    difference, error, twins = standardised_difference(members, held_out)
    assert abs(difference) < 4 * error
    assert twins == pytest.approx(0.5, abs=0.01)
    assert members.values.mean() - held_out.values.mean() > 0.2


def test_the_error_is_the_spread_of_a_bootstrap_over_patients():
    rng = np.random.default_rng(5)
    strata = [[((int(s),),) for s in rng.integers(0, 3, n)] for n in (300, 120)]
    values = [np.array([s[0][0] * 0.2 for s in group]) + rng.beta(1, 5, len(group)) for group in strata]
    redrawn = []
    for _ in range(1000):
        draws = [rng.integers(0, len(v), len(v)) for v in values]
        groups = [Group(v[d], [s[i] for i in d]) for v, s, d in zip(values, strata, draws, strict=True)]
        redrawn.append(standardised_difference(*groups)[0])
    groups = [Group(v, s) for v, s in zip(values, strata, strict=True)]
    assert standardised_difference(*groups)[1] == pytest.approx(np.std(redrawn), rel=0.1)


def test_a_sparse_stratum_merges_and_loses_nobody():
    # Value 2 has members and no held-out patient; it joins the smallest value that has enough.
    members = Group(np.array([0.1] * 20 + [0.3] * 20 + [0.9]), [((0,),)] * 20 + [((1,),)] * 20 + [((2,),)])
    held_out = Group(np.array([0.1] * 30 + [0.3] * 10), [((0,),)] * 30 + [((1,),)] * 10)
    difference, _, twins = standardised_difference(members, held_out)
    assert twins == pytest.approx((20 * 0.1 + 21 * 0.3) / 41)
    assert difference == pytest.approx((0.9 - 0.3) / 41)


def test_a_cell_depends_on_carriers_alone_and_not_on_who_is_held_out():
    # Of 100 carriers half are held out, and of 20 in stratum 1 ten: it stands alone, whoever they are.
    for lot in (1, 9, 16):
        members = Group(np.array([0.9] * (20 - lot) + [0.1] * (30 + lot)), strata_of(20 - lot, 30 + lot))
        held_out = Group(np.array([0.9] * lot + [0.1] * (50 - lot)), strata_of(lot, 50 - lot))
        assert standardised_difference(members, held_out)[0] == pytest.approx(0)


def strata_of(rare, common):
    return [((1,),)] * rare + [((0,),)] * common


@pytest.mark.parametrize("few", ["members", "held-out"])
def test_an_excess_needs_forty_carriers_of_each_group(few):
    rng = np.random.default_rng(6)
    for n, kind in ((39, "not-measurable"), (40, "excess")):
        groups = [Group(rng.beta(2, 2, size), [((0,),)] * size) for size in (n, 100)]
        members, held_out = groups if few == "members" else groups[::-1]
        assert excess("emission", members, held_out, minimum=10, strata="none").kind == kind


def test_without_any_common_stratum_all_are_one_cell():
    members = Group(np.linspace(0, 1, 40), [((1,),)] * 40)
    held_out = Group(np.linspace(0, 1, 40), [((2,),)] * 40)
    assert standardised_difference(members, held_out)[0] == pytest.approx(0)


@pytest.mark.parametrize(("rank", "hits"), [(1, 1), (1, 4), (3, 2), (3, 6)])
def test_members_above_by_chance_are_counted_exactly(rank, hits):
    members, held_out = 6, 5
    named = list(itertools.combinations(range(members + held_out), held_out))  # positions, the highest last
    met = sum(sum(x > sorted(out)[-rank] for x in set(range(11)) - set(out)) >= hits for out in named)
    assert above_by_chance(hits, rank, members, held_out) == pytest.approx(met / len(named))


def test_the_rank_test_is_hypergeometric():
    fewest = math.comb(400, 20) / math.comb(700, 20)
    assert above_by_chance(20, 1, 400, 300) == pytest.approx(fewest)
    assert above_by_chance(0, 1, 400, 300) == 1
    assert above_by_chance(401, 1, 400, 300) == 0
    assert above_by_chance(3, 301, 400, 300) == 1  # there is no such rank: nothing is known
    most = most_by_chance(5, 400, 300, 0.025)
    assert above_by_chance(most + 1, 5, 400, 300) <= 0.025 < above_by_chance(most, 5, 400, 300)


def test_a_tail_tells_of_nobody():
    rng = np.random.default_rng(8)
    members, held_out = rng.normal(size=203), rng.normal(size=150)
    few, many = members.copy(), members.copy()
    few[:9] = many[:60] = 9.0
    nobody, some = (
        tail("loss", group, held_out, minimum=20, rng=np.random.default_rng(1)) for group in (few, many)
    )
    assert nobody.above_all == 0, "fewer than ten members are not shown"
    assert some.above_all == 60
    assert some.hits % 5 == 0
    assert 10 <= some.hits <= 50
    assert identified(some, 0.025) > 0
    assert rank_test(some) < 1e-6
    assert rank_test(nobody) == 1
    everybody = tail("loss", members + 99, held_out, minimum=20, rng=np.random.default_rng(1))
    assert everybody.above_all == 195, "nor how few are not above"
    tied = tail("loss", np.ones(100), np.ones(100), minimum=20, rng=np.random.default_rng(1))
    assert (tied.above_all, tied.hits) == (0, 0)
    assert tail("loss", members[:39], held_out, minimum=20, rng=rng).kind == "not-measurable"


def test_a_reason_says_the_limit_that_was_not_reached():
    few, many = np.arange(30.0), np.arange(50.0)
    assert auc("loss", many, few, minimum=20).reason == "fewer than 40 members or held-out patients"
    assert auc("loss", few, many, minimum=45).reason == "fewer than 45 members or held-out patients"
    blind = baseline("records", few, few, minimum=20, halves_of=(60, 60))
    assert blind.reason == "fewer than 40 members or held-out patients in the half that is compared"
