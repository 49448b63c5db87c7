"""`audit`: a site attacks the model with its own patients, and states what it found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.references import Trained
from oathbound.audit.target import AuditedPatients, AuditTest, Target
from oathbound.audit.work import ALONE, Machine, working
from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.catalogue import battery_of
from oathbound.core.errors import NotAcceptable, Unavailable, WrongInput
from oathbound.core.finding import Finding
from oathbound.core.study import Policy
from oathbound.data.columns import columns_of, of_subjects
from oathbound.data.shelf import Shelf
from oathbound.data.store import SiteStore
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Found, ModelMade, TrainedWithSecureSum
from oathbound.models.model import flat
from oathbound.train.messages import weight_bytes
from oathbound.workflow.extensions import load
from oathbound.workflow.families import family_of, read_model
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, write_file
from oathbound.workflow.ledgers import check_remembered
from oathbound.workflow.notary import Consortium, check_clock, check_sworn, standing, state, stated
from oathbound.workflow.records import source_of
from oathbound.workflow.rounds import gather_audit
from oathbound.workflow.sibling import Siblings
from oathbound.workflow.updates import Updates
from oathbound.workflow.watch import AuditWatch, Watch, unwatched


def audit_site(
    study: StudyFolder,
    model: Path,
    name: str,
    *,
    now: int,
    machine: Machine = ALONE,
    watch: Watch = unwatched,
) -> tuple[Finding, ...]:
    """Run every test of the study at a site, log a statement of each finding, and return them.

    Consents are read again first. The seeds are what the site committed to with its admission, and an audit
    that has ended is not run again, so nobody tries until the result is better; one that was killed goes on
    from what the model had answered, which is kept until then in the site's folder. `watch` is told of the
    tests done, and of the answers. Raises `NothingExamined` before there is a model, `NotAcceptable` when
    `model` is not the study's, and `Refused` for a policy that the site has not sworn to, or an old copy of
    its state.
    """
    site, policy, told = study.site(name), study.policy, AuditWatch(watch)
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    loaded, brought = read_model(model, policy), tests_of(policy)
    with study.locked(), site.log(policy) as own, study.log() as log, SiteStore.open(site.state) as store:
        consortium, secret = Consortium.of(study), site.secret()
        check_sworn(secret.party(), own.leaves(), policy)
        check_remembered(site, store)
        run = decode(standing(log, consortium))[0].identity
        made = stated(log, ModelMade, consortium.parties)[0]
        first = stated(log, TrainedWithSecureSum, consortium.parties)[0].round
        weights = digest(weight_bytes(flat(loaded.model)))
        if (loaded.digest, weights) != (made.model, made.weights):
            raise NotAcceptable(f"{model} is not the model that this study trained")
        earlier = stated(own, Found, consortium.parties)
        if {found.finding.test for found in earlier} < set(battery_of(policy)):
            check_clock(log, consortium, now)
            kept = _kept(site, policy)
            if not kept.exists():
                parts = gather_audit(site, store, policy, run=run, first=first, now=now, own=own, log=log)
                nonce, audited = secret.audit_nonce(policy.digest), _patients(site, store, policy, parts)
                target = target_of(loaded.model, loaded.encoder)
                with working(
                    target,
                    loaded.digest,
                    keep=kept.parent,
                    machine=machine,
                    opener=_target,
                    arguments=(model, policy),
                    on_answer=told.answer,
                ):
                    findings = run_battery(
                        target,
                        audited,
                        policy,
                        site=name,
                        model=loaded.digest,
                        nonce=nonce,
                        brought=brought,
                        refers_to=_refers_to(policy),
                        siblings=Siblings(policy, name),
                        updates=Updates(policy),
                        on_test=told.begin,
                    )
                    _keep(kept, _found(findings, policy, run=run, nonce=nonce))
            earlier = _read_kept(kept)
        for found in earlier:
            state(found, secret, own, log)
    return tuple(found.finding for found in earlier)


def _target(model: Path, policy: Policy) -> tuple[Target, str]:
    loaded = read_model(model, policy)
    return target_of(loaded.model, loaded.encoder), loaded.digest


def _found(findings: Sequence[Finding], policy: Policy, *, run: str, nonce: str) -> list[Found]:
    return [
        Found(policy_digest=policy.digest, site=finding.site, run=run, nonce=nonce, finding=finding)
        for finding in findings
    ]


def _kept(site: SiteFolder, policy: Policy) -> Path:
    """Return the file that holds an audit's findings before the first of them is stated.

    A kill among the statements must not make the audit run again: by then somebody may have withdrawn, and
    two findings that differ by one person tell about that person.
    """
    return site.path / "studies" / policy.study / "findings.json"


def _keep(path: Path, found: Sequence[Found]) -> None:
    write_file(path, canonical([each.plain() for each in found]))


def _read_kept(path: Path) -> list[Found]:
    values = from_canonical(read_file(path), what=str(path))
    if not isinstance(values, list):
        raise WrongInput(f"{path} is not a list of findings", hint="restore it from a copy")
    return [Found.parse(value, what=str(path)) for value in values]


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


def _refers_to(policy: Policy) -> Trained | None:
    """Return how reference models are made, where the policy keeps patients for them."""
    if not policy.drawing.reference:
        return None
    return Trained(family_of(policy), policy.training)


def _patients(
    site: SiteFolder, store: SiteStore, policy: Policy, parts: Mapping[str, frozenset[int]]
) -> AuditedPatients:
    """Return the records of those whom the site may audit, laid out in its folder."""
    everybody = frozenset().union(*parts.values())
    records = columns_of(source_of(site, policy), store.cohort(policy.study))
    shelf = Shelf.of((of_subjects(columns, everybody) for columns in records), site.path)
    return AuditedPatients(**{part: shelf.those(subjects) for part, subjects in parts.items()})
