"""Lies for each numbered step of `verify`: each is named by its step, and passes if the step is removed."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from oathbound.core.canonical import digest
from oathbound.core.claims import Verdict
from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.core.event import Unbounded
from oathbound.core.finding import Threat
from oathbound.evidence.bundle import pack
from oathbound.evidence.envelope import sign
from oathbound.evidence.keys import Secret
from oathbound.evidence.predicates import Oath, TrainedWithSecureSum
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import STEPS, Verified, verify
from oathbound.testing.consortium import NOW, Consortium

LATER = NOW + 48 * 3600


def check(consortium: Consortium, *, trust: Trust | None = None, at: int = LATER) -> Verified:
    return verify(consortium.bundle(), trust or consortium.trust(), at=at)


def staged(*, until: str) -> Consortium:
    """Return a consortium that did everything before the stage named `until`."""
    consortium = Consortium.of()
    for stage in ("swear", "admit", "start", "train", "make", "audit", "decide"):
        if stage == until:
            break
        getattr(consortium, stage)()
    return consortium


def test_an_honest_bundle_verifies_and_says_what_it_proves():
    verified = check(Consortium.finished())
    assert verified.judgement.verdict is Verdict.PASS
    assert Decimal(0) < verified.epsilon < Decimal("0.7")
    assert {found.site for found in verified.findings} == {"north", "east"}
    assert (verified.started, verified.decided) == (NOW, NOW + 120)


def test_a_refused_release_is_authentic():
    consortium = staged(until="audit").audit(estimate="0.9").decide()
    assert check(consortium).judgement.verdict is Verdict.FAIL


def test_a_later_round_may_rest_on_consents_that_are_newer_than_the_start():
    consortium = staged(until="train").gather(1).step(1)
    consortium.gather(2, as_of=NOW + 400, at=NOW + 400).step(2).charge().make(at=NOW + 450)
    consortium.audit_cohort(as_of=NOW + 450).audit().decide(at=NOW + 500)
    assert {each.as_of for each in check(consortium).rounds if each.round == 2} == {NOW + 400}


def test_a_study_without_privacy_has_no_epsilon():
    assert check(Consortium.finished(privacy="none", budget=None)).epsilon is None


def a_changed_archive() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    return consortium.bundle() + b"\0", consortium.trust()


def a_file_that_no_log_lists() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    return pack(consortium.contents().files() | {"leaves/more.json": b"{}"}), consortium.trust()


def a_party_that_the_verifier_does_not_trust() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    known = tuple(party for party in consortium.trust().party if party.name != "east")
    return consortium.bundle(), Trust(format="oathbound/trust/v1", party=known)


def a_party_under_another_name() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    contents = consortium.contents()
    parties = {**contents.parties, "north": contents.parties["east"], "east": contents.parties["north"]}
    return pack(replace(contents, parties=parties).files()), consortium.trust()


def a_statement_with_a_forged_signature() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    forger = Secret.generate("north")
    forged = sign(Oath(policy_digest=consortium.policy.digest, site="north").statement(), forger)
    genuine = consortium.secrets["north"].party().fingerprint.encode()
    leaf = forged.replace(forger.party().fingerprint.encode(), genuine)
    for log in ("north", "coordinator"):
        consortium.logs[log][0] = leaf
    return consortium.bundle(), consortium.trust()


def a_site_that_did_not_swear() -> tuple[bytes, Trust]:
    consortium = Consortium.of().swear(but="east").admit().start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def another_policy_than_the_one_sworn_to() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    gates = (consortium.policy.gates[0].model_copy(update={"at_most": Decimal("0.99")}),)
    consortium.policy = consortium.policy.model_copy(update={"gates": gates})
    return consortium.bundle(), consortium.trust()


def keys_that_the_policy_does_not_name() -> tuple[bytes, Trust]:
    consortium, other = Consortium.finished(), Secret.generate("east")
    contents = consortium.contents()
    trust = Consortium(consortium.secrets | {"east": other}, consortium.policy).trust()
    party = [*consortium.trust().party, trust.party[-1].model_copy(update={"name": "west"})]
    parties = {**contents.parties, "west": Secret.generate("west").party().encoded()}
    west = Secret.generate("west")
    parties["west"] = west.party().encoded()
    party[-1] = party[-1].model_copy(update={"fingerprint": west.party().fingerprint})
    return pack(replace(contents, parties=parties).files()), Trust(
        format="oathbound/trust/v1", party=tuple(party)
    )


def leaves_in_another_order() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    leaves = consortium.logs["coordinator"]
    leaves[0], leaves[1] = leaves[1], leaves[0]
    return consortium.bundle(), consortium.trust()


def a_leaf_after_the_last_checkpoint() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    consortium.say(Oath(policy_digest=consortium.policy.digest, site="north"), logs=["coordinator"])
    return consortium.bundle(), consortium.trust()


def a_statement_by_somebody_else() -> tuple[bytes, Trust]:
    consortium = Consortium.of().swear().admit()
    consortium.say(
        Oath(policy_digest=consortium.policy.digest, site="north"), by="east", logs=["east", "coordinator"]
    )
    consortium.start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def too_few_witnesses() -> tuple[bytes, Trust]:
    consortium = staged(until="start").start(by=["north"]).train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_cosignature_from_the_future() -> tuple[bytes, Trust]:
    consortium = staged(until="start").start(at=LATER + 600).train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_finding_withheld_from_the_study() -> tuple[bytes, Trust]:
    consortium = staged(until="audit")
    consortium.audit(estimate="0.9", logs=["north"])
    consortium.found = {site: [] for site in consortium.sites}
    consortium.logs["north"] = consortium.logs["north"][:-1]
    consortium.audit().decide()
    return consortium.bundle(), consortium.trust()


def a_finding_that_the_site_did_not_log() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(logs=["coordinator"]).decide()
    return consortium.bundle(), consortium.trust()


def a_decision_on_other_heads() -> tuple[bytes, Trust]:
    heads = dict.fromkeys(("north", "east"), "sha256:" + 64 * "1")
    consortium = staged(until="decide").decide(heads=heads)
    return consortium.bundle(), consortium.trust()


def a_cohort_drawn_after_training() -> tuple[bytes, Trust]:
    consortium = Consortium.of().swear().start().admit().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_finding_from_before_the_model() -> tuple[bytes, Trust]:
    consortium = staged(until="make").make(witness=False).audit()
    consortium.witness("coordinator", at=NOW + 60)
    consortium.decide()
    return consortium.bundle(), consortium.trust()


def two_models() -> tuple[bytes, Trust]:
    consortium = (
        staged(until="make").make(witness=False, weights="sha256:" + 64 * "2").make().audit().decide()
    )
    return consortium.bundle(), consortium.trust()


def stale_consents() -> tuple[bytes, Trust]:
    consortium = staged(until="admit").admit(as_of=NOW - 25 * 3600).start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def nobody_held_out() -> tuple[bytes, Trust]:
    consortium = staged(until="admit").admit(held_out=0).start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def rounds(**changes) -> Consortium:
    """Return a consortium that trained, with `changes` to what it stated of its second round's steps."""
    return (
        staged(until="train").gather(1).step(1).gather(2).step(2, **changes).charge().make().audit().decide()
    )


def too_few_steps() -> tuple[bytes, Trust]:
    consortium = rounds(last_step=19)
    return consortium.bundle(), consortium.trust()


def more_attempts_than_allowed() -> tuple[bytes, Trust]:
    consortium = rounds(attempts=23)
    return consortium.bundle(), consortium.trust()


def a_step_that_was_left_out() -> tuple[bytes, Trust]:
    consortium = rounds(first_step=12)
    return consortium.bundle(), consortium.trust()


def more_steps_than_attempts() -> tuple[bytes, Trust]:
    consortium = rounds(attempts=19)
    return consortium.bundle(), consortium.trust()


def weights_swapped_between_rounds() -> tuple[bytes, Trust]:
    consortium = rounds(first_weights="sha256:" + 64 * "6")
    return consortium.bundle(), consortium.trust()


def a_round_that_is_stated_twice() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).step(2, round=1)
    consortium.charge().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_round_on_consents_from_before_the_one_before_it() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2, at=NOW + 3600, as_of=NOW + 3000).step(2)
    consortium.gather(3, at=NOW + 7200, as_of=NOW + 3100).charge()
    consortium.say(
        TrainedWithSecureSum(
            policy_digest=consortium.policy.digest,
            run=consortium.run,
            round=3,
            first_step=21,
            last_step=22,
            attempts=22,
            summed=dict.fromkeys(consortium.sites, 22),
            first_weights=digest(b"last"),
            last_weights=digest(b"last"),
        )
    )
    consortium.make(at=NOW + 7300).audit_cohort(as_of=NOW + 7300).audit().decide(at=NOW + 7400)
    return consortium.bundle(), consortium.trust()


def a_round_that_was_too_long() -> tuple[bytes, Trust]:
    training = Consortium.of().policy.training.plain() | {"round_steps": 9}
    consortium = Consortium.finished(training=training)
    return consortium.bundle(), consortium.trust()


def later_rounds(**changes) -> Consortium:
    """Return a consortium that trained, with `changes` to the cohorts of its second round."""
    consortium = staged(until="train").gather(1).step(1).gather(2, **changes).step(2)
    return consortium.charge().make().audit().decide()


def a_round_on_stale_consents() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2, at=NOW + 25 * 3600).step(2).charge()
    consortium.make(at=NOW + 26 * 3600).audit_cohort(as_of=NOW + 26 * 3600).audit()
    consortium.decide(at=NOW + 26 * 3600)
    return consortium.bundle(), consortium.trust()


def a_round_on_consents_of_the_future() -> tuple[bytes, Trust]:
    consortium = later_rounds(as_of=NOW + 301)
    return consortium.bundle(), consortium.trust()


def a_round_on_earlier_consents_than_the_one_before() -> tuple[bytes, Trust]:
    consortium = later_rounds(as_of=NOW - 45)
    return consortium.bundle(), consortium.trust()


def a_round_with_patients_who_were_not_admitted() -> tuple[bytes, Trust]:
    consortium = later_rounds(members=505)
    return consortium.bundle(), consortium.trust()


def a_round_on_too_few() -> tuple[bytes, Trust]:
    consortium = later_rounds(members=15)
    return consortium.bundle(), consortium.trust()


def a_round_without_steps_on_consents_of_the_future() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2).step(2).gather(3, as_of=NOW + 301)
    consortium.charge().make(at=NOW + 400).audit_cohort(as_of=NOW + 400).audit().decide(at=NOW + 500)
    return consortium.bundle(), consortium.trust()


def a_round_whose_cohorts_nobody_witnessed() -> tuple[bytes, Trust]:
    consortium = later_rounds(witness=False)
    return consortium.bundle(), consortium.trust()


def steps_on_the_cohorts_of_an_earlier_round() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2).step(2, round=1)
    consortium.charge().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def steps_before_a_cohort_of_each_site() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1)
    consortium.gather(2)
    leaf = consortium.logs["east"].pop()
    consortium.logs["coordinator"].remove(leaf)
    consortium.notes["coordinator"].pop()
    consortium.witness("coordinator")
    consortium.step(2).charge().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_round_that_a_site_went_back_to() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2).gather(1, as_of=NOW - 20).step(2)
    consortium.charge().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def another_start_cited() -> tuple[bytes, Trust]:
    consortium = later_rounds(run="sha256:" + 64 * "7")
    return consortium.bundle(), consortium.trust()


def clocks_that_run_backwards() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2, at=NOW + 1000).step(2).charge()
    consortium.make().audit().decide()
    return consortium.bundle(), consortium.trust()


def other_shares_than_the_policy_draws() -> tuple[bytes, Trust]:
    consortium = staged(until="admit").admit(held_out=300)
    consortium.start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def fewer_charges_than_steps() -> tuple[bytes, Trust]:
    consortium = staged(until="train")
    consortium.train(event=consortium.event(attempts=10)).make().audit().decide()
    return consortium.bundle(), consortium.trust()


def another_model_than_the_one_trained() -> tuple[bytes, Trust]:
    consortium = staged(until="make").make(weights="sha256:" + 64 * "3").audit().decide()
    return consortium.bundle(), consortium.trust()


def less_noise_than_promised() -> tuple[bytes, Trust]:
    consortium = staged(until="train")
    consortium.train(event=consortium.event(share_sigma=Decimal(9000))).make().audit().decide()
    return consortium.bundle(), consortium.trust()


def more_noise_than_promised() -> tuple[bytes, Trust]:
    consortium = staged(until="train")
    consortium.train(event=consortium.event(share_sigma=Decimal(99_999_999))).make().audit().decide()
    return consortium.bundle(), consortium.trust()


def more_admitted_than_considered() -> tuple[bytes, Trust]:
    consortium = staged(until="admit").admit(considered=5).start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_smaller_model_than_the_policys() -> tuple[bytes, Trust]:
    consortium = staged(until="train")
    consortium.train(event=consortium.event(dimension=2)).make().audit().decide()
    return consortium.bundle(), consortium.trust()


def an_attacker_who_is_made_stronger_than_he_was() -> tuple[bytes, Trust]:
    threat = Threat(sees="everything", knows="everything")
    consortium = staged(until="audit").audit(threat=threat).decide()
    return consortium.bundle(), consortium.trust()


def an_unbounded_charge_in_a_private_study() -> tuple[bytes, Trust]:
    consortium = staged(until="train")
    consortium.train(event=Unbounded(mechanism="unbounded", attempts=20)).make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_budget_that_the_plan_breaks() -> tuple[bytes, Trust]:
    budget = Consortium.of().policy.budget.plain() | {"epsilon": "0.5"}
    consortium = Consortium.finished(budget=budget)
    return consortium.bundle(), consortium.trust()


def a_seed_that_was_chosen() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(seed="sha256:" + 64 * "4").decide()
    return consortium.bundle(), consortium.trust()


def a_finding_on_other_patients() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(members=2**52).decide()
    return consortium.bundle(), consortium.trust()


def audited(**changes) -> tuple[bytes, Trust]:
    """Return the bundle of a consortium that stated so whom it audited."""
    consortium = staged(until="audit").audit_cohort(**changes).audit().decide()
    return consortium.bundle(), consortium.trust()


def an_audit_of_more_than_were_held_out() -> tuple[bytes, Trust]:
    return audited(held_out=220)


def an_audit_with_more_reference_patients_than_were_drawn() -> tuple[bytes, Trust]:
    return audited(reference=5)


def an_audit_of_members_who_left_before_training() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1, members=300).step(1).gather(2, members=300).step(2)
    consortium.charge().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_round_that_somebody_came_back_to() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1, members=300).step(1).gather(2, members=305).step(2)
    consortium.charge().make().audit_cohort(members=300).audit(members=300).decide()
    return consortium.bundle(), consortium.trust()


def an_audit_by_consents_from_before_the_model() -> tuple[bytes, Trust]:
    return audited(as_of=NOW - 300)


def an_audit_by_consents_of_the_future() -> tuple[bytes, Trust]:
    return audited(as_of=NOW + 421)


def an_audit_by_earlier_consents_than_before() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit_cohort().audit_cohort(as_of=NOW + 50).audit().decide()
    return consortium.bundle(), consortium.trust()


def an_audit_by_earlier_consents_than_the_last_round() -> tuple[bytes, Trust]:
    consortium = staged(until="train").gather(1).step(1).gather(2, as_of=NOW + 50).step(2)
    consortium.charge().make().audit_cohort(as_of=NOW + 40).audit().decide()
    return consortium.bundle(), consortium.trust()


def an_audit_that_somebody_came_back_to() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit_cohort(members=300).audit_cohort(members=305)
    consortium.audit(members=305).decide()
    return consortium.bundle(), consortium.trust()


def an_audit_that_is_left_out() -> tuple[bytes, Trust]:
    return audited(number=2)


def an_audit_of_nobody_in_particular() -> tuple[bytes, Trust]:
    consortium = staged(until="audit")
    consortium.audits = 1
    consortium.audit().decide()
    return consortium.bundle(), consortium.trust()


def a_finding_that_leaves_a_score_out() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(scores=("loss", "min-k")).decide()
    return consortium.bundle(), consortium.trust()


def a_finding_that_repeats_a_score() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(scores=("loss", "min-k", "min-k-plus-plus", "loss")).decide()
    return consortium.bundle(), consortium.trust()


def a_nonce_that_was_not_committed_to() -> tuple[bytes, Trust]:
    consortium = staged(until="admit").admit(nonce_digest="sha256:" + 64 * "5")
    consortium.start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def more_members_than_planned() -> tuple[bytes, Trust]:
    consortium = (
        staged(until="admit").admit(members=1005, considered=2000).start().train().make().audit().decide()
    )
    return consortium.bundle(), consortium.trust()


def a_leaf_that_stands_twice() -> tuple[bytes, Trust]:
    consortium = Consortium.of().swear()
    consortium.logs["north"] *= 2
    consortium.admit().start().train().make().audit().decide()
    return consortium.bundle(), consortium.trust()


def a_log_of_a_stranger() -> tuple[bytes, Trust]:
    consortium = Consortium.finished()
    contents = consortium.contents()
    logs = {**contents.logs, "stranger": contents.logs["north"]}
    return pack(replace(contents, logs=logs).files()), consortium.trust()


def a_verdict_that_the_findings_do_not_give() -> tuple[bytes, Trust]:
    consortium = staged(until="audit").audit(estimate="0.9").decide(verdict="pass")
    return consortium.bundle(), consortium.trust()


LIES: dict[Callable[[], tuple[bytes, Trust]], tuple[int, type[Exception]]] = {
    a_changed_archive: (1, NotAuthentic),
    a_file_that_no_log_lists: (1, NotAuthentic),
    a_leaf_that_stands_twice: (1, NotAuthentic),
    a_log_of_a_stranger: (2, NotAuthentic),
    a_party_that_the_verifier_does_not_trust: (2, NotAuthentic),
    a_party_under_another_name: (2, NotAuthentic),
    a_statement_with_a_forged_signature: (3, NotAuthentic),
    a_site_that_did_not_swear: (4, NotAcceptable),
    another_policy_than_the_one_sworn_to: (4, NotAcceptable),
    keys_that_the_policy_does_not_name: (4, NotAcceptable),
    leaves_in_another_order: (5, NotAuthentic),
    a_leaf_after_the_last_checkpoint: (5, NotAuthentic),
    a_statement_by_somebody_else: (6, NotAcceptable),
    too_few_witnesses: (7, NotAcceptable),
    a_cosignature_from_the_future: (7, NotAcceptable),
    a_finding_withheld_from_the_study: (8, NotAcceptable),
    a_finding_that_the_site_did_not_log: (8, NotAcceptable),
    a_decision_on_other_heads: (8, NotAcceptable),
    a_cohort_drawn_after_training: (9, NotAcceptable),
    a_finding_from_before_the_model: (9, NotAcceptable),
    two_models: (9, NotAcceptable),
    stale_consents: (10, NotAcceptable),
    nobody_held_out: (10, NotAcceptable),
    more_members_than_planned: (10, NotAcceptable),
    more_admitted_than_considered: (10, NotAcceptable),
    another_start_cited: (9, NotAcceptable),
    clocks_that_run_backwards: (9, NotAcceptable),
    other_shares_than_the_policy_draws: (10, NotAcceptable),
    a_round_on_stale_consents: (10, NotAcceptable),
    a_round_on_consents_of_the_future: (10, NotAcceptable),
    a_round_on_earlier_consents_than_the_one_before: (10, NotAcceptable),
    a_round_with_patients_who_were_not_admitted: (10, NotAcceptable),
    a_round_on_too_few: (10, NotAcceptable),
    a_round_whose_cohorts_nobody_witnessed: (10, NotAcceptable),
    a_round_without_steps_on_consents_of_the_future: (10, NotAcceptable),
    steps_on_the_cohorts_of_an_earlier_round: (10, NotAcceptable),
    steps_before_a_cohort_of_each_site: (10, NotAcceptable),
    a_round_that_a_site_went_back_to: (10, NotAcceptable),
    too_few_steps: (11, NotAcceptable),
    a_step_that_was_left_out: (11, NotAcceptable),
    more_steps_than_attempts: (11, NotAcceptable),
    weights_swapped_between_rounds: (11, NotAcceptable),
    a_round_that_is_stated_twice: (11, NotAcceptable),
    a_round_on_consents_from_before_the_one_before_it: (10, NotAcceptable),
    an_audit_by_consents_of_the_future: (13, NotAcceptable),
    an_audit_by_earlier_consents_than_the_last_round: (13, NotAcceptable),
    an_audit_that_somebody_came_back_to: (13, NotAcceptable),
    an_audit_by_earlier_consents_than_before: (13, NotAcceptable),
    a_round_that_was_too_long: (11, NotAcceptable),
    more_attempts_than_allowed: (11, NotAcceptable),
    fewer_charges_than_steps: (11, NotAcceptable),
    another_model_than_the_one_trained: (11, NotAcceptable),
    less_noise_than_promised: (12, NotAcceptable),
    more_noise_than_promised: (12, NotAcceptable),
    a_smaller_model_than_the_policys: (12, NotAcceptable),
    an_attacker_who_is_made_stronger_than_he_was: (13, NotAcceptable),
    an_unbounded_charge_in_a_private_study: (12, NotAcceptable),
    a_budget_that_the_plan_breaks: (12, NotAcceptable),
    a_seed_that_was_chosen: (13, NotAcceptable),
    a_nonce_that_was_not_committed_to: (13, NotAcceptable),
    a_finding_on_other_patients: (13, NotAcceptable),
    an_audit_of_more_than_were_held_out: (13, NotAcceptable),
    an_audit_with_more_reference_patients_than_were_drawn: (13, NotAcceptable),
    an_audit_of_members_who_left_before_training: (13, NotAcceptable),
    a_round_that_somebody_came_back_to: (10, NotAcceptable),
    an_audit_by_consents_from_before_the_model: (13, NotAcceptable),
    an_audit_that_is_left_out: (13, NotAcceptable),
    an_audit_of_nobody_in_particular: (13, NotAcceptable),
    a_finding_that_leaves_a_score_out: (13, NotAcceptable),
    a_finding_that_repeats_a_score: (13, NotAcceptable),
    a_verdict_that_the_findings_do_not_give: (14, NotAcceptable),
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_named_by_its_step(lie: Callable[[], tuple[bytes, Trust]]):
    step, error = LIES[lie]
    data, trust = lie()
    with pytest.raises(error) as refusal:
        verify(data, trust, at=LATER)
    assert refusal.value.step == step, str(refusal.value)
    assert type(refusal.value) is error


def test_every_step_has_a_lie_and_a_line_in_the_specification():
    assert {step for step, _ in LIES.values()} == set(STEPS)
    page = (Path(__file__).resolve().parents[3] / "spec" / "verify.md").read_text()
    for number, step in STEPS.items():
        assert f"{number}. {step[0].upper()}{step[1:]}" in page
