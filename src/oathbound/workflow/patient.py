"""`patient`: what a site owes to one patient: a receipt, a proof, and an end to the use of their records.

A patient is named by the site's own number, which leaves the site in nothing that is written here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast

from oathbound.core.claims import Verdict
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.cohort import PARTS
from oathbound.data.commitment import cohort_proof
from oathbound.data.consent import Consent, Provision
from oathbound.data.store import SiteStore
from oathbound.evidence.cohort_proof import cohort_leaf
from oathbound.evidence.keys import Secret
from oathbound.evidence.patient import Allowed, PatientProof, Receipt, part_of
from oathbound.evidence.verify import Verified
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.rounds import read_again, round_label

TO_WITHDRAW = (
    "Tell the hospital. From the next round of training and the next audit on, your records are not used. "
    "A model that was trained before stays as it is; ask which ones hold you."
)
TO_CHECK = (
    "Ask the hospital for the study's bundle and for your proof, and somebody you trust for a trust file: "
    "oathbound verify BUNDLE --trust FILE --receipt THIS --proof PROOF. It needs no network."
)


def give_receipt(site: SiteFolder, subject: int, *, now: int) -> bytes:
    """Read the site's consents, and return the patient's receipt, signed.

    Raises `WrongInput` for somebody who never gave or denied consent here.
    """
    with SiteStore.open(site.state) as store:
        read_again(site, store)
        return _receipt(site.secret(), store, subject, now)


def withdraw(site: SiteFolder, subject: int, *, now: int) -> bytes:
    """End the use of a patient's records, durably, and return a receipt that says since when.

    It takes effect in the next round of training and the next audit of every study. A consent that is given
    later counts again, and brings nobody back who left a cohort. Where a clock once ran ahead, so that by
    this one records were used in the future, it is dated by that use: before it, the receipt would accuse a
    site that did nothing wrong.
    """
    secret = site.secret()
    with SiteStore.open(site.state) as store:
        moment = max(now, store.last_used())
        known = bool(store.patient_keys([subject]))
        if known:
            store.withdraw(subject, moment)
        try:
            read_again(site, store)
        except (WrongInput, NothingExamined):
            if not known:  # else it is recorded, whatever is wrong with the file
                raise
        store.withdraw(subject, moment)
        return _receipt(secret, store, subject, now)


def prove(site: SiteFolder, subject: int, study: str) -> PatientProof:
    """Return the proof of where the patient is, and is not, in every cohort of a study at this site."""
    with SiteStore.open(site.state) as store:
        key, studies = _key(store, subject), store.studies()
        if study not in studies:
            raise WrongInput(
                "no study of that name has a cohort here", hint=f"one of: {', '.join(studies) or 'none yet'}"
            )
        run = store.cohort(study).policy_digest
        committed = store.leaves(study)
        labels = (*PARTS, *store.uses(study))
    name = site.file.name
    proofs = {
        label: cohort_proof(committed.get(label, ()), cohort_leaf(key, site=name, run=run, label=label))
        for label in labels
    }
    return PatientProof(format="oathbound/patient-proof/v1", site=name, policy=run, proofs=proofs)


_MOST_SAID: Final = 1800

Part = Literal["members", "held_out", "reference"]


@dataclass(frozen=True, slots=True)
class Lineage:
    """One study that drew the patient, and what binds its model to them.

    `bound` is `bounded`: patient-level privacy held and the audit passed; `unbounded`: a member of a model
    of which one of the two cannot be said, and which forgets the patient only if it is trained again;
    `unknown`: a member, and no bundle of the study was given; `none`: its model never learnt from them.
    """

    study: str
    part: Part
    uses: tuple[str, ...]
    model: str | None
    bound: Literal["bounded", "unbounded", "unknown", "none"]


def lineage(site: SiteFolder, subject: int, verified: Sequence[Verified]) -> tuple[Lineage, ...]:
    """Return the studies that drew the patient; `verified` are bundles of some of them."""
    bundles = {each.policy_digest: each for each in verified}
    with SiteStore.open(site.state) as store:
        _key(store, subject)
        return tuple(_lineages(store, subject, bundles))


def _lineages(store: SiteStore, subject: int, bundles: Mapping[str, Verified]) -> Iterator[Lineage]:
    for study, part in store.studies_of(subject).items():
        cohort = store.cohort(study)
        uses = tuple(
            label
            for label, use in sorted(store.uses(study).items(), key=lambda item: item[1].as_of)
            if subject not in use.absent and part_of(label) == part
        )
        verified = bundles.get(cohort.policy_digest)
        # a round that took no step taught the model nothing; the bundle says which took some
        stepped = {round_label(segment.round) for segment in verified.training} if verified else uses
        trained = any(label.startswith("round-") and label in stepped for label in uses)
        bound: Literal["bounded", "unbounded", "unknown", "none"] = "none"
        if trained:
            bound = "unknown" if verified is None else _bound(verified)
        yield Lineage(study, cast("Part", part), uses, verified.model.model if verified else None, bound)


def _bound(verified: Verified) -> Literal["bounded", "unbounded"]:
    private = verified.epsilon is not None
    return "bounded" if private and verified.judgement.verdict is Verdict.PASS else "unbounded"


def _receipt(secret: Secret, store: SiteStore, subject: int, now: int) -> bytes:
    key = _key(store, subject)
    receipt = Receipt(
        site=secret.name,
        issued=now,
        key=key.hex(),
        consents=tuple(map(_allowed, store.consents().get(subject, ()))),
        withdrawn=store.withdrawn(subject, now),
        how_to_withdraw=TO_WITHDRAW,
        how_to_check=TO_CHECK,
    )
    return receipt.signed(secret)


def _key(store: SiteStore, subject: int) -> bytes:
    key = store.patient_keys([subject]).get(subject)
    if key is None:
        raise WrongInput(
            "no patient of that number has given or denied a consent here",
            hint="nobody's records are used without one",
        )
    return key


def _allowed(consent: Consent) -> Allowed:
    rule = consent.provision
    return Allowed(
        status=consent.status,
        given=_day(consent.given),
        until=_day(rule.end) if rule else None,
        rule=(_rule(rule) if rule else "says nothing")
        + ("" if consent.understood else " (not understood: it permits nothing)"),
    )


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else moment.date().isoformat()


def _rule(rule: Provision) -> str:
    """Return a rule in words, its exceptions in brackets; one too long for a receipt is cut, and says so."""
    said = _said(rule)
    return said if len(said) <= _MOST_SAID else said[:_MOST_SAID] + " ... cut: ask the hospital for the rest"


def _said(rule: Provision) -> str:
    words = [rule.effect or "as follows", *rule.purposes, *(f"data:{label}" for label in rule.labels)]
    if rule.opaque:
        words.append("with conditions that are not evaluated, so it permits nothing")
    if rule.conditions:
        words.append("if " + " and ".join(sorted(rule.conditions)))
    if rule.start is not None:
        words.append(f"from {_day(rule.start)}")
    if rule.end is not None:
        words.append(f"until {_day(rule.end)}")
    if rule.exceptions:
        words.append("except [" + "; ".join(map(_said, rule.exceptions)) + "]")
    return " ".join(words)
