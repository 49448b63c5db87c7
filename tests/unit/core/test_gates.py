"""The verdict: what fails, what passes, and everything that must leave it undecided."""

from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.claims import EVERYWHERE, Verdict
from oathbound.core.errors import NotAcceptable, NothingExamined, WrongInput
from oathbound.core.exits import Exit
from oathbound.core.finding import (
    Auc,
    DidNotRun,
    Excess,
    Finding,
    Measured,
    NotMeasurable,
    Threat,
    TruePositiveRate,
)
from oathbound.core.gates import Attempted, judge
from oathbound.core.intervals import clopper_pearson
from oathbound.core.study import Gate

SITES = ("north", "south")
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    sensitive=SensitiveSet(name="s", codes=("S",), implied_by=(), prompt_events=1, horizon=1, chains=1),
)
AUC_GATE = Gate(test="membership", metric="auc", at_most=Decimal("0.55"))
TPR_GATE = Gate(test="membership", metric="tpr-at-1-percent", at_most=Decimal("0.03"))
EXCESS_GATE = Gate(test="sensitive-disclosure", metric="excess", at_most=Decimal("0.01"))


def auc(estimate, error="0.005", *, score="loss", members=1000, held_out=1000):
    return Auc(
        kind="auc",
        score=score,
        estimate=Decimal(estimate),
        standard_error=Decimal(error),
        members=members,
        held_out=held_out,
    )


def rate(lower_hits, upper_hits, members=1000, held_out=1000):
    return TruePositiveRate(
        kind="tpr-at-1-percent",
        score="loss",
        lower_hits=lower_hits,
        upper_hits=upper_hits,
        members=members,
        held_out=held_out,
    )


def excess(estimate, error):
    return Excess(
        kind="excess",
        score="emission",
        estimate=Decimal(estimate),
        standard_error=Decimal(error),
        member_mean=Decimal("0.2") + Decimal(estimate),
        held_out_mean=Decimal("0.2"),
        members=500,
        held_out=500,
        strata="none",
    )


def found(site, *measures, attempt=1, test="membership", model="a", outcome=None):
    return Attempted(
        Finding(
            test=test,
            version=1,
            site=site,
            model="sha256:" + model * 64,
            seed="sha256:" + "0" * 64,
            threat=Threat(sees="s", knows="k"),
            outcome=outcome or Measured(kind="measured", measures=measures, tokens=1),
        ),
        attempt,
    )


def verdict(*findings, gates=(AUC_GATE,), sites=SITES):
    return judge(gates, PLAN, sites, findings)


def test_small_upper_ends_pass_and_the_sentence_names_the_closest():
    judgement = verdict(found("north", auc("0.505")), found("south", auc("0.510")))
    assert judgement.verdict is Verdict.PASS
    assert judgement.verdict.exit is Exit.DONE
    assert judgement.sentence.startswith("accepted: ")
    assert "membership AUC of loss at all sites" in judgement.sentence


def test_a_large_lower_end_fails_with_the_reason():
    judgement = verdict(found("north", auc("0.95")), found("south", auc("0.94")))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.verdict.exit is Exit.GATE_FAILED
    assert judgement.sentence.startswith("refused: membership AUC of loss at ")
    assert judgement.sentence.endswith("above the gate 0.55")


def test_one_exposed_site_is_enough_to_fail():
    judgement = verdict(
        found("north", auc("0.48", members=10_000)), found("south", auc("0.62", "0.01", members=200))
    )
    combined = next(claim for claim in judgement.claims if claim.site == EVERYWHERE)
    assert combined.state is Verdict.PASS
    assert judgement.verdict is Verdict.FAIL
    assert "at south" in judgement.sentence


def test_one_wide_site_does_not_prevent_a_pass():
    judgement = verdict(
        found("north", auc("0.50", "0.010", members=9000)),
        found("south", auc("0.50", "0.060", members=1000, held_out=80)),
    )
    south = next(claim for claim in judgement.claims if claim.site == "south")
    assert south.state is Verdict.INCONCLUSIVE
    assert judgement.verdict is Verdict.PASS


def test_between_is_inconclusive_with_what_would_settle_it():
    judgement = verdict(
        found("north", auc("0.53", "0.02")), found("south", auc("0.53", "0.02")), gates=(AUC_GATE,)
    )
    claim = next(claim for claim in judgement.claims if claim.site == EVERYWHERE)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.verdict.exit is Exit.INCONCLUSIVE
    # SE of the mean is .02 / sqrt 2, 2000 held-out patients: 2000 ((2.241 + 0.842) SE / .02) ** 2 = 9505
    assert "about 9,600 held-out patients, with members in proportion, would settle it" in claim.note
    # three claims: the lower end is at z = 2.638
    assert claim.detectable == Decimal("0.600")


def test_what_is_detectable_of_an_excess_allows_for_the_members_who_carry_it():
    # One claim: z = 2.241. E = .01 + z S(E), S(E)^2 = .003^2 + E (1 / 498 + 498 / 996 / 498);
    # D = E + .842 SE(D), SE(D)^2 = .003^2 + D / 498
    clean = found("north", excess("0", "0.003"), test="sensitive-disclosure")
    claim = verdict(clean, gates=(EXCESS_GATE,), sites=("north",)).claims[0]
    failing = 0.0335
    assert failing == pytest.approx(0.01 + 2.2414 * (9e-6 + failing * 1.5 / 498) ** 0.5, abs=1e-4)
    assert claim.detectable == Decimal("0.042")


def test_an_estimate_at_the_gate_cannot_be_settled():
    judgement = verdict(found("north", auc("0.55", "0.02")), found("south", auc("0.55", "0.02")))
    assert "not settleable" in judgement.sentence


def test_the_gate_itself_passes_and_one_unit_less_does_not():
    findings = (found("north", auc("0.505")), found("south", auc("0.510")))
    upper = verdict(*findings).claims[0].upper
    at = AUC_GATE.model_copy(update={"at_most": upper})
    below = AUC_GATE.model_copy(update={"at_most": upper - Decimal("0.001")})
    assert verdict(*findings, gates=(at,)).verdict is Verdict.PASS
    assert verdict(*findings, gates=(below,)).verdict is Verdict.INCONCLUSIVE


def test_lower_ends_widen_with_the_number_of_claims_and_upper_ends_do_not():
    few = verdict(found("north", auc("0.6")), found("south", auc("0.6"))).claims[0]
    many = verdict(*(found(site, *(auc("0.6", score=f"s{i}") for i in range(20))) for site in SITES)).claims[
        0
    ]
    assert many.lower < few.lower
    assert many.upper == few.upper


def test_a_later_attempt_spends_less():
    first = verdict(found("north", auc("0.53")), found("south", auc("0.53")))
    third = verdict(found("north", auc("0.53"), attempt=3), found("south", auc("0.53"), attempt=3))
    assert third.claims[0].lower < first.claims[0].lower
    assert third.claims[0].upper > first.claims[0].upper


def test_a_later_attempt_replaces_undecided():
    undecided = [found(site, auc("0.53", "0.03")) for site in SITES]
    clear = [found(site, auc("0.50"), attempt=2) for site in SITES]
    assert verdict(*undecided).verdict is Verdict.INCONCLUSIVE
    assert verdict(*undecided, *clear).verdict is Verdict.PASS
    assert verdict(*clear, *undecided).verdict is Verdict.PASS


def test_a_later_attempt_never_erases_a_fail():
    failed = [found(site, auc("0.9")) for site in SITES]
    clear = [found(site, auc("0.5"), attempt=2) for site in SITES]
    judgement = verdict(*clear, *failed)
    assert judgement.verdict is Verdict.FAIL
    assert {claim.attempt for claim in judgement.claims} == {1}


def test_a_fail_at_one_site_stands_though_another_had_not_reported_yet():
    early = found("north", auc("0.9"))
    clear = [found(site, auc("0.5"), attempt=2) for site in SITES]
    assert verdict(early, *clear).verdict is Verdict.FAIL


def test_a_later_attempt_that_did_not_run_blocks():
    clear = [found(site, auc("0.5")) for site in SITES]
    broken = found("north", attempt=2, outcome=DidNotRun(kind="did-not-run", reason="no memory"))
    assert verdict(*clear, broken).verdict is Verdict.INCONCLUSIVE


def test_of_two_results_of_one_attempt_the_worse_stands():
    good, bad = found("north", auc("0.50")), found("north", auc("0.90"))
    south = found("south", auc("0.50"))
    assert verdict(good, bad, south).verdict is Verdict.FAIL
    assert verdict(bad, good, south).verdict is Verdict.FAIL
    broken = found("north", outcome=DidNotRun(kind="did-not-run", reason="no memory"))
    assert verdict(good, broken, south).verdict is Verdict.INCONCLUSIVE


def test_an_exact_replay_changes_nothing():
    findings = (found("north", auc("0.53", "0.02")), found("south", auc("0.53", "0.02")))
    assert verdict(*findings, *findings) == verdict(*findings)


@pytest.mark.parametrize(
    ("south", "reason"),
    [
        ([], "there is no finding"),
        (
            [found("south", outcome=DidNotRun(kind="did-not-run", reason="no memory"))],
            "did not run: no memory",
        ),
        (
            [
                found(
                    "south",
                    NotMeasurable(kind="not-measurable", metric="auc", score="loss", reason="too few"),
                )
            ],
            "not measurable: too few",
        ),
        ([found("south", rate(0, 5))], "the finding has no auc"),
        ([found("south", auc("0.5", score="other"))], "the site did not measure loss"),
        ([found("south", auc("0.5", members=15))], "fewer patients than the policy's minimum"),
        ([found("south", auc("0.5", held_out=0))], "fewer patients than the policy's minimum"),
        ([found("south", auc("0.5", "0"))], "the scores have no spread"),
    ],
)
def test_a_site_without_a_usable_measurement_blocks_a_pass(south, reason):
    judgement = verdict(found("north", auc("0.50")), *south)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any(reason in claim.note for claim in judgement.claims)


def test_a_site_that_is_missing_does_not_hide_a_fail_elsewhere():
    assert verdict(found("north", auc("0.9"))).verdict is Verdict.FAIL


def test_a_gate_on_an_unknown_test_is_undecided():
    gate = Gate(test="clairvoyance", metric="auc", at_most=Decimal("0.9"))
    judgement = verdict(*(found(site, auc("0.5")) for site in SITES), gates=(AUC_GATE, gate))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "clairvoyance" in judgement.sentence


def test_every_score_must_hold():
    def site(name, worse):
        return found(name, auc("0.50"), auc(worse, score="min-k"))

    assert verdict(site("north", "0.50"), site("south", "0.50")).verdict is Verdict.PASS
    judgement = verdict(site("north", "0.70"), site("south", "0.70"))
    assert judgement.verdict is Verdict.FAIL
    assert "min-k" in judgement.sentence


def test_perfect_separation_fails_by_the_exact_limit():
    findings = [found(site, auc("1", "0", members=40, held_out=40)) for site in SITES]
    claim = verdict(*findings).claims[0]
    assert verdict(*findings).verdict is Verdict.FAIL
    assert Decimal("0.8") < claim.lower < Decimal("0.97")
    assert claim.upper == 1


def test_a_perfect_site_does_not_make_the_combined_estimate_certain():
    lone = verdict(
        found("north", auc("1", "0", members=40, held_out=40)), found("south", auc("0.5", members=40))
    )
    combined = next(claim for claim in lone.claims if claim.site == EVERYWHERE)
    assert combined.upper - combined.lower > Decimal("0.1")


def test_too_few_patients_for_an_auc_block_a_pass():
    few = auc("0.5", "0.02", members=30, held_out=500)
    judgement = verdict(found("north", few), found("south", auc("0.5")))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("too few patients for an AUC" in claim.note for claim in judgement.claims)


def test_a_score_that_ranks_members_last_does_not_pass():
    turned = verdict(*(found(site, auc("0.1", "0.01")) for site in SITES))
    assert turned.verdict is Verdict.INCONCLUSIVE
    assert "turns round" in turned.sentence
    assert verdict(*(found(site, auc("0.48", "0.005")) for site in SITES)).verdict is Verdict.PASS


def test_rates_are_summed_with_their_rounding_moved_outward():
    findings = [found(site, rate(0, 5, members=2000, held_out=2000)) for site in SITES]
    judgement = verdict(*findings, gates=(TPR_GATE,))
    assert judgement.verdict is Verdict.PASS
    combined = judgement.claims[0]
    assert (combined.members, combined.held_out) == (4000, 4000)
    assert combined.lower == 0
    assert Decimal("0.005") <= combined.upper <= Decimal("0.008")
    leaky = [found(site, rate(200, 250, members=2000, held_out=2000)) for site in SITES]
    assert verdict(*leaky, gates=(TPR_GATE,)).verdict is Verdict.FAIL


def test_a_rate_needs_437_held_out_patients_and_ordered_hits():
    for bad in (rate(0, 5, held_out=430), rate(50, 5), rate(0, 1005, members=1000)):
        judgement = verdict(found("north", rate(0, 5)), found("south", bad), gates=(TPR_GATE,))
        assert judgement.verdict is Verdict.INCONCLUSIVE
        assert any("not measurable" in claim.note for claim in judgement.claims)


def test_excess_is_averaged_with_carriers_as_weights():
    def of(estimate, error):
        return [found(site, excess(estimate, error), test="sensitive-disclosure") for site in SITES]

    assert verdict(*of("0.001", "0.003"), gates=(EXCESS_GATE,)).verdict is Verdict.PASS
    assert verdict(*of("0.200", "0.010"), gates=(EXCESS_GATE,)).verdict is Verdict.FAIL
    assert verdict(*of("0.005", "0.010"), gates=(EXCESS_GATE,)).verdict is Verdict.INCONCLUSIVE
    assert verdict(*of("0.000", "0"), gates=(EXCESS_GATE,)).verdict is Verdict.INCONCLUSIVE


def test_a_single_site_is_judged_alone():
    judgement = verdict(found("north", auc("0.50")), sites=("north",))
    assert judgement.verdict is Verdict.PASS
    assert len(judgement.claims) == 1


def test_nothing_empty_passes():
    finding = found("north", auc("0.5"))
    for gates, sites, findings in (
        ((), SITES, [finding]),
        ((AUC_GATE,), (), [finding]),
        ((AUC_GATE,), SITES, []),
    ):
        with pytest.raises(NothingExamined):
            judge(gates, PLAN, sites, findings)


def test_what_does_not_belong_together_is_refused():
    for findings in (
        [found("north", auc("0.5")), found("south", auc("0.5"), model="b")],
        [found("elsewhere", auc("0.5"))],
        [found("north", auc("0.5"), attempt=0)],
    ):
        with pytest.raises(NotAcceptable):
            verdict(*findings)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-0.1", "1.1"])
def test_a_number_that_is_no_auc_never_becomes_a_finding(text):
    with pytest.raises(WrongInput):
        Auc.parse({**auc("0.5").plain(), "estimate": text}, what="finding")


def test_a_lower_end_at_the_gate_does_not_fail():
    findings = (found("north", auc("0.70")), found("south", auc("0.70")))
    lower = max(claim.lower for claim in verdict(*findings).claims)
    at = AUC_GATE.model_copy(update={"at_most": lower})
    below = AUC_GATE.model_copy(update={"at_most": lower - Decimal("0.001")})
    assert verdict(*findings, gates=(at,)).verdict is Verdict.INCONCLUSIVE
    assert verdict(*findings, gates=(below,)).verdict is Verdict.FAIL


def test_of_two_results_of_one_attempt_the_larger_enters_the_claim_over_all_sites():
    good, bad, south = (
        found("north", auc("0.50")),
        found("north", auc("0.54")),
        found("south", auc("0.50")),
    )
    assert verdict(good, bad, south).claims[0].estimate == Decimal("0.52")
    assert verdict(bad, good, south).claims[0].estimate == Decimal("0.52")


def test_a_rate_has_clopper_pearson_ends_at_half_the_error_from_counts_moved_outward():
    findings = [found(site, rate(20, 60, members=1000, held_out=2000)) for site in SITES]
    claims = verdict(*findings, gates=(TPR_GATE,)).claims
    assert len(claims) == 3
    combined = claims[0]
    assert combined.lower == clopper_pearson(40 - 4, 2000 + 4, 0.0125 / 3 / 2).lower
    assert combined.upper == clopper_pearson(120 + 4, 2000 - 4, 0.0125 / 2).upper
    assert combined.estimate == Decimal("0.04")
