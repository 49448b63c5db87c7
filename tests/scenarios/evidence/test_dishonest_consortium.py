"""A dishonest consortium: whole stories, each told with every key it takes, and each named by `verify`.

The keys of the coordinator, and of any site that lies, sign whatever the liar wants: only what honest
sites cosigned, what the verifier knows beforehand, and arithmetic are left to catch it.
"""

from dataclasses import replace
from decimal import Decimal

import pytest

from oathbound.core.claims import Verdict
from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.evidence.bundle import pack
from oathbound.evidence.envelope import sign
from oathbound.evidence.heads import origin
from oathbound.evidence.keys import Secret
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import cosign, sign_checkpoint
from oathbound.evidence.predicates import Oath
from oathbound.evidence.verify import Verified, verify
from oathbound.testing.consortium import DISCLOSING, NOW, Consortium

LATER = NOW + 48 * 3600
BEFORE_AUDIT = ("swear", "admit", "start", "train", "make")


def told(*stages: str) -> Consortium:
    consortium = Consortium.of()
    for stage in stages:
        getattr(consortium, stage)()
    return consortium


def check(consortium: Consortium) -> Verified:
    return verify(consortium.bundle(), consortium.trust(), at=LATER)


def refused(consortium: Consortium, step: int, error: type[Exception] = NotAcceptable) -> None:
    with pytest.raises(error) as refusal:
        check(consortium)
    assert refusal.value.step == step, str(refusal.value)


def test_a_log_that_is_re_ordered_loses_its_witnesses():
    """The coordinator signs its log anew in another order; nobody cosigned that."""
    consortium = Consortium.finished()
    leaves, operator = consortium.logs["coordinator"], consortium.secrets["coordinator"]
    leaves[0], leaves[1] = leaves[1], leaves[0]
    sizes = [int(note.split(b"\n")[1]) for note in consortium.notes["coordinator"]]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    name = origin(consortium.policy, "coordinator")
    consortium.notes["coordinator"] = [
        sign_checkpoint(name, size, root(hashes[:size]), operator) for size in sizes
    ]
    refused(consortium, 7)


def test_a_statement_that_the_study_withholds_is_missed():
    """A site found something bad; the coordinator leaves the finding out and takes a second, better one."""
    consortium = told(*BEFORE_AUDIT)
    consortium.audit(estimate="0.9", logs=["north"])
    consortium.logs["north"], withheld = consortium.logs["north"][:-1], consortium.logs["north"]
    consortium.found = {site: [] for site in consortium.sites}
    consortium.audit().decide()
    consortium.logs["north"] = withheld
    refused(consortium, 5, NotAuthentic)
    consortium.notes["north"] = []
    head = consortium.witness("north", at=NOW + 120)
    assert head != ""
    refused(consortium, 8)


def test_a_site_that_forgets_its_own_finding_contradicts_the_study():
    consortium = told(*BEFORE_AUDIT).audit(estimate="0.9")
    del consortium.logs["north"][-1]
    consortium.decide()
    refused(consortium, 8)


def test_a_statement_of_another_study_that_is_replayed_is_of_another_policy():
    """A harmless finding of an earlier study, of the same sites and keys, is put into this one."""
    earlier, consortium = Consortium.finished(), told(*BEFORE_AUDIT)
    leaf = sign(
        Oath(policy_digest=earlier.policy.digest, site="north").statement(), consortium.secrets["north"]
    )
    for log in ("north", "coordinator"):
        consortium.logs[log].append(leaf)
    consortium.audit().decide()
    refused(consortium, 4)


def test_a_finding_that_is_replayed_counts_once():
    consortium = told(*BEFORE_AUDIT).audit(estimate="0.9")
    first = consortium.verdict()
    for site in consortium.sites:
        consortium.say(consortium.found[site][0], logs=["coordinator"])
    consortium.decide()
    verified = check(consortium)
    assert (first, verified.judgement.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert len(verified.findings) == 2


def test_a_log_that_is_forked_has_a_checkpoint_on_the_wrong_branch():
    """Two sites see one history, the bundle holds another: its earlier checkpoints are of the first."""
    consortium = told("swear", "admit", "start")
    fork = list(consortium.logs["coordinator"])
    consortium.train().make().audit().decide()
    fork[1] = consortium.logs["coordinator"][-1]
    other = replace(consortium.contents().logs["coordinator"], leaves=tuple(fork))
    contents = consortium.contents()
    data = pack(replace(contents, logs={**contents.logs, "coordinator": other}).files())
    with pytest.raises(NotAuthentic) as refusal:
        verify(data, consortium.trust(), at=LATER)
    assert refusal.value.step == 5


def test_an_honest_witness_does_not_lend_its_cosignature_to_a_fork():
    """A cosignature is of one root: moved to a checkpoint of the other branch it does not verify."""
    consortium = Consortium.finished()
    note = consortium.notes["coordinator"][-1]
    size = int(note.split(b"\n")[1])
    forged = sign_checkpoint(
        origin(consortium.policy, "coordinator"), size, bytes(32), consortium.secrets["coordinator"]
    )
    consortium.notes["coordinator"][-1] = forged.split(b"\n\n")[0] + b"\n\n" + note.split(b"\n\n")[1]
    refused(consortium, 5, NotAuthentic)


def test_audits_that_are_run_again_cost_what_they_try():
    """A model failed its audit; the sites run it again until it passes, and say so: the failure stands."""
    consortium = told(*BEFORE_AUDIT).audit(estimate="0.9").audit(estimate="0.5").decide()
    verified = check(consortium)
    assert verified.judgement.verdict is Verdict.FAIL
    assert len(verified.findings) == 4


def test_audits_that_are_run_again_and_not_said_are_missing_from_a_log():
    consortium = told(*BEFORE_AUDIT).audit(estimate="0.9")
    for site in consortium.sites:
        consortium.logs["coordinator"] = [
            leaf for leaf in consortium.logs["coordinator"] if leaf != consortium.logs[site][-1]
        ]
    consortium.found = {site: [] for site in consortium.sites}
    consortium.audit(estimate="0.5").decide()
    refused(consortium, 8)


def test_each_attempt_spends_part_of_the_error_rate():
    """An inconclusive model may be audited again, and then needs more to pass."""
    once, often = told(*BEFORE_AUDIT), told(*BEFORE_AUDIT)
    once.audit(estimate="0.5").decide()
    for estimate in ("0.559", "0.558", "0.557", "0.5"):
        often.audit(estimate=estimate)
    often.decide()
    first = check(once).judgement.claims
    last = check(often).judgement.claims
    assert max(claim.upper for claim in last if claim.upper) > max(
        claim.upper for claim in first if claim.upper
    )


def test_a_patient_who_withdrew_cannot_come_back_in_a_later_round():
    """A round that is larger than the admission, or read from earlier consents, is refused (step 10)."""
    for changes in ({"members": 505}, {"as_of": NOW - 45}):
        consortium = told("swear", "admit", "start").gather(1).step(1).gather(2, **changes).step(2)
        refused(consortium.charge().make().audit().decide(), 10)


def test_a_budget_that_is_understated_is_recomputed():
    """The sites charge fewer attempts, less sampling, more noise, or a smaller tail than they used."""
    changes = (
        {"attempts": 19},
        {"sampling_rate": Decimal("0.01")},
        {"share_sigma": Decimal(99_999)},
        {"honest_shares": 3},
        {"ring_norm": 1},
        {"dimension": 1},
        {"tail": Decimal(0)},
        {"sites_per_patient": 2},
    )
    for change in changes:
        consortium = told("swear", "admit", "start")
        consortium.train(event=consortium.event(**change)).make().audit().decide()
        refused(consortium, 11 if "attempts" in change else 12)


def test_a_study_whose_gates_were_weakened_is_another_study():
    """All sites collude and swear anew to weaker gates: authentic, and its digest and gates say so."""
    strict = Consortium.finished()
    weak = Consortium.finished(gates=[{"test": "membership", "metric": "auc", "at_most": "0.99"}])
    verified = check(weak)
    assert verified.policy_digest != strict.policy.digest
    assert [str(gate.at_most) for gate in verified.policy.gates] == ["0.99"]
    # after the oaths, nobody can: the statements are for the policy that was sworn to
    weak.policy = strict.policy.model_copy(update={"gates": weak.policy.gates})
    for name in strict.logs:
        weak.logs[name], weak.notes[name] = strict.logs[name], strict.notes[name]
    weak.secrets = strict.secrets
    refused(weak, 4)


def test_a_finding_that_is_left_out_is_missed():
    """A planned test of which a site says nothing; a gate on one does not help it, nor the lack of one."""
    gates = [
        {"test": "membership", "metric": "auc", "at_most": "0.6"},
        {"test": "sensitive-disclosure", "metric": "excess", "at_most": "0.01"},
    ]
    refused(Consortium.finished(gates=gates, audit=DISCLOSING), 13)
    refused(Consortium.finished(audit=DISCLOSING), 13)


def test_keys_that_were_swapped_are_not_those_that_were_compared():
    """The coordinator replaces a hospital's keys by its own and plays the hospital's part to the end."""
    honest = Consortium.finished()
    swapped = Consortium.of()
    swapped.swear().admit().start().train().make().audit().decide()
    with pytest.raises(NotAuthentic) as refusal:
        verify(swapped.bundle(), honest.trust(), at=LATER)
    assert refusal.value.step == 2


def test_keys_that_change_in_the_middle_leave_earlier_statements_unsigned():
    consortium = told("swear", "admit", "start", "train", "make")
    consortium.secrets["north"] = Secret.generate("north")
    consortium.audit().decide()
    refused(consortium, 3, NotAuthentic)


def test_a_coordinator_cannot_witness_itself():
    consortium = Consortium.finished()
    consortium.notes["coordinator"] = [
        cosign(
            sign_checkpoint(
                origin(consortium.policy, "coordinator"),
                int(note.split(b"\n")[1]),
                root(
                    [leaf_hash(leaf) for leaf in consortium.logs["coordinator"]][: int(note.split(b"\n")[1])]
                ),
                consortium.secrets["coordinator"],
            ),
            consortium.secrets["coordinator"],
            NOW,
        )
        for note in consortium.notes["coordinator"]
    ]
    refused(consortium, 7)
