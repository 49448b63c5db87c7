"""Planted patients in the verdict: too many right guesses refuse a model, and too few never accept one."""

from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan, CanaryPlan
from oathbound.core.claims import BROKEN, Verdict
from oathbound.core.finding import Auc, DidNotRun, Finding, Measured, OneRun, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.one_run import Accounted, epsilon_at_least
from oathbound.core.study import Gate

SITES = ("north", "south")
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, canaries=CanaryPlan(planted=200, guesses=100))
GATES = (Gate(test="membership", metric="auc", at_most=Decimal("0.55")),)
ACCOUNTED = Accounted(epsilon=Decimal("1.2"), delta=Decimal("0.000001"))


def found(site, *measures, test="canary", attempt=1):
    outcome = (
        Measured(kind="measured", measures=measures, tokens=1)
        if measures
        else DidNotRun(kind="did-not-run", reason="no sibling")
    )
    finding = Finding(
        test=test,
        version=1,
        site=site,
        model="sha256:" + "a" * 64,
        seed="sha256:" + "0" * 64,
        threat=Threat(sees="s", knows="k"),
        outcome=outcome,
    )
    return Attempted(finding, attempt)


def right(number):
    return OneRun(
        kind="one-run",
        score="loss-difference",
        planted=200,
        guesses=100,
        right=number,
        delta=Decimal("0.000001"),
    )


def auc(estimate):
    facts = {"estimate": Decimal(estimate), "standard_error": Decimal("0.005"), "members": 1000}
    return Auc(kind="auc", score="loss", held_out=1000, **facts)


def verdict(*findings, auc_of="0.505", accounted=ACCOUNTED):
    members = [found(site, auc(auc_of), test="membership") for site in SITES]
    return judge(GATES, PLAN, SITES, [*members, *findings], accounted=accounted)


def test_more_than_was_accounted_fails_at_one_site_alone_and_the_sentence_says_it():
    judgement = verdict(found("north", right(95)), found("south", right(50)))
    assert judgement.verdict is Verdict.FAIL
    (claim,) = (claim for claim in judgement.claims if claim.metric == BROKEN)
    assert (claim.site, claim.gate, claim.state) == ("north", Decimal("1.2"), Verdict.FAIL)
    # the lower ends of all five claims hold together: one over both sites, one of each, and two runs
    assert claim.lower == epsilon_at_least(right(95), ACCOUNTED.delta, 0.05 / 4 / 5) > Decimal("1.2")
    assert judgement.sentence == (
        f"refused: canary at north shows an epsilon of at least {claim.lower} of the training procedure, "
        "for which 1.2 was accounted"
    )


@pytest.mark.parametrize("number", [0, 50, 80])
def test_fewer_right_guesses_neither_fail_nor_pass(number):
    """The bound has no upper end: that little was found shows nothing."""
    runs = [found(site, right(number)) for site in SITES]
    without, undecided = verdict(), verdict(*runs, auc_of="0.55")
    assert (without.verdict, verdict(*runs).verdict) == (Verdict.PASS, Verdict.PASS)
    assert undecided.verdict is Verdict.INCONCLUSIVE
    assert not any(claim.metric == BROKEN for claim in undecided.claims)


def test_a_sibling_that_was_not_trained_neither_fails_nor_passes():
    assert verdict(found("north"), found("south")).verdict is Verdict.PASS


def test_a_study_that_promises_nothing_breaks_no_promise():
    assert verdict(found("north", right(100)), accounted=None).verdict is Verdict.PASS


def test_the_bound_of_the_attempt_counts_and_a_later_one_does_not_undo_it():
    later = [found("north", right(50), attempt=2), found("north", auc("0.5"), test="membership", attempt=2)]
    assert verdict(found("north", right(95)), *later).verdict is Verdict.FAIL


def test_exactly_what_was_accounted_is_not_more():
    shown = epsilon_at_least(right(90), ACCOUNTED.delta, 0.05 / 4 / 4)
    runs = [found("north", right(90))]
    assert verdict(*runs, accounted=Accounted(shown, ACCOUNTED.delta)).verdict is Verdict.PASS
    less = Accounted(shown - Decimal("0.001"), ACCOUNTED.delta)
    assert verdict(*runs, accounted=less).verdict is Verdict.FAIL
