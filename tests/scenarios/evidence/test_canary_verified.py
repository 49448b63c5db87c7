"""Planted patients in a bundle: `verify` recomputes the bound, of the counts that were planned alone."""

from decimal import Decimal

import pytest

from oathbound.core.canonical import canonical, digest
from oathbound.core.catalogue import CANARY_THREAT
from oathbound.core.claims import BROKEN, Verdict
from oathbound.core.errors import NotAcceptable
from oathbound.core.finding import Finding, Measured, NotMeasurable, OneRun, audit_seed
from oathbound.evidence.predicates import Found
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

LATER = NOW + 48 * 3600
AUDIT = {"alpha": "0.05", "minimum_patients": 20, "canaries": {"planted": 400, "guesses": 200}}
TOO_FEW = NotMeasurable(kind="not-measurable", metric="one-run", score="loss-difference", reason="too few")


def run(right, *, planted=400, guesses=200, delta="0.000001"):
    return OneRun(
        kind="one-run",
        score="loss-difference",
        planted=planted,
        guesses=guesses,
        right=right,
        delta=Decimal(delta),
    )


def planted(measure, **policy):
    """A consortium in which every site also states this of its planted patients, before it is decided."""
    consortium = Consortium.of(audit=AUDIT, **policy)
    consortium.swear().admit().start().train().make().audit()
    model = digest(canonical({"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}))
    for site in consortium.sites:
        identity = {"policy": consortium.policy.digest, "model": model, "nonce": consortium.nonce(site)}
        finding = Finding(
            test="canary",
            version=1,
            site=site,
            model=model,
            seed=audit_seed(**identity, test="canary", site=site),
            threat=CANARY_THREAT,
            outcome=Measured(kind="measured", measures=(measure,), tokens=0),
        )
        found = Found(
            policy_digest=consortium.policy.digest,
            site=site,
            run=consortium.found[site][0].run,
            nonce=consortium.nonce(site),
            finding=finding,
        )
        consortium.found[site].append(found)
        consortium.say(found)
    return consortium


def verified(consortium):
    return verify(consortium.bundle(), consortium.trust(), at=LATER)


def test_a_broken_promise_refuses_a_release_whose_every_gate_held():
    judgement = verified(planted(run(190)).decide()).judgement
    assert judgement.verdict is Verdict.FAIL
    assert {claim.metric for claim in judgement.claims if claim.state is Verdict.FAIL} == {BROKEN}
    assert "of the training procedure, for which" in judgement.sentence


def test_who_decides_otherwise_is_not_believed():
    with pytest.raises(NotAcceptable, match="the decision says pass") as refused:
        verified(planted(run(190)).decide(verdict="pass"))
    assert refused.value.step == 14


@pytest.mark.parametrize("measure", [run(105), run(0), TOO_FEW])
def test_what_shows_nothing_leaves_the_verdict_to_the_gates(measure):
    assert verified(planted(measure).decide()).judgement.verdict is Verdict.PASS


@pytest.mark.parametrize("chosen", [run(95, guesses=100), run(190, planted=200), run(190, delta="0.1")])
def test_other_counts_than_were_planned_are_refused(chosen):
    """To plant more weakens what is shown, and to choose how many are guessed chooses the result."""
    with pytest.raises(NotAcceptable, match="not all that the test measures") as refused:
        verified(planted(chosen).decide())
    assert refused.value.step == 13


def test_without_a_budget_the_counts_are_only_told():
    consortium = planted(run(200, delta="0.00001"), privacy="none", budget=None)
    assert verified(consortium.decide()).judgement.verdict is Verdict.PASS
