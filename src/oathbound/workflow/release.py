"""`release`: judge a model by every site's findings, and hand out one bundle that proves the decision."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from oathbound.core.canonical import canonical
from oathbound.core.catalogue import battery_of
from oathbound.core.errors import NotAcceptable, Refused
from oathbound.evidence.bundle import pack
from oathbound.evidence.contents import BundledLog, Contents
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Decided, Found, ModelMade
from oathbound.evidence.steps import attempts_of, judgement_of
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified, verify
from oathbound.workflow.folders import SiteFolder, StudyFolder, check_out, write_file
from oathbound.workflow.model_files import model_files
from oathbound.workflow.notary import (
    Consortium,
    check_complete,
    check_unchanged,
    standing,
    stands,
    state,
    stated,
    witnessed,
)
from oathbound.workflow.rounds import check_reads


@dataclass(frozen=True, slots=True)
class Released:
    """The bundle's bytes, and what a verifier who trusts the policy's parties finds in it."""

    bundle: bytes
    verified: Verified


def release(study: StudyFolder, model: Path, out: Path, *, now: int) -> Released:
    """Judge the study's model, log the decision, write the bundle, and verify it as a stranger would.

    The bundle is written also when the model is refused. Raises `Refused` when a site has not audited, or has
    sworn to another policy, `NothingExamined` when there is no model, and `NotAcceptable` when `model` is
    another one.
    """
    policy = study.policy
    check_out(out, b"PK")
    with study.locked(), study.log() as log:
        consortium, secret = Consortium.of(study), study.secret()
        check_unchanged(log, consortium)
        standing(log, consortium)
        made = stated(log, ModelMade, consortium.parties)[0]
        if model_files(model) != made.files:
            raise NotAcceptable(f"{model} is not the model that this study trained")
        sites = study.sites()
        histories = [_findings(site, consortium) for site in sites]
        battery = set(battery_of(policy))
        missing = [
            site.file.name
            for site, history in zip(sites, histories, strict=True)
            if not battery <= {found.finding.test for found in history}
        ]
        if missing:
            raise Refused(
                f"no release before every site has audited the whole model: {', '.join(missing)} did not",
                hint=f"at each of them: oathbound audit {study.model} --site {missing[0]}",
            )
        heads, logs = {}, {}
        for site in sites:
            with site.log(policy) as own:
                check_reads(site, own, now)
                note = witnessed(own, site.secret(), consortium, now)
                heads[site.file.name] = decode(note)[0].identity
                logs[site.file.name] = BundledLog(leaves=own.leaves(), checkpoints=(note,))
        judgement = judgement_of(policy, list(chain.from_iterable(map(attempts_of, histories))))
        check_complete(log, consortium)
        decided = Decided(
            policy_digest=policy.digest, model=made.model, heads=heads, verdict=judgement.verdict.value
        )
        state(decided, secret, log)
        witnessed(log, secret, consortium, now)
        standing_notes = tuple(note for note in log.checkpoints() if stands(note, consortium))
        logs[policy.coordinator.name] = BundledLog(leaves=log.leaves(), checkpoints=standing_notes)
    contents = Contents(
        policy=canonical(policy.plain()),
        parties={name: party.encoded() for name, party in consortium.parties.items()},
        logs=logs,
    )
    bundle = pack(contents.files())
    verified = verify(bundle, trust_of(study), at=now)
    write_file(out, bundle)
    return Released(bundle, verified)


def trust_of(study: StudyFolder) -> Trust:
    """Return the trust of somebody who compared every fingerprint of the policy with its owner."""
    members = (study.policy.coordinator, *study.policy.sites)
    party = [{"name": member.name, "fingerprint": member.fingerprint} for member in members]
    return Trust.parse({"format": "oathbound/trust/v1", "party": party}, what="the policy's parties")


def _findings(site: SiteFolder, consortium: Consortium) -> list[Found]:
    with site.log(consortium.policy) as own:
        return stated(own, Found, consortium.parties)
