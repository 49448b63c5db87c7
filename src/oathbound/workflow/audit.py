"""`audit`: a site attacks the model with its own patients, and states what it found."""

from pathlib import Path

import torch

from oathbound.audit.adapter import EventTarget
from oathbound.audit.battery import run_battery
from oathbound.audit.target import AuditedPatients
from oathbound.core.canonical import digest
from oathbound.core.errors import NotAcceptable, NothingExamined
from oathbound.core.finding import Finding
from oathbound.data.store import SiteStore
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Found, ModelMade
from oathbound.models.folder import read_model
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.notary import MADE, state, stated
from oathbound.workflow.records import patients_of


def audit_site(study: StudyFolder, model: Path, name: str) -> tuple[Finding, ...]:
    """Run every test of the catalogue at a site, log a statement of each finding, and return them.

    The seeds follow from the cosigned checkpoint that holds the model, so a second run finds the same. Raises
    `NothingExamined` before there is a model, and `NotAcceptable` when `model` is not the study's.
    """
    site, policy = study.site(name), study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    loaded = read_model(model)
    with study.locked(), site.log(policy) as own, study.log() as log, SiteStore.open(site.state) as store:
        made = stated(log, ModelMade, study.parties())
        notes = log.checkpoints()
        if not made or len(notes) < MADE:
            raise NothingExamined("this study has no model yet", hint="first: oathbound train")
        if loaded.digest != made[0].model:
            raise NotAcceptable(f"{model} is not the model that this study trained")
        cohort = store.cohort(policy.study)
        patients = patients_of(site, cohort)
        audited = AuditedPatients(
            members=tuple(patients[subject] for subject in sorted(cohort.members)),
            held_out=tuple(patients[subject] for subject in sorted(cohort.held_out)),
        )
        note = notes[MADE - 1]
        findings = run_battery(
            EventTarget(loaded.model, loaded.tokenizer),
            audited,
            policy,
            site=name,
            model=loaded.digest,
            checkpoint=digest(note),
        )
        run = decode(note)[0].identity
        for finding in findings:
            found = Found(policy_digest=policy.digest, site=name, run=run, finding=finding)
            state(found, site.secret(), own, log)
    return findings
