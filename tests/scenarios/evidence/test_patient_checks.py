"""What one patient can check, and the lies about a patient that are named by it."""

import json
from pathlib import Path

import pytest

from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.data.commitment import cohort_proof, cohort_root
from oathbound.evidence.cohort_proof import cohort_leaf
from oathbound.evidence.keys import Secret
from oathbound.evidence.patient import PatientProof, Receipt, check_patient
from oathbound.evidence.predicates import AuditRoots, Roots
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

KEYS = {number: bytes([number]) * 32 for number in range(1, 9)}
ME = 3
PARTS = {"members": {1, 2, 3, 4}, "held_out": {5, 6}, "reference": {7, 8}}
EVERYBODY = {
    **PARTS,
    "round-1": PARTS["members"],
    "round-2": PARTS["members"],
    "audit-1-members": PARTS["members"],
    "audit-1-held_out": PARTS["held_out"],
    "audit-1-reference": PARTS["reference"],
}
WITHOUT_ME = {label: EVERYBODY[label] - {ME} for label in ("round-2", "audit-1-members")}


class Story:
    """A consortium in which both sites commit to these people, and what `north` gives to one of them."""

    def __init__(self, cohorts=EVERYBODY, *, withdrawn=None):
        self.cohorts = cohorts
        consortium = self.consortium = Consortium.of()
        self.run = consortium.policy.digest
        consortium.swear().admit(roots=Roots(**{part: self.root(part) for part in PARTS})).start()
        consortium.gather(1, root=self.root("round-1")).step(1)
        consortium.gather(2, root=self.root("round-2"), as_of=NOW - 20).step(2).charge().make()
        roots = {part: self.root(f"audit-1-{part}") for part in PARTS}
        consortium.audit_cohort(roots=AuditRoots(**roots)).audit().decide()
        self.verified = verify(consortium.bundle(), consortium.trust(), at=NOW + 3600)
        self.receipt = Receipt(
            site="north",
            issued=NOW + 200,
            key=KEYS[ME].hex(),
            consents=(),
            withdrawn=withdrawn,
            how_to_withdraw="tell the hospital",
            how_to_check="ask anybody",
        )

    def leaf(self, number, label):
        return cohort_leaf(KEYS[number], site="north", run=self.run, label=label)

    def leaves(self, label):
        return [self.leaf(number, label) for number in self.cohorts[label]]

    def root(self, label):
        return "sha256:" + cohort_root(self.leaves(label)).hex()

    def proof(self, **changes):
        facts = {
            "format": "oathbound/patient-proof/v1",
            "site": "north",
            "policy": self.run,
            "proofs": {
                label: cohort_proof(self.leaves(label), self.leaf(ME, label)) for label in self.cohorts
            },
        }
        return PatientProof(**(facts | changes))

    def check(self, *, signer="north", proof=None, receipt=None):
        signed = (receipt or self.receipt).signed(self.consortium.secrets[signer])
        return check_patient(self.verified, self.consortium.trust(), signed, proof or self.proof())


def test_a_patient_learns_in_which_cohorts_they_are():
    receipt, shown = Story().check()
    assert receipt.site == "north"
    expected = {label: ME in EVERYBODY[label] for label in EVERYBODY}
    assert {each.label: each.member for each in shown} == expected
    assert {each.label: each.as_of for each in shown}["round-2"] == NOW - 20


def test_a_patient_who_withdrew_is_in_no_later_round_and_no_later_audit():
    story = Story({**EVERYBODY, **WITHOUT_ME}, withdrawn=NOW - 25)
    _, shown = story.check()
    assert [each.label for each in shown if each.member] == ["members", "round-1"]


@pytest.mark.parametrize("label", ["round-2", "audit-1-members"])
def test_a_withdrawn_patient_who_is_used_is_named(label):
    story = Story({**EVERYBODY, **WITHOUT_ME, label: EVERYBODY[label]}, withdrawn=NOW - 25)
    with pytest.raises(NotAcceptable, match=f"in {label}, and had withdrawn"):
        story.check()


def test_a_patient_who_is_used_without_being_admitted_is_named():
    with pytest.raises(NotAcceptable, match="in round-1 and was not admitted"):
        Story({**EVERYBODY, "members": {1, 2, 4}}).check()
    with pytest.raises(NotAcceptable, match="in audit-1-held_out and was not admitted"):
        Story({**EVERYBODY, "audit-1-held_out": {3, 5, 6}}).check()


@pytest.mark.parametrize("part", ["held_out", "reference"])
def test_a_patient_who_is_in_two_parts_is_named(part):
    with pytest.raises(NotAcceptable, match="in two parts"):
        Story({**EVERYBODY, part: {3, 5, 6}}).check()


def test_a_receipt_of_somebody_who_is_no_site_proves_nothing():
    story = Story()
    receipt = story.receipt.model_copy(update={"site": "coordinator"})
    with pytest.raises(NotAuthentic, match="not a site"):
        story.check(signer="coordinator", receipt=receipt, proof=story.proof(site="coordinator"))


def test_a_receipt_of_another_hand_is_refused():
    with pytest.raises(NotAuthentic, match="not one that its site signed"):
        Story().check(signer="east")
    story = Story()
    forged = story.receipt.signed(Secret.generate("north"))
    with pytest.raises(NotAuthentic):
        check_patient(story.verified, story.consortium.trust(), forged, story.proof())


def test_a_statement_of_a_log_is_no_receipt():
    story = Story()
    statement = story.consortium.logs["north"][0]
    with pytest.raises(NotAuthentic):
        check_patient(story.verified, story.consortium.trust(), statement, story.proof())


@pytest.mark.parametrize("changes", [{"site": "east"}, {"policy": "sha256:" + 64 * "0"}])
def test_a_proof_of_something_else_is_refused(changes):
    story = Story()
    with pytest.raises(NotAuthentic, match="another site or study"):
        story.check(proof=story.proof(**changes))


@pytest.mark.parametrize("label", EVERYBODY)
def test_a_cohort_that_is_left_out_is_named(label):
    story = Story()
    proofs = {name: proof for name, proof in story.proof().proofs.items() if name != label}
    with pytest.raises(NotAuthentic, match=f"leaves out {label}"):
        story.check(proof=story.proof(proofs=proofs))


@pytest.mark.parametrize("label", EVERYBODY)
def test_a_proof_against_another_root_is_refused(label):
    story = Story()
    others = {number for number in KEYS if number not in (*EVERYBODY[label], ME)}
    leaves = [story.leaf(number, label) for number in others]
    proofs = {**story.proof().proofs, label: cohort_proof(leaves, story.leaf(ME, label))}
    with pytest.raises(NotAuthentic, match="does not lead to the cohort's root"):
        story.check(proof=story.proof(proofs=proofs))


def test_a_key_that_is_not_the_patients_proves_nothing():
    story = Story()
    with pytest.raises(NotAuthentic):
        story.check(receipt=story.receipt.model_copy(update={"key": "ab" * 32}))


def test_a_proof_file_has_one_form():
    proof = Story().proof()
    assert PatientProof.decode(proof.encode()) == proof
    for data in (
        b"",
        b"[]",
        proof.encode() + b" ",
        json.dumps(proof.plain()).encode(),
        proof.encode().replace(b'"members"', b'"../members"', 1),
    ):
        with pytest.raises(NotAuthentic):
            PatientProof.decode(data)


def test_the_specification_numbers_the_rules():
    page = (Path(__file__).resolve().parents[3] / "spec" / "patient.md").read_text()
    for number in range(1, 6):
        assert f"\n{number}. " in page
