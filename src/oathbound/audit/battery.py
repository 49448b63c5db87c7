"""Run the tests of a study at one site: every test gives a finding, also the one that could not run."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from oathbound.audit.catalog import membership, sensitive_disclosure
from oathbound.audit.target import AuditedPatients, AuditTest, Target, check_coherent
from oathbound.core.catalogue import is_whole
from oathbound.core.errors import OathboundError
from oathbound.core.finding import DidNotRun, Finding, Measured, Threat, audit_seed
from oathbound.core.record import Digest, Name
from oathbound.core.study import Policy

CATALOGUE: Final[Mapping[str, AuditTest]] = {
    test.id: test for test in (membership.TEST, sensitive_disclosure.TEST)
}

_NONE: Final[Mapping[str, AuditTest]] = MappingProxyType({})
_PROBED: Final = 64
_NO_THREAT: Final = Threat(sees="nothing", knows="nothing")


def battery_of(policy: Policy) -> tuple[str, ...]:
    """Return the tests of a study, by name: the catalogue, its extensions', and others that a gate names."""
    brought = (extension.name for extension in policy.extensions if extension.group == "audits")
    return tuple(sorted({*CATALOGUE, *brought, *(gate.test for gate in policy.gates)}))


def run_battery(
    target: Target,
    patients: AuditedPatients,
    policy: Policy,
    *,
    site: Name,
    model: Digest,
    nonce: Digest,
    brought: Mapping[str, AuditTest] = _NONE,
) -> tuple[Finding, ...]:
    """Return one finding for every test of `battery_of`, in order of name; `brought` are extensions' tests.

    Errors that oathbound foresees become the reason of a `DidNotRun`, as does a finding that is not all that
    its test measures; any other is raised.
    """
    incoherent = _incoherence(target, patients)
    findings = []
    for name in battery_of(policy):
        test = CATALOGUE.get(name) or brought.get(name)
        seed = audit_seed(policy=policy.digest, model=model, nonce=nonce, test=name, site=site)
        outcome: Measured | DidNotRun
        if test is None:
            outcome = _not_run("this version of oathbound has no such test")
        elif incoherent:
            outcome = _not_run(incoherent)
        else:
            outcome = _outcome(test, target, patients, policy, seed)
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


def _incoherence(target: Target, patients: AuditedPatients) -> str:
    """Return what is wrong with the model's answers, or nothing."""
    probed = [*patients.members[:_PROBED], *patients.held_out[:_PROBED]]
    try:
        check_coherent(target, probed)
    except OathboundError as error:
        return error.message
    return ""


def _outcome(
    test: AuditTest, target: Target, patients: AuditedPatients, policy: Policy, seed: Digest
) -> Measured | DidNotRun:
    try:
        return test.run(target, patients, policy.audit, bytes.fromhex(seed.removeprefix("sha256:")))
    except OathboundError as error:
        return _not_run(error.message)


def _not_run(reason: str) -> DidNotRun:
    printable = "".join(character if character.isprintable() else " " for character in reason)
    return DidNotRun(kind="did-not-run", reason=printable[:2000])
