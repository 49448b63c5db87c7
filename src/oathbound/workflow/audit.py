"""`audit`: a site attacks the model with its own patients, and states what it found."""

from collections.abc import Mapping
from pathlib import Path

import torch

from oathbound.audit.adapter import target_of
from oathbound.audit.battery import battery_of, run_battery
from oathbound.audit.target import AuditedPatients, AuditTest
from oathbound.core.canonical import digest
from oathbound.core.errors import NotAcceptable, Unavailable
from oathbound.core.finding import Finding
from oathbound.core.study import Policy
from oathbound.data.store import SiteStore
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Found, ModelMade
from oathbound.models.model import flat
from oathbound.train.messages import weight_bytes
from oathbound.workflow.extensions import load
from oathbound.workflow.families import read_model
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.notary import Consortium, check_clock, standing, state, stated
from oathbound.workflow.records import patients_of, source_of
from oathbound.workflow.rounds import AUDIT_PARTS, gather_audit


def audit_site(study: StudyFolder, model: Path, name: str, *, now: int) -> tuple[Finding, ...]:
    """Run every test of the study at a site, log a statement of each finding, and return them.

    Consents are read again first. The seeds are what the site committed to with its admission, and an audit
    that has ended is not run again, so nobody tries until the result is better. Raises `NothingExamined`
    before there is a model, and `NotAcceptable` when `model` is not the study's.
    """
    site, policy = study.site(name), study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    loaded, brought = read_model(model, policy), tests_of(policy)
    with study.locked(), site.log(policy) as own, study.log() as log, SiteStore.open(site.state) as store:
        consortium, secret = Consortium.of(study), site.secret()
        run = decode(standing(log, consortium))[0].identity
        made = stated(log, ModelMade, consortium.parties)[0]
        weights = digest(weight_bytes(flat(loaded.model)))
        if (loaded.digest, weights) != (made.model, made.weights):
            raise NotAcceptable(f"{model} is not the model that this study trained")
        earlier = stated(own, Found, consortium.parties)
        if {found.finding.test for found in earlier} < set(battery_of(policy)):
            check_clock(log, consortium, now)
            nonce = secret.audit_nonce(policy.digest)
            audited = _patients(
                site, store, policy, gather_audit(site, store, policy, run=run, now=now, own=own, log=log)
            )
            target = target_of(loaded.model, loaded.encoder)
            findings = run_battery(
                target, audited, policy, site=name, model=loaded.digest, nonce=nonce, brought=brought
            )
            earlier = [
                Found(policy_digest=policy.digest, site=name, run=run, nonce=nonce, finding=finding)
                for finding in findings
            ]
        for found in earlier:
            state(found, secret, own, log)
    return tuple(found.finding for found in earlier)


def tests_of(policy: Policy) -> dict[str, AuditTest]:
    """Return the tests that the policy's extensions bring, by name; `Unavailable` for what is no such test.

    Raises what `load` raises, too.
    """
    tests = {}
    for extension in policy.extensions:
        if extension.group == "audits":
            test = load(policy, "audits", extension.name)
            if not isinstance(test, AuditTest) or (test.id, test.version) != (extension.name, 1):
                raise Unavailable(
                    f"the extension {extension.name} (audits) is no audit test of this name, of version 1",
                    hint="its author can run the contract suite: oathbound.testing.contracts",
                )
            tests[extension.name] = test
    return tests


def _patients(
    site: SiteFolder, store: SiteStore, policy: Policy, parts: Mapping[str, frozenset[int]]
) -> AuditedPatients:
    """Return the records of those whom the site may audit."""
    patients = patients_of(source_of(site, policy), store.cohort(policy.study))
    return AuditedPatients(
        **{part: tuple(patients[subject] for subject in sorted(parts[part])) for part in AUDIT_PARTS}
    )
