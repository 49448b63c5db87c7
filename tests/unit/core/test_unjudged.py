"""What no gate asks for is estimated with the ends of a verdict; what a gate asks for is not said twice."""

from decimal import Decimal

from oathbound.core.finding import Auc, Baseline, DidNotRun, Finding, Measured, NotMeasurable, Tail, Threat
from oathbound.core.pooling import pool
from oathbound.core.unjudged import estimates

FACTS = {"estimate": Decimal("0.6"), "standard_error": Decimal("0.01"), "members": 1000, "held_out": 1000}


def auc(score="loss", **changes):
    return Auc(kind="auc", score=score, **FACTS | changes)


def found(test, *measures):
    outcome = (
        Measured(kind="measured", measures=measures, tokens=1)
        if measures
        else DidNotRun(kind="did-not-run", reason="no power")
    )
    threat = Threat(sees="s", knows="k")
    digests = {"model": "sha256:" + "a" * 64, "seed": "sha256:" + "0" * 64}
    return Finding(test=test, version=1, site="north", threat=threat, outcome=outcome, **digests)


TAIL = Tail(kind="tail", score="loss", above_all=0, rank=1, hits=0, members=1000, held_out=1000)
BASELINE = Baseline(kind="baseline", score="records", **FACTS)
UNSAID = NotMeasurable(kind="not-measurable", metric="auc", score="rmia", reason="too few")


def test_every_measure_that_a_gate_could_ask_for_is_estimated_and_no_other():
    asked = estimates([found("membership", auc(), TAIL, BASELINE), found("canary")], 20, 0.025)
    assert [(each.test, each.metric, each.score) for each in asked] == [("membership", "auc", "loss")]


def test_what_is_under_a_gate_is_left_to_the_verdict():
    findings = [found("membership", auc(), UNSAID), found("rare-subgroup", auc("oldest"))]
    left = estimates(findings, 20, 0.025, gated={("membership", "auc"), ("rare-subgroup", "excess")})
    assert [(each.test, each.score) for each in left] == [("rare-subgroup", "oldest")]


def test_what_cannot_be_used_has_its_reason_and_no_ends_and_costs_the_others_nothing():
    few = auc("min-k", members=25)
    whole, *without = estimates([found("membership", auc(), UNSAID, few)], 20, 0.025)
    assert [each.note for each in without] == [
        "not measurable: too few",
        "not measurable: too few patients for an AUC",
    ]
    assert all(each.estimate is each.lower is each.upper is None for each in without)
    ends = pool([auc()]).interval(0.025)
    assert (whole.lower, whole.upper, whole.note) == (ends.lower, ends.upper, "")


def test_lower_ends_hold_together_and_upper_ends_alone():
    findings = [found("membership", auc(), auc("min-k")), found("rare-subgroup", auc("oldest"))]
    lower, upper = pool([auc()]).interval(0.025 / 3).lower, pool([auc()]).interval(0.025).upper
    assert {(each.lower, each.upper) for each in estimates(findings, 20, 0.025)} == {(lower, upper)}
