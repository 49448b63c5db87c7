"""`audit`: a site attacks the model with its own patients, and states what it found."""

from pathlib import Path

import torch

from oathbound.audit.adapter import EventTarget
from oathbound.audit.battery import run_battery
from oathbound.audit.target import AuditedPatients
from oathbound.core.canonical import digest
from oathbound.core.errors import NotAcceptable
from oathbound.core.finding import Finding
from oathbound.data.store import SiteStore
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Found, ModelMade
from oathbound.models.folder import read_model
from oathbound.models.transformer import flat
from oathbound.train.messages import weight_bytes
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.notary import MADE, Consortium, standing, state, stated
from oathbound.workflow.records import patients_of


def audit_site(study: StudyFolder, model: Path, name: str) -> tuple[Finding, ...]:
    """Run every test of the catalogue at a site, log a statement of each finding, and return them.

    The seeds are what the site committed to with its admission, so a second run finds the same. Raises
    `NothingExamined` before there is a model, and `NotAcceptable` when `model` is not the study's.
    """
    site, policy = study.site(name), study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    loaded = read_model(model)
    with study.locked(), site.log(policy) as own, study.log() as log, SiteStore.open(site.state) as store:
        consortium = Consortium.of(study)
        note = standing(MADE, log, consortium)
        made = stated(log, ModelMade, consortium.parties)[0]
        weights = digest(weight_bytes(flat(loaded.model)))
        if (loaded.digest, weights) != (made.model, made.weights):
            raise NotAcceptable(f"{model} is not the model that this study trained")
        cohort = store.cohort(policy.study)
        patients = patients_of(site, cohort)
        audited = AuditedPatients(
            members=tuple(patients[subject] for subject in sorted(cohort.members)),
            held_out=tuple(patients[subject] for subject in sorted(cohort.held_out)),
        )
        nonce = site.secret().audit_nonce(policy.digest)
        findings = run_battery(
            EventTarget(loaded.model, loaded.tokenizer),
            audited,
            policy,
            site=name,
            model=loaded.digest,
            nonce=nonce,
        )
        run = decode(note)[0].identity
        for finding in findings:
            found = Found(policy_digest=policy.digest, site=name, run=run, nonce=nonce, finding=finding)
            state(found, site.secret(), own, log)
    return findings
