"""What the command line says of planted patients."""

from decimal import Decimal

from oathbound.cli.words import finding_lines, judgement_lines
from oathbound.core.catalogue import CANARY_THREAT
from oathbound.core.claims import BROKEN, Claim, Verdict
from oathbound.core.finding import Finding, Measured, OneRun
from oathbound.core.gates import Judgement

DIGEST = "sha256:" + "0" * 64


def test_a_finding_says_the_counts_and_what_they_show():
    measure = OneRun(
        kind="one-run",
        score="loss-difference",
        planted=1000,
        guesses=100,
        right=75,
        delta=Decimal("0.0001"),
    )
    finding = Finding(
        test="canary",
        version=1,
        site="north",
        model=DIGEST,
        seed=DIGEST,
        threat=CANARY_THREAT,
        outcome=Measured(kind="measured", measures=(measure,), tokens=1),
    )
    (line,) = finding_lines(finding)
    assert line == (
        "north  canary  loss-difference: 75 of 100 guesses right, of 1000 canaries planted: "
        "epsilon at least 0.583 at delta 0.0001, with confidence 97.5 %"
    )


def test_a_broken_promise_is_said_once_as_a_claim_and_once_as_the_verdict():
    claim = Claim(
        test="canary",
        metric=BROKEN,
        score="loss-difference",
        site="north",
        attempt=1,
        gate=Decimal("0.5"),
        state=Verdict.FAIL,
        note="canary at north shows an epsilon of at least 1.2",
        lower=Decimal("1.2"),
    )
    judgement = Judgement(Verdict.FAIL, (claim,), f"refused: {claim.note}")
    assert list(judgement_lines(judgement)) == [
        f"canary one-run  north: {claim.note}",
        f"refused: {claim.note}",
    ]
