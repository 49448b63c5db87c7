"""What one patient holds and can check: a receipt that the site signed, and proofs against a bundle.

A receipt holds the patient's key, `k_patient`. With it, and with nobody's help, the patient finds their own
leaf in every cohort that a bundle commits to, and a proof shows for each whether it is there. The rules are
numbered in `spec/patient.md`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from oathbound.core.canonical import canonical, from_canonical
from oathbound.core.errors import NotAcceptable, NotAuthentic, WrongInput
from oathbound.core.record import Digest, Name, Record, Text
from oathbound.evidence.cohort_proof import CohortProof, Hex32, Member, check, cohort_leaf
from oathbound.evidence.envelope import Statement, Subject, open_envelope, sign
from oathbound.evidence.keys import Party, Secret
from oathbound.evidence.predicates import PREFIX, Seconds
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified

MAX_PROOFS: Final = 20_000
MAX_PROOF_FILE_BYTES: Final = 64 * 1024 * 1024

_KIND: Final = PREFIX + "receipt/v1"

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,99}$")]
"""Which cohort of a site: `members`, `held_out`, `reference`, `round-<n>`, `audit-<n>-<part>`."""


class Allowed(Record):
    """One consent as the site read it: its state, what it says of purposes and data, and until when."""

    status: Name
    given: Text | None = None
    until: Text | None = None
    rule: Text


class Receipt(Record):
    """What a site gives to a patient, after ISO/IEC TS 27560: who, what, until when, and how to undo it.

    `key` is `k_patient`, hexadecimal: whoever has it can find the patient in a bundle, so it is the
    patient's to keep. `withdrawn` is when the patient withdrew, if so.
    """

    site: Name
    issued: Seconds
    key: Hex32
    consents: tuple[Allowed, ...]
    withdrawn: Seconds | None = None
    how_to_withdraw: Text
    how_to_check: Text

    def signed(self, secret: Secret) -> bytes:
        """Return the receipt in an envelope that the site signed: the file that the patient keeps."""
        return sign(self.statement(), secret)

    def statement(self) -> Statement:
        """Return the in-toto statement of the receipt; its subject is the key, by digest."""
        digest = {"sha256": sha256(bytes.fromhex(self.key)).hexdigest()}
        subject = (Subject(name="patient-key", digest=digest),)
        return Statement(subject=subject, predicate_type=_KIND, predicate=self.plain())

    @classmethod
    def opened(cls, data: bytes, parties: Mapping[str, Party]) -> Self:
        """Return the receipt in an envelope; `NotAuthentic` unless the site that it names signed it."""
        opened = open_envelope(data, parties)
        try:
            receipt = cls.parse(opened.statement.predicate, what="the receipt")
        except WrongInput as error:
            raise NotAuthentic(error.message) from None
        if receipt.statement() != opened.statement or opened.signer.name != receipt.site:
            raise NotAuthentic("the receipt is not one that its site signed")
        return receipt


class PatientProof(Record):
    """One patient's place, or absence, in each cohort that a site committed to in one study."""

    format: Literal["oathbound/patient-proof/v1"]
    site: Name
    policy: Digest
    proofs: dict[Label, CohortProof] = Field(min_length=1, max_length=MAX_PROOFS)

    def encode(self) -> bytes:
        """Return the one JSON form."""
        return canonical(self.plain())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the proof in `data`; `NotAuthentic` unless it is exactly the form that `encode` gives."""
        if len(data) > MAX_PROOF_FILE_BYTES:
            raise NotAuthentic(f"the patient's proof is larger than {MAX_PROOF_FILE_BYTES} bytes")
        value = from_canonical(data, what="the patient's proof")
        try:
            proof = cls.parse(value if isinstance(value, dict) else {}, what="the patient's proof")
        except WrongInput as error:
            raise NotAuthentic(error.message) from None
        if proof.encode() != data:
            raise NotAuthentic("the patient's proof is not in its one form")
        return proof


def part_of(label: str) -> str:
    """Return the part of the cohort from which a round, or a part of an audit, has its patients."""
    return label.split("-", 2)[2] if label.startswith("audit-") else "members"


@dataclass(frozen=True, slots=True)
class Shown:
    """What is proven of the patient and one cohort; `as_of` is when the consents for it were read."""

    label: str
    as_of: int
    member: bool


def check_patient(
    verified: Verified, trust: Trust, receipt: bytes, proof: PatientProof
) -> tuple[Receipt, tuple[Shown, ...]]:
    """Return the receipt, and for every cohort that its site committed to, whether the patient is in it.

    Raises `NotAuthentic` for a receipt or a proof that is not what it says, and `NotAcceptable` where the
    patient was used without being admitted, or after they withdrew.
    """
    # (1) the receipt is signed by a site of the study that the verifier trusts
    parties = {party.fingerprint: party for party in verified.parties}
    opened = Receipt.opened(receipt, trust.admit(parties.values()))
    if verified.policy.site(opened.site) is None:
        raise NotAuthentic(f"{opened.site} is not a site of this study")

    # (2) the proof is of that site, in this study
    if (proof.site, proof.policy) != (opened.site, verified.policy_digest):
        raise NotAuthentic("the proof is of another site or study than the receipt and the bundle")

    # (3) there is one for every cohort that the site committed to, and each leads to its root
    key = bytes.fromhex(opened.key)
    shown = []
    for label, root, as_of in _commitments(verified, opened.site):
        if label not in proof.proofs:
            raise NotAuthentic(
                f"the proof leaves out {label}", hint="ask the site for a proof made after this bundle"
            )
        leaf = cohort_leaf(key, site=opened.site, run=verified.policy_digest, label=label)
        try:
            found = check(bytes.fromhex(root.removeprefix("sha256:")), leaf, proof.proofs[label])
        except NotAuthentic as error:
            hint = "receipt and proof must be of one patient, and of this bundle"
            raise NotAuthentic(error.message, hint=hint) from None
        shown.append(Shown(label, as_of, isinstance(found, Member)))

    _check_use(opened, shown)
    return opened, tuple(shown)


def _check_use(receipt: Receipt, shown: list[Shown]) -> None:
    """Refuse a use of somebody who was not drawn for it, and for it alone, or who had withdrawn before it."""
    parts = {each.label for each in shown if each.member}
    if len(parts & {"members", "held_out", "reference"}) > 1:
        raise NotAcceptable("the patient is in two parts of the site's cohort")
    for each in shown:
        # (4) nobody is used in a round or an audit who was not drawn for it
        part = part_of(each.label)
        if each.member and each.label.startswith(("round-", "audit-")) and part not in parts:
            raise NotAcceptable(f"the patient is in {each.label} and was not admitted to it")
        # (5) nobody is in a cohort whose consents were read after they withdrew
        if each.member and receipt.withdrawn is not None and each.as_of > receipt.withdrawn:
            hint = "consented anew since? ask for a new receipt" if each.as_of > receipt.issued else ""
            raise NotAcceptable(f"the patient is in {each.label}, and had withdrawn before", hint=hint)


def _commitments(verified: Verified, site: str) -> Iterator[tuple[str, str, int]]:
    """Yield the label, root and as-of time of every cohort that a site committed to in the bundle."""
    for admission in verified.admissions:
        if admission.site == site:
            for part in ("members", "held_out", "reference"):
                yield part, getattr(admission.roots, part), admission.as_of
    for gathered in verified.rounds:
        if gathered.site == site:
            yield f"round-{gathered.round}", gathered.root, gathered.as_of
    for audited in verified.audits:
        if audited.site == site:
            for part in ("members", "held_out", "reference"):
                yield f"audit-{audited.number}-{part}", getattr(audited.roots, part), audited.as_of
