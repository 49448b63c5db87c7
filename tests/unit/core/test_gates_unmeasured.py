"""What a verdict says of sites that measured nothing, and of the smallest cohorts that it takes."""

from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.claims import Verdict
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Auc, DidNotRun, Excess, Finding, Measured, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.study import Gate

SITES = ("north", "south")
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    sensitive=SensitiveSet(name="s", codes=("S",), implied_by=(), prompt_events=1, horizon=1, chains=1),
)
GATE = Gate(test="membership", metric="auc", at_most=Decimal("0.55"))
EXCESS_GATE = Gate(test="sensitive-disclosure", metric="excess", at_most=Decimal("0.9"))


def auc(score="loss", estimate="0.5", error="0.005"):
    return Auc(
        kind="auc",
        score=score,
        estimate=Decimal(estimate),
        standard_error=Decimal(error),
        members=1000,
        held_out=1000,
    )


def excess(patients):
    return Excess(
        kind="excess",
        score="emission",
        estimate=Decimal("0.001"),
        standard_error=Decimal("0.001"),
        member_mean=Decimal("0.1"),
        held_out_mean=Decimal("0.1"),
        members=patients,
        held_out=patients,
        strata="none",
    )


def found(site, *measures, test="membership"):
    outcome = (
        Measured(kind="measured", measures=measures, tokens=1)
        if measures
        else DidNotRun(kind="did-not-run", reason="no electricity")
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
    return Attempted(finding, 1)


def places(judgement):
    return [(claim.site, claim.score, claim.note) for claim in judgement.claims if claim.estimate is None]


def test_a_site_that_did_not_run_is_one_claim_and_the_reason_of_the_verdict():
    judgement = judge((GATE,), PLAN, SITES, [found("north", auc()), found("south")])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert places(judgement) == [("south", "", "did not run: no electricity")]
    assert [claim.site for claim in judgement.claims] == ["north", "south"]
    assert judgement.sentence == "undecided: membership AUC at south: did not run: no electricity"


def test_a_score_that_one_site_left_out_is_a_claim_of_that_site():
    findings = [found("north", auc(), auc("min-k")), found("south", auc())]
    judgement = judge((GATE,), PLAN, SITES, findings)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert places(judgement) == [("south", "min-k", "the site did not measure min-k")]


def test_a_single_site_is_asked_once():
    judgement = judge((GATE,), PLAN, ("north",), [found("north", auc())])
    assert [claim.site for claim in judgement.claims] == ["all sites"]


def test_an_excess_needs_forty_carriers_of_each_group():
    for patients, measured in ((35, False), (40, True)):
        finding = found("north", excess(patients), test="sensitive-disclosure")
        claim = judge((EXCESS_GATE,), PLAN, ("north",), [finding]).claims[0]
        assert (claim.estimate is not None) is measured
        assert measured or claim.note == "not measurable: too few carriers for an excess"


def test_an_auc_below_one_half_that_an_attacker_turns_round_is_said_to_be_so():
    judgement = judge((GATE,), PLAN, ("north",), [found("north", auc(estimate="0.44"))])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.claims[0].note == "the score may rank members last, which an attacker turns round"
    assert judgement.sentence.endswith(f", below the gate 0.55; but {judgement.claims[0].note}")


def test_an_auc_that_is_wide_on_both_sides_asks_for_more_patients():
    judgement = judge((GATE,), PLAN, ("north",), [found("north", auc(error="0.023"))])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "would settle it" in judgement.claims[0].note
    assert judgement.sentence.endswith(f", and so does the gate 0.55; {judgement.claims[0].note}")


def test_a_refusal_names_what_failed_and_not_what_was_left_out():
    gate = EXCESS_GATE.model_copy(update={"at_most": Decimal("-0.9")})
    findings = [found("north", excess(40), test=gate.test), found("south", test=gate.test)]
    judgement = judge((gate,), PLAN, SITES, findings)
    assert judgement.verdict is Verdict.FAIL
    assert "emission at north is at least" in judgement.sentence


def test_findings_are_asked_for():
    with pytest.raises(NothingExamined, match="no findings"):
        judge((GATE,), PLAN, SITES, [])


@pytest.mark.parametrize(("error", "usable"), [("0.023", True), ("0.025", False), ("1", False)])
def test_an_error_that_no_scores_have_is_not_believed(error, usable):
    claim = judge((GATE,), PLAN, ("north",), [found("north", auc(error=error))]).claims[0]
    assert (claim.estimate is not None) is usable
    assert usable or claim.note == "not measurable: the error is more than such an AUC can have"


def test_an_excess_may_have_an_error_that_an_auc_could_not():
    wide = excess(40).model_copy(update={"standard_error": Decimal("0.100")})
    claim = judge(
        (EXCESS_GATE,), PLAN, ("north",), [found("north", wide, test="sensitive-disclosure")]
    ).claims[0]
    assert claim.estimate is not None


@pytest.mark.parametrize(("member_mean", "usable"), [("0.103", True), ("0.104", False), ("0.9", False)])
def test_a_difference_that_is_not_that_of_its_means_is_not_believed(member_mean, usable):
    odd = excess(40).model_copy(update={"member_mean": Decimal(member_mean)})
    claim = judge(
        (EXCESS_GATE,), PLAN, ("north",), [found("north", odd, test="sensitive-disclosure")]
    ).claims[0]
    assert (claim.estimate is not None) is usable
    assert usable or claim.note == "not measurable: the difference is not that of the means"


@pytest.mark.parametrize(("south", "verdict"), [("0.515", Verdict.PASS), ("0.000", Verdict.INCONCLUSIVE)])
def test_a_site_that_ranks_its_members_last_blocks_whatever_the_others_do(south, verdict):
    exact = "0" if south == "0.000" else "0.005"
    small = auc(estimate=south, error=exact).model_copy(update={"members": 50, "held_out": 50})
    judgement = judge((GATE,), PLAN, SITES, [found("north", auc()), found("south", small)])
    assert judgement.verdict is verdict
    assert verdict is Verdict.PASS or "rank members last" in judgement.sentence


def test_a_site_that_might_be_turned_by_chance_alone_does_not_block():
    unsure = auc(estimate="0.450", error="0.040").model_copy(update={"members": 60, "held_out": 60})
    assert (
        judge((GATE,), PLAN, SITES, [found("north", auc()), found("south", unsure)]).verdict is Verdict.PASS
    )


def answered(estimate, patients, error="0.001"):
    changes = {
        "estimate": Decimal(estimate),
        "member_mean": Decimal("0.5") + Decimal(estimate),
        "held_out_mean": Decimal("0.5"),
        "standard_error": Decimal(error),
    }
    return excess(patients).model_copy(update=changes)


@pytest.mark.parametrize(
    ("test", "south", "verdict"),
    [
        ("attribute-inference", answered("0.000", 5000), Verdict.PASS),
        ("attribute-inference", answered("-0.400", 100), Verdict.INCONCLUSIVE),
        ("attribute-inference", answered("-0.050", 60, error="0.100"), Verdict.PASS),  # perhaps above 0
        ("sensitive-disclosure", answered("-0.400", 100), Verdict.PASS),  # a secret less likely is no answer
    ],
)
def test_a_site_whose_attribute_is_answered_wrongly_blocks_whatever_the_others_do(test, south, verdict):
    gate = Gate(test=test, metric="excess", at_most=Decimal("0.1"))
    findings = [found("north", answered("0.000", 20_000), test=test), found("south", south, test=test)]
    assert judge((gate,), PLAN, SITES, findings).verdict is verdict


@pytest.mark.parametrize(("estimate", "verdict"), [("0.000", Verdict.PASS), ("-0.450", Verdict.INCONCLUSIVE)])
def test_an_attribute_that_is_answered_wrongly_of_members_is_given_away(estimate, verdict):
    gate = Gate(test="attribute-inference", metric="excess", at_most=Decimal("0.05"))
    answered = excess(2000).model_copy(
        update={
            "estimate": Decimal(estimate),
            "member_mean": Decimal("0.5") + Decimal(estimate),
            "held_out_mean": Decimal("0.5"),
        }
    )
    judgement = judge((gate,), PLAN, ("north",), [found("north", answered, test="attribute-inference")])
    assert judgement.verdict is verdict
    assert verdict is Verdict.PASS or "wrongly" in judgement.sentence
