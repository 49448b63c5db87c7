"""Every part of every check of `verify` is needed: a lie for each, with the sentence that names it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from oathbound.core.canonical import canonical, digest
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.claims import Verdict
from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.core.finding import DidNotRun, Excess, Finding, Measured, NotMeasurable, audit_seed
from oathbound.evidence.contents import Contents
from oathbound.evidence.heads import origin
from oathbound.evidence.keys import Secret
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import cosign, decode, sign_checkpoint
from oathbound.evidence.predicates import Charged, Decided, Found, Oath
from oathbound.evidence.verify import Verified, verify
from oathbound.testing.consortium import DISCLOSING, NOW, Consortium

LATER = NOW + 48 * 3600
OTHER = "sha256:" + 64 * "9"


def verified(consortium: Consortium, *, at: int = LATER) -> Verified:
    return verify(consortium.bundle(), consortium.trust(), at=at)


def staged(*, until: str, **policy: Any) -> Consortium:
    """Return a consortium that did everything before the stage named `until`."""
    consortium = Consortium.of(**policy)
    for stage in ("swear", "admit", "start", "train", "make", "audit", "decide"):
        if stage == until:
            break
        getattr(consortium, stage)()
    return consortium


def head(consortium: Consortium, operator: str, *, by: Sequence[str]) -> str:
    """Take a checkpoint of a log, cosigned by whomever, its operator too; return its identity."""
    hashes = [leaf_hash(leaf) for leaf in consortium.logs[operator]]
    name = origin(consortium.policy, operator)
    note = sign_checkpoint(name, len(hashes), root(hashes), consortium.secrets[operator])
    for witness in by:
        note = cosign(note, consortium.secrets[witness], NOW + 120)
    consortium.notes[operator].append(note)
    return decode(note)[0].identity


def decided(consortium: Consortium, heads: dict[str, str]) -> Consortium:
    """Decide on heads that were taken before."""
    model = digest(canonical({"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}))
    verdict = consortium.verdict().value
    consortium.say(Decided(policy_digest=consortium.policy.digest, model=model, heads=heads, verdict=verdict))
    consortium.witness("coordinator", at=NOW + 120)
    return consortium


def disclosed(*measures: Any) -> Consortium:
    """Return a consortium whose sites also tell what the model discloses, in these measures."""
    consortium = staged(until="decide", audit=DISCLOSING)
    model = digest(canonical({"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}))
    policy, test = consortium.policy.digest, "sensitive-disclosure"
    for site in consortium.sites:
        nonce = consortium.nonce(site)
        finding = Finding(
            test=test,
            version=2,
            site=site,
            model=model,
            seed=audit_seed(policy=policy, model=model, nonce=nonce, test=test, site=site),
            threat=CATALOGUE["sensitive-disclosure"].threat,
            outcome=Measured(kind="measured", measures=measures, tokens=0),
        )
        run = consortium.found[site][0].run
        consortium.say(Found(policy_digest=policy, site=site, run=run, nonce=nonce, finding=finding))
    return consortium.decide()


def excess(members: int, held_out: int) -> Excess:
    return Excess(
        kind="excess",
        score="emission",
        estimate=Decimal(0),
        standard_error=Decimal("0.01"),
        member_mean=Decimal(0),
        held_out_mean=Decimal(0),
        members=members,
        held_out=held_out,
        strata="none",
    )


@pytest.mark.parametrize(
    "measure",
    [
        excess(500, 215),
        excess(100, 50),
        NotMeasurable(kind="not-measurable", metric="excess", score="emission", reason="too few carriers"),
    ],
    ids=["of all", "of carriers", "of too few"],
)
def test_an_excess_is_on_carriers_among_those_audited(measure: Any):
    assert verified(disclosed(measure)).judgement.verdict is Verdict.PASS


def test_a_test_that_did_not_run_at_all_is_whole():
    consortium = staged(until="audit").audit(outcome=DidNotRun(kind="did-not-run", reason="no power"))
    assert verified(consortium.decide()).judgement.verdict is Verdict.INCONCLUSIVE


def test_an_audit_may_be_of_all_who_were_trained_on_also_when_some_withdrew_later():
    consortium = staged(until="train").gather(1).step(1).gather(2, members=450).step(2)
    assert verified(consortium.charge().make().audit().decide())


def test_an_audit_may_be_repeated_by_newer_consents():
    consortium = staged(until="audit").audit().audit_cohort(as_of=NOW + 70).audit(estimate="0.501").decide()
    assert {claim.attempt for claim in verified(consortium).judgement.claims} == {2}


def test_a_classifier_is_measured_on_those_who_have_a_label():
    consortium = staged(
        until="audit",
        model={"name": "logistic-regression"},
        vocabulary=None,
        features={"present": ["a"], "numbers": [], "label": {"code": "b"}},
        audit={"alpha": "0.05", "minimum_patients": 20},
    )
    assert verified(consortium.audit(scores=("loss",), members=450).decide())


def test_more_cosignatures_than_needed_do_no_harm():
    consortium = staged(until="decide")
    everybody = ("coordinator", "east", "north")
    heads = {site: head(consortium, site, by=everybody) for site in consortium.sites}
    assert verified(decided(consortium, heads)).judgement.verdict is Verdict.PASS


def test_a_cosignature_may_be_as_late_as_clocks_differ():
    consortium = Consortium.finished()
    assert verified(consortium, at=NOW + 120 - 300)
    with pytest.raises(NotAcceptable, match="after the time of verification"):
        verified(consortium, at=NOW + 120 - 301)


def keys_that_are_missing() -> Consortium:
    consortium = Consortium.of().swear(but="east")
    for log in ("north", "coordinator"):
        consortium.witness(log, by=["north"])
    for things in (consortium.secrets, consortium.logs, consortium.notes):
        del things["east"]
    return consortium


def other_keys_than_the_policy_names() -> Consortium:
    consortium = Consortium.of()
    sites = [site.model_copy(update={"fingerprint": OTHER}) for site in consortium.policy.sites[1:]]
    consortium.policy = consortium.policy.model_copy(update={"sites": (consortium.policy.sites[0], *sites)})
    return consortium.swear().admit().start().train().make().audit().decide()


def keys_of_somebody_else() -> Consortium:
    consortium = Consortium.finished()
    consortium.secrets["west"] = Secret.generate("west")
    consortium.logs["west"] = consortium.logs["north"][:1]
    consortium.notes["west"] = []
    return consortium


@dataclass
class Rewriting(Consortium):
    """A consortium that writes its budget's epsilon in another way: it means the same."""

    def contents(self) -> Contents:
        plain = self.policy.plain()
        plain["budget"]["epsilon"] = "3.0"
        return replace(super().contents(), policy=canonical(plain))


def a_policy_in_another_form() -> Consortium:
    return Rewriting.finished()


def a_log_without_checkpoints() -> Consortium:
    consortium = Consortium.finished()
    consortium.notes["north"] = []
    return consortium


def checkpoints_in_another_order() -> Consortium:
    consortium = Consortium.finished()
    notes = consortium.notes["coordinator"]
    notes[0], notes[1] = notes[1], notes[0]
    return consortium


def a_checkpoint_that_stands_twice() -> Consortium:
    consortium = Consortium.finished()
    consortium.notes["coordinator"].insert(0, consortium.notes["coordinator"][0])
    return consortium


def a_site_that_is_none() -> Consortium:
    consortium = Consortium.of().swear()
    consortium.say(Oath(policy_digest=consortium.policy.digest, site="coordinator"), by="coordinator")
    return consortium.admit().start().train().make().audit().decide()


def a_finding_of_another_site() -> Consortium:
    return staged(until="audit").audit(site="north").decide()


def a_coordinator_as_a_witness() -> Consortium:
    consortium = staged(until="decide")
    return decided(
        consortium, {site: head(consortium, site, by=["coordinator"]) for site in consortium.sites}
    )


def a_site_as_its_own_witness() -> Consortium:
    consortium = staged(until="decide")
    return decided(consortium, {site: head(consortium, site, by=[site]) for site in consortium.sites})


def no_members() -> Consortium:
    return staged(until="admit").admit(members=0, held_out=10).start().train().make().audit().decide()


def nobody_to_hold_out() -> Consortium:
    consortium = staged(until="admit").admit(members=10, held_out=0).start()
    for number in (1, 2):
        consortium.gather(number, members=10).step(number)
    return consortium.charge().make().audit_cohort(members=10, held_out=0).audit(members=10).decide()


def more_members_than_the_whole_plan() -> Consortium:
    consortium = staged(until="admit").admit(members=1005, held_out=430, considered=2000)
    return consortium.start().train().make().audit().decide()


def more_steps_than_attempts() -> Consortium:
    consortium = staged(until="train").gather(1).step(1).gather(2).step(2, attempts=19)
    return consortium.charge(event=consortium.event(attempts=20)).make().audit().decide()


def a_round_without_steps() -> Consortium:
    consortium = staged(until="train").gather(1).step(1).gather(2).step(2).gather(3)
    last = {"first_weights": digest(b"last"), "last_weights": digest(b"last"), "attempts": 20}
    consortium.step(2, round=3, first_step=21, last_step=20, **last)
    return consortium.charge().make().audit().decide()


def an_audit_by_consents_from_before_the_admission() -> Consortium:
    consortium = staged(until="admit").admit(as_of=NOW + 250).start()
    for number in (1, 2):
        consortium.gather(number, as_of=NOW + 260).step(number)
    return consortium.charge().make(at=NOW).audit_cohort(as_of=NOW + 100).audit().decide()


def an_audit_by_consents_from_before_the_model() -> Consortium:
    consortium = staged(until="make").make(at=NOW + 1000)
    return consortium.audit_cohort(as_of=NOW + 100).audit().decide(at=NOW + 1000)


def an_audit_of_held_out_who_were_not_admitted() -> Consortium:
    return staged(until="audit").audit_cohort(held_out=220).audit().decide()


def an_admission_by_consents_of_the_future() -> Consortium:
    consortium = staged(until="admit").admit(as_of=NOW + 301).start()
    for number in (1, 2):
        consortium.gather(number, as_of=NOW + 302).step(number)
    return consortium.charge().make().audit_cohort(as_of=NOW + 302).audit().decide()


def a_model_that_is_not_its_files() -> Consortium:
    return staged(until="make").make(model=OTHER).audit().decide()


def a_decision_about_another_model() -> Consortium:
    return staged(until="decide").decide(model=OTHER)


def more_charges_than_attempts() -> Consortium:
    return charged(attempts=21)


def charged(**event: Any) -> Consortium:
    consortium = staged(until="train")
    return consortium.train(event=consortium.event(**event)).make().audit().decide()


def a_private_charge_in_a_study_without_privacy() -> Consortium:
    event = Consortium.of().event()
    consortium = staged(until="train", privacy="none", budget=None)
    return consortium.train(event=event).make().audit().decide()


def an_event_without_an_epsilon() -> Consortium:
    return Consortium.finished(budget=Consortium.of().policy.budget.plain() | {"delta": "1e-27"})


def fewer_held_out_than_audited() -> Consortium:
    return staged(until="audit").audit_cohort(held_out=210).audit().decide()


def fewer_members_than_audited() -> Consortium:
    return staged(until="audit").audit(members=495).decide()


def an_audit_of_members_who_were_not_admitted() -> Consortium:
    return staged(until="audit").audit_cohort(members=505).audit().decide()


def an_excess_on_members_who_were_not_audited() -> Consortium:
    return disclosed(excess(505, 215))


def an_excess_on_held_out_who_were_not_audited() -> Consortium:
    return disclosed(excess(500, 220))


def another_version_of_the_test() -> Consortium:
    return staged(until="audit").audit(version=1).decide()


DETAILS: dict[Callable[[], Consortium], tuple[int, type[Exception], str]] = {
    keys_that_are_missing: (4, NotAcceptable, "the keys of east are not those"),
    other_keys_than_the_policy_names: (4, NotAcceptable, "the keys of east are not those"),
    a_policy_in_another_form: (4, NotAcceptable, "the policy is not in its one form"),
    keys_of_somebody_else: (4, NotAcceptable, "somebody whom the policy does not name"),
    a_log_without_checkpoints: (5, NotAuthentic, "log of north do not ascend"),
    checkpoints_in_another_order: (5, NotAuthentic, "log of coordinator do not ascend"),
    a_checkpoint_that_stands_twice: (5, NotAuthentic, "log of coordinator do not ascend"),
    a_site_that_is_none: (6, NotAcceptable, "oath/v1 statement of coordinator"),
    a_finding_of_another_site: (6, NotAcceptable, "east states a finding of north"),
    a_coordinator_as_a_witness: (7, NotAcceptable, "has 0 of 1 witnesses"),
    a_site_as_its_own_witness: (7, NotAcceptable, "has 0 of 1 witnesses"),
    no_members: (10, NotAcceptable, "admitted no members"),
    an_admission_by_consents_of_the_future: (10, NotAcceptable, "the admission of north rests"),
    nobody_to_hold_out: (10, NotAcceptable, "or none to hold out"),
    more_members_than_the_whole_plan: (10, NotAcceptable, "more members than the policy plans"),
    more_steps_than_attempts: (11, NotAcceptable, "took more steps than it made attempts"),
    a_round_without_steps: (11, NotAcceptable, "the steps of round 3 do not follow"),
    more_charges_than_attempts: (11, NotAcceptable, "do not fit those of the training"),
    a_model_that_is_not_its_files: (11, NotAcceptable, "not the one that the training made"),
    a_private_charge_in_a_study_without_privacy: (12, NotAcceptable, "without privacy"),
    an_event_without_an_epsilon: (12, NotAcceptable, "has no epsilon"),
    fewer_members_than_audited: (13, NotAcceptable, "on other patients than it audited"),
    fewer_held_out_than_audited: (13, NotAcceptable, "on other patients than it audited"),
    an_audit_of_members_who_were_not_admitted: (13, NotAcceptable, "more patients than it trained on"),
    an_audit_of_held_out_who_were_not_admitted: (13, NotAcceptable, "more patients than it trained on"),
    an_audit_by_consents_from_before_the_admission: (13, NotAcceptable, "before there was a model"),
    an_audit_by_consents_from_before_the_model: (13, NotAcceptable, "before there was a model"),
    an_excess_on_members_who_were_not_audited: (13, NotAcceptable, "on other patients than it audited"),
    an_excess_on_held_out_who_were_not_audited: (13, NotAcceptable, "on other patients than it audited"),
    another_version_of_the_test: (13, NotAcceptable, "is not all that the test measures"),
    a_decision_about_another_model: (14, NotAcceptable, "the decision says"),
}


def refuses(consortium: Consortium, step: int, error: type[Exception], said: str) -> bool:
    with pytest.raises(error, match=said) as refusal:
        verified(consortium)
    return (refusal.value.step, type(refusal.value)) == (step, error)


@pytest.mark.parametrize("lie", DETAILS, ids=lambda lie: lie.__name__)
def test_a_detail_is_named(lie: Callable[[], Consortium]):
    assert refuses(lie(), *DETAILS[lie])


@pytest.mark.parametrize(
    "event",
    [
        {"sampling_rate": Decimal("0.01")},
        {"ring_norm": 8192},
        {"honest_shares": 3},
        {"shares": 3},
        {"tail": Decimal(0)},
        {"dimension": 7},
        {"share_sigma": Decimal(20_000)},
        {"sites_per_patient": 2},
    ],
    ids=lambda event: next(iter(event)),
)
def test_every_part_of_the_mechanism_is_the_policys(event: dict[str, Any]):
    assert refuses(charged(**event), 12, NotAcceptable, "another mechanism than the policy's")


@pytest.mark.parametrize(
    ("first", "last", "charged", "refusal"),
    [
        ((10, 10, 0), (20, 20, 0), (20, 20, 0), ""),
        ((5, 5, 10), (10, 15, 15), (10, 15, 15), ""),
        ((5, 5, 10), (10, 15, 15), (20, 20, 20), ""),
        ((5, 5, 10), (10, 15, 15), (10, 15, 14), "charged do not fit those of the training"),
        ((5, 5, 10), (10, 15, 15), (9, 16, 15), "charged do not fit those of the training"),
        ((5, 5, 10), (10, 15, 14), (20, 20, 20), "the sums of round 2 are of fewer sites"),
        ((5, 5, 9), (10, 15, 15), (20, 20, 20), "the sums of round 1 are of fewer sites"),
        ((5, 5, 11), (15, 15, 11), (20, 20, 20), "the sums of round 1 are of fewer sites"),
        ((10, 10, 10), (9, 20, 20), (20, 20, 20), "the sums of round 2 are of fewer sites"),
        ((10, 10), (20, 20, 20), (20, 20, 20), "round 1 are not stated of the policy's sites"),
        ((10, 10, 10), (20, 20), (20, 20, 20), "round 2 are not stated of the policy's sites"),
    ],
)
def test_a_site_charged_every_sum_that_it_was_in(first, last, charged, refusal):
    consortium = Consortium.of(sites=("north", "east", "south"), min_sites=2)
    sites = consortium.sites
    consortium.swear().admit().start()
    for number, summed in ((1, first), (2, last)):
        consortium.gather(number).step(number, summed=dict(zip(sites, summed, strict=False)))
    for site, count in zip(sites, charged, strict=True):
        event = consortium.event(attempts=count)
        consortium.say(
            Charged(policy_digest=consortium.policy.digest, site=site, run=consortium.run, event=event)
        )
    consortium.make().audit().decide()
    if refusal:
        assert refuses(consortium, 11, NotAcceptable, refusal)
    else:
        verified(consortium)


def test_a_site_is_in_no_fewer_sums_than_it_was_before():
    """Where sites are many, the others' sums would make up for it."""
    sites = ("north", "east", "south", "west", "middle")
    consortium = Consortium.of(sites=sites, min_sites=3, colluding=0)
    consortium.swear().admit().start()
    for number, summed in ((1, (10, 10, 10, 10, 10)), (2, (20, 20, 20, 20, 9))):
        consortium.gather(number).step(number, summed=dict(zip(consortium.sites, summed, strict=True)))
    consortium.charge().make().audit().decide()
    assert refuses(consortium, 11, NotAcceptable, "the sums of round 2 are of fewer sites")
