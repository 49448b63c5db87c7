"""Recordings brought back, in the verdict: on what the study opens, and only where the attack works."""

from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan, ReconstructionPlan
from oathbound.core.claims import UNCONTROLLED, Verdict
from oathbound.core.finding import Auc, Finding, Measured, Reconstruction, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.pooling import controlled, hits_between, pool
from oathbound.core.reconstruction import found_in
from oathbound.core.study import Gate

SITES = ("north", "south")
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    reconstruction=ReconstructionPlan(targets=200, decoys=19),
)
GATE = Gate(test="gradient-reconstruction", metric="reconstruction", at_most=Decimal("0.1"))


def back(*, bare=150, summed=0, noised=0, members=200):
    return Reconstruction(
        kind="reconstruction",
        score="cosine",
        bare=bare,
        summed=summed,
        noised=noised,
        decoys=19,
        members=members,
        held_out=100,
    )


def found(site, measure, test="gradient-reconstruction"):
    outcome = Measured(kind="measured", measures=(measure,), tokens=1)
    identity = {"model": "sha256:" + "a" * 64, "seed": "sha256:" + "0" * 64}
    finding = Finding(
        test=test, version=1, site=site, threat=Threat(sees="s", knows="k"), outcome=outcome, **identity
    )
    return Attempted(finding, 1)


def judged(north, south=None):
    return judge((GATE,), PLAN, SITES, [found("north", north), found("south", south or back())])


def test_a_sum_in_which_nobody_is_found_passes():
    assert judged(back()).verdict is Verdict.PASS


def test_what_the_study_opens_is_judged_and_nothing_beside_it():
    assert judged(back(summed=150)).verdict is Verdict.PASS
    assert judged(back(summed=150, noised=None)).verdict is Verdict.FAIL
    refused = judged(back(noised=150))
    assert refused.verdict is Verdict.FAIL
    assert "share of patients found by a reconstruction, above chance" in refused.sentence


@pytest.mark.parametrize("bare", [15, 30])
def test_an_attack_that_cannot_break_the_gate_on_a_bare_gradient_passes_nothing(bare):
    weak = back(bare=bare)
    judgement = judged(weak, weak)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert UNCONTROLLED in judgement.sentence


def test_a_weak_control_is_the_reason_only_where_it_would_pass():
    weak = back(bare=10, noised=10, members=60)
    assert UNCONTROLLED not in judged(weak, weak).sentence


def test_who_is_found_in_a_sum_needs_no_control():
    assert judged(back(bare=0, noised=150)).verdict is Verdict.FAIL
    assert "shows nothing" in found_in(back(bare=15))


def test_a_count_that_is_suppressed_is_taken_for_its_middle():
    assert pool([back(noised=0)]).estimate == Decimal("4.5") / 200 - Decimal("0.05")
    assert pool([back(noised=200)]).estimate == Decimal("195.5") / 200 - Decimal("0.05")


def test_too_few_targets_leave_it_open_and_say_how_many_would_settle_it():
    small = back(bare=20, members=20)
    judgement = judged(small, small)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "targets would settle it" in judgement.sentence


@pytest.mark.parametrize(("bare", "works"), [(0, False), (15, False), (30, True), (200, True)])
def test_the_control_is_above_chance_or_it_is_none(bare, works):
    assert controlled(back(bare=bare)) is works


@pytest.mark.parametrize(
    ("hits", "between"), [(0, (0, 9)), (10, (8, 12)), (190, (188, 192)), (200, (189, 202))]
)
def test_a_published_count_stands_for_no_more_than_it_says(hits, between):
    assert hits_between(hits, 200) == between


def test_limits_are_those_of_the_rate_less_chance():
    ends = pool([back(noised=50)]).interval(0.025)
    assert pool([back(noised=50)]).estimate == Decimal("0.2")
    assert Decimal("0.1") < ends.lower < Decimal("0.2") < ends.upper < Decimal("0.32")


def test_few_people_of_whom_decoys_are_drawn_tell_less():
    few, many = (
        pool([back(noised=50).model_copy(update={"held_out": count})]).interval(0.025) for count in (25, 1000)
    )
    assert few.lower < many.lower < many.upper < few.upper


def test_a_pool_is_of_one_kind():
    other = Auc(kind="auc", score="loss", estimate="0.5", standard_error="0.01", members=100, held_out=100)
    with pytest.raises(ValueError, match="measures of one kind"):
        pool([back(), other])


def test_nobody_finds_more_than_were_attacked():
    with pytest.raises(ValueError, match="more members found"):
        back(noised=205)


def test_words_show_each_threat_with_chance_beside_it():
    assert found_in(back(bare=200, summed=55)) == (
        "all but fewer than 10 in a patient's bare gradient, about 55 in the sum of a step, "
        "fewer than 10 in that sum clipped and noised; guessing finds 10, of 200"
    )
