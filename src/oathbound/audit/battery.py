"""Run the audit tests, of a study or without one: every test gives a finding, also one that could not run."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from oathbound.audit.catalog import (
    attribute_inference,
    canary,
    embedding_probe,
    gradient_reconstruction,
    identifier_perturbation,
    image_linkage,
    membership,
    rare_subgroup,
    sensitive_disclosure,
    trajectory_recall,
)
from oathbound.audit.catalog.canary import Canary, TrainsSiblings
from oathbound.audit.catalog.gradient_reconstruction import GradientReconstruction, SeesUpdates
from oathbound.audit.catalog.membership import Membership
from oathbound.audit.catalog.rare_subgroup import RareSubgroup
from oathbound.audit.coherence import check_coherent
from oathbound.audit.references import RefersTo
from oathbound.audit.target import AuditedPatients, AuditTest, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.canonical import digest_of
from oathbound.core.catalogue import battery_of, is_whole
from oathbound.core.errors import Halted, OathboundError
from oathbound.core.finding import DidNotRun, Finding, Measured, Threat, audit_seed
from oathbound.core.record import Digest, Name
from oathbound.core.study import Policy

CATALOGUE: Final[Mapping[str, AuditTest]] = {
    test.id: test
    for test in (
        attribute_inference.TEST,
        canary.TEST,
        embedding_probe.TEST,
        gradient_reconstruction.TEST,
        identifier_perturbation.TEST,
        image_linkage.TEST,
        membership.TEST,
        rare_subgroup.TEST,
        sensitive_disclosure.TEST,
        trajectory_recall.TEST,
    )
}

HERE: Final = "here"
"""The site of a finding that no study asked for."""

OnTest = Callable[[str, int, int], None]
"""Is told the name of a test that begins, how many were run before, and how many there are."""

_NONE: Final[Mapping[str, AuditTest]] = MappingProxyType({})
_PROBED: Final = 64
_NO_THREAT: Final = Threat(sees="nothing", knows="nothing")


def untold(_test: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def run_battery(
    target: Target,
    patients: AuditedPatients,
    policy: Policy,
    *,
    site: Name,
    model: Digest,
    nonce: Digest,
    brought: Mapping[str, AuditTest] = _NONE,
    refers_to: RefersTo | None = None,
    siblings: TrainsSiblings | None = None,
    updates: SeesUpdates | None = None,
    on_test: OnTest = untold,
) -> tuple[Finding, ...]:
    """Return one finding for every test of `battery_of`, in order of name; `brought` are extensions' tests.

    `refers_to` gives reference models, and is needed where the policy keeps reference patients;
    `siblings` trains siblings of the model, and is needed where the policy plants canaries; `updates`
    shows what training sends, and is needed where the policy attacks it; `on_test` is told
    of every test that begins.

    Errors that oathbound foresees become the reason of a `DidNotRun`, as does a finding that is not all that
    its test measures; `Halted`, which is about the machine, and any other are raised.
    """
    tests = {**brought, **_referring(CATALOGUE, refers_to)}
    if siblings is not None:
        tests["canary"] = Canary(siblings)
    if updates is not None:
        tests["gradient-reconstruction"] = GradientReconstruction(updates)
    incoherent = _incoherence(target, patients)
    findings, battery = [], battery_of(policy)
    for done, name in enumerate(battery):
        on_test(name, done, len(battery))
        test = tests.get(name)
        seed = audit_seed(policy=policy.digest, model=model, nonce=nonce, test=name, site=site)
        outcome: Measured | DidNotRun
        if test is None:
            outcome = _not_run("this version of oathbound has no such test")
        elif incoherent:
            outcome = _not_run(incoherent)
        else:
            outcome = _outcome(test, target, patients, policy.audit, seed)
        finding = Finding(
            test=name,
            version=test.version if test else 1,
            site=site,
            model=model,
            seed=seed,
            threat=test.threat if test else _NO_THREAT,
            outcome=outcome,
        )
        if not is_whole(finding, policy):  # no verifier would take it
            outcome = _not_run("the test reported something else than the policy says it measures")
            finding = finding.model_copy(update={"outcome": outcome})
        findings.append(finding)
    return tuple(findings)


def run_tests(
    target: Target,
    patients: AuditedPatients,
    plan: AuditPlan,
    *,
    model: Digest,
    refers_to: RefersTo | None = None,
    on_test: OnTest = untold,
) -> tuple[Finding, ...]:
    """Return one finding for every test of the catalogue, in order of name, about a model of no study.

    Nobody has sworn to anything, so the seeds follow from the plan and the model alone: whoever audits can
    try plans until a draw suits. Errors, `refers_to` and `on_test` are as in `run_battery`.
    """
    incoherent = _incoherence(target, patients)
    tests = _referring(CATALOGUE, refers_to)
    names = sorted(tests)

    def outcome_of(test: AuditTest, seed: Digest) -> Measured | DidNotRun:
        on_test(test.id, names.index(test.id), len(names))
        return _not_run(incoherent) if incoherent else _outcome(test, target, patients, plan, seed)

    return _without_study(outcome_of, plan, model, tests)


def run_no_test(reason: str, plan: AuditPlan, *, model: Digest) -> tuple[Finding, ...]:
    """Return what `run_tests` would, where no test could run, with the reason."""
    return _without_study(lambda _test, _seed: _not_run(reason), plan, model, CATALOGUE)


def _referring(tests: Mapping[str, AuditTest], refers_to: RefersTo | None) -> Mapping[str, AuditTest]:
    """Return the tests, with reference models where there are any."""
    if refers_to is None:
        return tests
    return {**tests, "membership": Membership(refers_to), "rare-subgroup": RareSubgroup(refers_to)}


def _without_study(
    outcome_of: Callable[[AuditTest, Digest], Measured | DidNotRun],
    plan: AuditPlan,
    model: Digest,
    tests: Mapping[str, AuditTest],
) -> tuple[Finding, ...]:
    identity = {"policy": digest_of(plan.plain()), "model": model, "nonce": digest_of("no study")}
    seeds = {name: audit_seed(**identity, test=name, site=HERE) for name in sorted(tests)}
    return tuple(
        Finding(
            test=name,
            version=tests[name].version,
            site=HERE,
            model=model,
            seed=seed,
            threat=tests[name].threat,
            outcome=outcome_of(tests[name], seed),
        )
        for name, seed in seeds.items()
    )


def _incoherence(target: Target, patients: AuditedPatients) -> str:
    """Return what is wrong with the model's answers, or nothing."""
    probed = [*patients.members[:_PROBED], *patients.held_out[:_PROBED]]
    try:
        check_coherent(target, probed)
    except Halted:
        raise
    except OathboundError as error:
        return error.message
    return ""


def _outcome(
    test: AuditTest, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: Digest
) -> Measured | DidNotRun:
    try:
        return test.run(target, patients, plan, bytes.fromhex(seed.removeprefix("sha256:")))
    except Halted:  # a machine that failed is no finding about a model
        raise
    except OathboundError as error:
        return _not_run(error.message)


def _not_run(reason: str) -> DidNotRun:
    printable = "".join(character if character.isprintable() else " " for character in reason)
    return DidNotRun(kind="did-not-run", reason=printable[:2000])
