"""Groups in a bundle: `verify` takes them as parts of those who were audited, and asks a gate of each."""

from decimal import Decimal

import pytest

from oathbound.core.canonical import canonical, digest
from oathbound.core.catalogue import SUBGROUP_THREAT
from oathbound.core.claims import Verdict
from oathbound.core.errors import NotAcceptable
from oathbound.core.finding import Auc, Finding, Measured, NotMeasurable, audit_seed
from oathbound.evidence.predicates import Found
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

LATER = NOW + 48 * 3600
AUDIT = {"alpha": "0.05", "minimum_patients": 20, "groups": {"oldest": 80, "rare": 5}}
GATES = [{"test": "rare-subgroup", "metric": "auc", "at_most": "0.7"}]
BLIND = NotMeasurable(kind="not-measurable", metric="baseline", score="records", reason="too few patients")


def area(group, members, held_out, estimate="0.5"):
    facts = {"estimate": Decimal(estimate), "standard_error": Decimal("0.02")}
    return Auc(kind="auc", score=group, members=members, held_out=held_out, **facts)


def unsaid(group):
    return NotMeasurable(kind="not-measurable", metric="auc", score=group, reason="too few")


def grouped(*measures):
    """A consortium of 500 members and 215 held-out a site in which every site states this of its groups."""
    consortium = Consortium.of(audit=AUDIT, gates=GATES)
    consortium.swear().admit().start().train().make().audit()
    model = digest(canonical({"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}))
    for site in consortium.sites:
        identity = {"policy": consortium.policy.digest, "model": model, "nonce": consortium.nonce(site)}
        finding = Finding(
            test="rare-subgroup",
            version=1,
            site=site,
            model=model,
            seed=audit_seed(**identity, test="rare-subgroup", site=site),
            threat=SUBGROUP_THREAT,
            outcome=Measured(kind="measured", measures=(BLIND, *measures), tokens=0),
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
    return consortium.decide()


def verdict_of(consortium):
    return verify(consortium.bundle(), consortium.trust(), at=LATER).judgement.verdict


OTHERS = area("others", 350, 130)


@pytest.mark.parametrize(
    ("measures", "verdict"),
    [
        ((area("oldest", 100, 45), area("rare-code", 50, 40), OTHERS), Verdict.PASS),
        ((area("oldest", 100, 45, "0.9"), area("rare-code", 50, 40), OTHERS), Verdict.FAIL),
        ((unsaid("oldest"), unsaid("rare-code"), OTHERS), Verdict.INCONCLUSIVE),
    ],
)
def test_every_group_is_judged_and_none_is_passed_over(measures, verdict):
    assert verdict_of(grouped(*measures)) is verdict


@pytest.mark.parametrize(
    "measures",
    [
        (area("oldest", 500, 215), area("rare-code", 500, 215), area("others", 500, 215)),
        (area("oldest", 100, 45), area("rare-code", 50, 40), area("others", 250, 130)),
        (unsaid("oldest"), area("rare-code", 50, 100), OTHERS),
    ],
)
def test_groups_that_are_no_parts_of_those_who_were_audited_are_refused(measures):
    with pytest.raises(NotAcceptable, match="on other patients than it audited"):
        verdict_of(grouped(*measures))


def test_a_group_may_not_be_left_out():
    with pytest.raises(NotAcceptable, match="not all that the test measures"):
        verdict_of(grouped(area("oldest", 100, 45), area("others", 400, 170)))
