"""What a receipt must be in every part, and a patient who is used for nothing."""

import pytest

from oathbound.core.errors import NotAuthentic
from oathbound.data.commitment import cohort_proof, cohort_root
from oathbound.evidence.cohort_proof import cohort_leaf
from oathbound.evidence.envelope import Subject, sign
from oathbound.evidence.keys import Secret
from oathbound.evidence.patient import PatientProof, Receipt, check_patient
from oathbound.evidence.predicates import AuditRoots, Roots
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

KEY = bytes(range(32))


def receipt_of(site: Secret) -> Receipt:
    return Receipt(
        site=site.name,
        issued=NOW,
        key=KEY.hex(),
        consents=(),
        how_to_withdraw="tell the hospital",
        how_to_check="ask anybody",
    )


def test_a_receipt_is_a_statement_about_the_key_in_it():
    site = Secret.generate("north")
    parties = {site.party().fingerprint: site.party()}
    statement = receipt_of(site).statement()
    assert Receipt.opened(sign(statement, site), parties).key == KEY.hex()
    for other in (
        {"predicate_type": "https://oathbound.invalid/receipt/v2"},
        {"subject": (Subject(name="patient-key", digest={"sha256": "00" * 32}),)},
        {"subject": (Subject(name="policy", digest=statement.subject[0].digest),)},
        {"subject": statement.subject * 2},
    ):
        with pytest.raises(NotAuthentic, match="not one that its site signed"):
            Receipt.opened(sign(statement.model_copy(update=other), site), parties)


def test_a_patient_of_the_reference_is_in_no_round_and_no_audit():
    consortium = Consortium.of()
    run = consortium.policy.digest

    def leaf(label: str) -> bytes:
        return cohort_leaf(KEY, site="north", run=run, label=label)

    empty = "sha256:" + cohort_root([]).hex()
    mine = "sha256:" + cohort_root([leaf("reference")]).hex()
    consortium.swear().admit(roots=Roots(members=empty, held_out=empty, reference=mine)).start()
    for number in (1, 2):
        consortium.gather(number, root=empty).step(number)
    roots = AuditRoots(members=empty, held_out=empty, reference=empty)
    consortium.charge().make().audit_cohort(roots=roots).audit().decide()
    verified = verify(consortium.bundle(), consortium.trust(), at=NOW + 3600)
    labels = [
        "members", "held_out", "reference", "round-1", "round-2", "audit-1-members", "audit-1-held_out",
        "audit-1-reference",
    ]  # fmt: skip
    proofs = {
        label: cohort_proof([leaf(label)] if label == "reference" else [], leaf(label)) for label in labels
    }
    receipt = receipt_of(consortium.secrets["north"]).signed(consortium.secrets["north"])
    proof = PatientProof(format="oathbound/patient-proof/v1", site="north", policy=run, proofs=proofs)
    _, shown = check_patient(verified, consortium.trust(), receipt, proof)
    assert [each.label for each in shown if each.member] == ["reference"]
