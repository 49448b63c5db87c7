"""The verdict on a difference of two AUCs: what fails, what passes, and what an attacker turns round."""

import math
from decimal import Decimal

import pytest

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import EVERYWHERE, Verdict
from oathbound.core.finding import AucDifference, Finding, Measured, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.pooling import pool
from oathbound.core.study import Gate

PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20)
GATE = Gate(test="embedding-probe", metric="auc-difference", at_most=Decimal("0.05"))
CARRIERS, OTHERS = 1000, 4000


def difference(members, held_out, *, errors=("0.008", "0.008"), carriers=(CARRIERS, CARRIERS), others=OTHERS):
    return AucDifference(
        kind="auc-difference",
        score="probe",
        member_auc=Decimal(members),
        member_error=Decimal(errors[0]),
        held_out_auc=Decimal(held_out),
        held_out_error=Decimal(errors[1]),
        members=carriers[0],
        member_others=others,
        held_out=carriers[1],
        held_out_others=others,
    )


def judged(*measures, gate=GATE, plan=PLAN):
    sites = tuple(f"s{i}" for i in range(len(measures)))
    findings = [
        Attempted(
            Finding(
                test="embedding-probe",
                version=1,
                site=site,
                model="sha256:" + "a" * 64,
                seed="sha256:" + "0" * 64,
                threat=Threat(sees="states", knows="prompts"),
                outcome=Measured(kind="measured", measures=(measure,), tokens=1),
            ),
            1,
        )
        for site, measure in zip(sites, measures, strict=True)
    ]
    return judge((gate,), plan, sites, findings)


def test_the_ends_are_the_hypotenuse_of_the_distances_to_those_of_either_auc():
    measure = difference("0.9", "0.6")
    ends = pool([measure]).interval(0.025)
    own, others = pool([measure.of_members]).interval(0.025), pool([measure.of_held_out]).interval(0.025)
    assert float(ends.lower) == pytest.approx(
        0.3 - math.hypot(0.9 - float(own.lower), float(others.upper) - 0.6), abs=0.001
    )
    assert float(ends.upper) == pytest.approx(
        0.3 + math.hypot(float(own.upper) - 0.9, 0.6 - float(others.lower)), abs=0.001
    )
    assert ends.upper - Decimal("0.3") < Decimal("0.3") - ends.lower  # an AUC near one has less room above


def test_a_perfect_auc_has_an_error_of_zero_and_still_a_limit():
    ends = pool([difference("1", "0.6", errors=("0", "0.01"), carriers=(20, 1000))]).interval(0.025)
    assert ends.lower < Decimal("0.4") - Decimal("0.15")
    assert ends.upper >= Decimal("0.4")


def test_sites_are_weighed_by_member_carriers_in_both_groups():
    large = difference("0.7", "0.6", carriers=(300, 100))
    small = difference("0.9", "0.9", carriers=(100, 300))
    assert pool([large, small]).estimate == Decimal("0.075")
    assert pool([large]).members == 300
    assert pool([large, small]).held_out == 400


@pytest.mark.parametrize(
    ("measure", "verdict"),
    [
        (difference("0.70", "0.70"), Verdict.PASS),
        (difference("0.60", "0.70"), Verdict.PASS),
        (difference("0.80", "0.70"), Verdict.FAIL),
        (difference("0.74", "0.70"), Verdict.INCONCLUSIVE),
        (difference("0.30", "0.50"), Verdict.INCONCLUSIVE),
        (difference("0.50", "0.50"), Verdict.PASS),
    ],
)
def test_above_the_gate_fails_below_passes_and_a_probe_that_reads_the_wrong_way_round_does_not_pass(
    measure, verdict
):
    assert judged(measure).verdict is verdict


def test_a_probe_that_reads_the_wrong_way_round_is_said_to_be_turned():
    (claim,) = judged(difference("0.30", "0.50")).claims
    assert "turns round" in claim.note
    assert "with the secret" in claim.note


def test_one_site_that_gives_secrets_away_fails_all():
    judgement = judged(difference("0.70", "0.70"), difference("0.90", "0.70"), difference("0.70", "0.70"))
    assert judgement.verdict is Verdict.FAIL
    assert {claim.site for claim in judgement.claims} == {EVERYWHERE, "s0", "s1", "s2"}


@pytest.mark.parametrize(
    "measure",
    [
        difference("0.7", "0.7", carriers=(15, 1000)),
        difference("0.7", "0.7", carriers=(1000, 15)),
        difference("0.7", "0.7", others=15),
        difference("0.7", "0.7", errors=("0", "0.01")),
        difference("0.7", "0.7", errors=("0.01", "0")),
    ],
)
def test_what_a_site_should_have_suppressed_is_not_believed(measure):
    (claim,) = judged(measure).claims
    assert claim.state is Verdict.INCONCLUSIVE
    assert claim.estimate is None
    assert claim.note.startswith("not measurable")


def test_a_probe_that_never_errs_is_judged_though_its_auc_has_no_error():
    """What tells a secret without fail is the worst there is: it is no measure that cannot be used."""
    (claim,) = judged(difference("1", "0.6", errors=("0", "0.01"))).claims
    assert (claim.estimate, claim.state) == (Decimal("0.4"), Verdict.FAIL)


def test_the_policys_minimum_counts_where_it_is_larger():
    strict = PLAN.model_copy(update={"minimum_patients": 100})
    measure = difference("0.7", "0.7", carriers=(90, 90))
    assert judged(measure, plan=strict).claims[0].estimate is None
    assert judged(measure).claims[0].estimate == 0


def test_what_would_settle_it_is_counted_in_carriers():
    (claim,) = judged(difference("0.72", "0.70")).claims
    assert "held-out carriers" in claim.note
    assert claim.detectable > GATE.at_most


@pytest.mark.parametrize(
    ("members", "held_out"), [("0.9", "0.6"), ("0.5", "0.5"), ("1", "0.7"), ("0.02", "0.98")]
)
def test_groups_that_change_places_change_the_sign_and_nothing_else(members, held_out):
    ends, mirrored = (
        pool([difference(one, other)]).interval(0.025)
        for one, other in ((members, held_out), (held_out, members))
    )
    assert (ends.lower, ends.upper) == (-mirrored.upper, -mirrored.lower)
    assert ends.lower <= Decimal(members) - Decimal(held_out) <= ends.upper
    assert -1 <= ends.lower < ends.upper <= 1


def test_probes_of_sites_that_point_different_ways_do_not_hide_each_other():
    """The mean of .3 and .7 is chance, and each is an attack."""
    gate = Gate(test="embedding-probe", metric="auc-difference", at_most=Decimal("0.1"))
    apart = [difference(each, "0.5") for each in ("0.3", "0.7")]
    judgement = judged(*apart, gate=gate)
    assert judgement.verdict is not Verdict.PASS
    assert pool(apart).turned(0.0125) > Decimal("0.18")


def test_a_site_that_is_only_too_small_to_know_is_not_turned_round():
    sure, wide = (
        difference("0.5", "0.5"),
        difference("0.5", "0.5", errors=("0.05", "0.05"), carriers=(60, 60)),
    )
    alone, together = pool([sure]).turned(0.0125), pool([sure, wide]).turned(0.0125)
    assert together < alone + Decimal("0.01")
    assert pool([wide]).turned(0.0125) > alone + Decimal("0.05")
