"""Linkage in the verdict: on what the model adds, and never on what recordings give away by themselves."""

from decimal import Decimal

from oathbound.core.audit_plan import AuditPlan, LinkagePlan
from oathbound.core.claims import Verdict
from oathbound.core.finding import Excess, Finding, Measured, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.study import Gate

DIGEST = "sha256:" + "0" * 64
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, linkage=LinkagePlan(gallery=100))


def linked(score, estimate):
    return Excess(
        kind="excess",
        score=score,
        estimate=Decimal(estimate),
        standard_error=Decimal("0.01"),
        member_mean=Decimal("0.5") + Decimal(estimate),
        held_out_mean=Decimal("0.5"),
        members=100,
        held_out=100,
        strata="none",
    )


def judged(test, *measures):
    finding = Finding(
        test=test,
        version=1,
        site="north",
        model=DIGEST,
        seed=DIGEST,
        threat=Threat(sees="s", knows="k"),
        outcome=Measured(kind="measured", measures=measures, tokens=1),
    )
    gate = Gate(test=test, metric="excess", at_most=Decimal("0.2"))
    return judge((gate,), PLAN, ("north",), [Attempted(finding, 1)])


def test_what_recordings_give_away_is_no_claim_about_the_model():
    measures = linked("verification", "0.00"), linked("verification-of-values", "0.40")
    judgement = judged("image-linkage", *measures)
    assert judgement.verdict is Verdict.PASS
    assert [claim.score for claim in judgement.claims] == ["verification"]


def test_a_score_of_that_name_of_another_test_is_judged():
    assert judged("another", linked("verification-of-values", "0.40")).verdict is Verdict.FAIL


def test_a_model_that_links_its_members_fails():
    assert judged("image-linkage", linked("verification", "0.40")).verdict is Verdict.FAIL
