"""Where somebody who never asked the model tells the groups apart, no verdict is more than undecided."""

from dataclasses import replace
from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import SHIFTED, UNTRIED, Verdict
from oathbound.core.finding import Auc, Baseline, DidNotRun, Finding, Measured, NotMeasurable, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.study import Gate
from oathbound.core.usable import tells_apart

DIGEST = "sha256:" + "0" * 64
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20)
GATES = (Gate(test="membership", metric="auc", at_most=Decimal("0.6")),)
FAIR, OTHERS, FEWER = Decimal("0.51"), Decimal("0.90"), Decimal("0.10")


def finding(site, estimate, blind):
    facts = {"standard_error": Decimal("0.010"), "members": 1000, "held_out": 1000}
    measures = (
        Auc(kind="auc", score="loss", estimate=estimate, **facts),
        Baseline(kind="baseline", score="records", estimate=FAIR, **facts),
        Baseline(kind="baseline", score="references", estimate=blind, **facts),
    )
    return Attempted(
        Finding(
            test="membership",
            version=2,
            site=site,
            model=DIGEST,
            seed=DIGEST,
            threat=Threat(sees="s", knows="k"),
            outcome=Measured(kind="measured", measures=measures, tokens=1),
        ),
        1,
    )


@pytest.mark.parametrize("estimate", [Decimal("0.500"), Decimal("0.800")])
@pytest.mark.parametrize("blind", [OTHERS, FEWER])
def test_a_shift_is_the_sentence_whatever_the_model_says(estimate, blind):
    judged = judge(GATES, PLAN, ("a", "b"), [finding(site, estimate, blind) for site in "ab"])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence.endswith(f": {SHIFTED}")
    assert {claim.note for claim in judged.claims} == {"cannot separate shift from memorisation"}


@pytest.mark.parametrize(
    ("estimate", "verdict"), [(Decimal("0.500"), Verdict.PASS), (Decimal("0.800"), Verdict.FAIL)]
)
def test_a_fair_draw_changes_nothing(estimate, verdict):
    assert judge(GATES, PLAN, ("a", "b"), [finding(site, estimate, FAIR) for site in "ab"]).verdict is verdict


def test_who_tries_again_does_not_find_out_less_easily_that_the_groups_differ():
    """A baseline just beyond its end at the first attempt: the same numbers are no claim at the tenth."""
    near = Decimal("0.535")
    for attempt in (1, 10):
        found = replace(finding("a", Decimal("0.900"), near), attempt=attempt)
        assert judge(GATES, PLAN, ("a",), [found]).sentence.endswith(f": {SHIFTED}")


@pytest.mark.parametrize("nobody", ["members", "held_out"])
def test_who_asked_about_nobody_of_a_group_knows_nothing(nobody):
    facts = {"standard_error": Decimal("0.010"), "members": 1000, "held_out": 1000, nobody: 0}
    assert tells_apart(Baseline(kind="baseline", score="records", estimate=Decimal("0.5"), **facts), 0.01)


def test_a_site_that_differed_once_differs():
    first, later = finding("a", Decimal("0.900"), OTHERS), finding("a", Decimal("0.900"), FAIR)
    judged = judge(GATES, PLAN, ("a",), [first, replace(later, attempt=2)])
    assert judged.sentence.endswith(f": {SHIFTED}")
    assert judge(GATES, PLAN, ("a",), [replace(later, attempt=2)]).verdict is Verdict.FAIL


def test_the_shift_is_named_before_what_is_undecided_for_lack_of_patients():
    undecided = [finding("a", Decimal("0.595"), FAIR), finding("b", Decimal("0.500"), OTHERS)]
    gates = (Gate(test="another", metric="auc", at_most=Decimal("0.6")), *GATES)
    judged = judge(gates, PLAN, ("a", "b"), undecided)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence.endswith(f": {SHIFTED}")


def test_a_shift_at_one_site_blocks_a_pass_and_excuses_no_other_site():
    passing = [finding("a", Decimal("0.500"), OTHERS), finding("b", Decimal("0.500"), FAIR)]
    assert judge(GATES, PLAN, ("a", "b"), passing).verdict is Verdict.INCONCLUSIVE
    failing = [finding("a", Decimal("0.500"), OTHERS), finding("b", Decimal("0.900"), FAIR)]
    judged = judge(GATES, PLAN, ("a", "b"), failing)
    assert judged.verdict is Verdict.FAIL
    assert "at b" in judged.sentence


def test_a_baseline_that_asked_about_nobody_clears_nobody():
    attempted = finding("a", Decimal("0.500"), FAIR)
    fair, alone, blind = attempted.finding.outcome.measures
    outcome = attempted.finding.outcome.model_copy(
        update={"measures": (fair, alone, blind.model_copy(update={"members": 0}))}
    )
    judged = judge(
        GATES, PLAN, ("a",), [Attempted(attempted.finding.model_copy(update={"outcome": outcome}), 1)]
    )
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence.endswith(f": {SHIFTED}")


def test_one_site_that_differs_excuses_no_failure_of_the_others_together():
    exposed = Decimal("0.629")
    told = judge(GATES, PLAN, ("a", "b", "c"), [finding(site, exposed, FAIR) for site in "abc"])
    assert told.verdict is Verdict.FAIL
    mixed = [finding(site, exposed, OTHERS if site == "c" else FAIR) for site in "abc"]
    judged = judge(GATES, PLAN, ("a", "b", "c"), mixed)
    assert judged.verdict is Verdict.FAIL
    assert [claim.site for claim in judged.claims if claim.state is Verdict.FAIL] == ["a, b"]
    alone = [finding(site, exposed, FAIR if site == "a" else OTHERS) for site in "abc"]
    assert [claim.site for claim in judge(GATES, PLAN, ("a", "b", "c"), alone).claims] == [
        "all sites",
        "a",
        "b",
        "c",
    ]


def measured(attempted, *changes):
    outcome = attempted.finding.outcome
    kept = tuple(measure for measure in outcome.measures if measure.kind != "baseline")
    outcome = outcome.model_copy(update={"measures": (*kept, *changes)})
    return Attempted(attempted.finding.model_copy(update={"outcome": outcome}), 1)


def lacking(metric):
    return NotMeasurable(kind="not-measurable", metric=metric, score="records", reason="too few patients")


def test_where_nobody_tried_nothing_passes_and_what_fails_fails():
    fair = finding("a", Decimal("0.500"), FAIR)
    judged = judge(GATES, PLAN, ("a",), [measured(fair, lacking("baseline"))])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence.endswith(f"below the gate 0.6; but {UNTRIED}")
    exposed = measured(finding("a", Decimal("0.800"), FAIR), lacking("baseline"))
    assert judge(GATES, PLAN, ("a",), [exposed]).verdict is Verdict.FAIL
    between = judge(GATES, PLAN, ("a",), [measured(finding("a", Decimal("0.59"), FAIR), lacking("baseline"))])
    assert "nobody tried" not in between.sentence
    one_of_two = measured(fair, lacking("baseline"), fair.finding.outcome.measures[1])
    assert judge(GATES, PLAN, ("a",), [one_of_two]).verdict is Verdict.PASS
    assert judge(GATES, PLAN, ("a",), [measured(fair, lacking("tail"))]).verdict is Verdict.PASS


def test_a_baseline_of_linkage_alone_finds_a_shift_but_does_not_stand_for_one_of_records():
    fair = finding("a", Decimal("0.500"), FAIR)
    alone = fair.finding.outcome.measures[1].model_copy(update={"score": "recordings"})
    judged = judge(GATES, PLAN, ("a",), [measured(fair, lacking("baseline"), alone)])
    assert judged.sentence.endswith(UNTRIED)
    differ = alone.model_copy(update={"estimate": OTHERS})
    judged = judge(GATES, PLAN, ("a",), [measured(fair, fair.finding.outcome.measures[1], differ)])
    assert judged.sentence.endswith(SHIFTED)


def test_a_shift_that_one_test_finds_holds_for_all_tests_of_the_site():
    gates = (Gate(test="another", metric="auc", at_most=Decimal("0.6")),)
    for blind, verdict in ((FAIR, Verdict.PASS), (OTHERS, Verdict.INCONCLUSIVE)):
        own = finding("a", Decimal("0.500"), blind)
        other = Attempted(measured(own).finding.model_copy(update={"test": "another"}), 1)
        assert judge(gates, PLAN, ("a",), [own, other]).verdict is verdict
    did_not_run = DidNotRun(kind="did-not-run", reason="no electricity")
    unrun = Attempted(own.finding.model_copy(update={"outcome": did_not_run}), 1)
    judged = judge(gates, PLAN, ("a",), [unrun, other])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence.endswith(UNTRIED)


def test_a_baseline_with_an_error_that_cannot_be_clears_nobody():
    fair = finding("a", Decimal("0.500"), FAIR)
    blind = fair.finding.outcome.measures[1].model_copy(update={"standard_error": Decimal("0.5")})
    assert judge(GATES, PLAN, ("a",), [measured(fair, blind)]).sentence.endswith(f": {SHIFTED}")
