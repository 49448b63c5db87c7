"""Where somebody who never asked the model tells the groups apart, no verdict is more than undecided."""

from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.finding import Auc, Baseline, Finding, Measured, Threat
from oathbound.core.gates import SHIFTED, Attempted, Verdict, judge
from oathbound.core.study import Gate

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
