"""Verification of a bundle, offline: fourteen numbered steps, the same as in `spec/verify.md`.

Nothing in a bundle is believed because the bundle says it. Keys come from the verifier's trust file, order
from cosigned logs, epsilon from recorded events, the verdict from findings and gates. `verify` returns what
it verified, or raises: `NotAuthentic` when evidence is not what somebody signed, `NotAcceptable` when it is,
and breaks the policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Final, TypeVar

from oathbound.core import accounting
from oathbound.core.canonical import digest, digest_of, from_canonical
from oathbound.core.catalogue import is_whole
from oathbound.core.errors import NotAcceptable, NotAuthentic, WrongInput
from oathbound.core.event import SampledGaussian
from oathbound.core.finding import Auc, DidNotRun, NotMeasurable, TruePositiveRate, audit_seed
from oathbound.core.gates import Attempted, Judgement, judge
from oathbound.core.study import Policy
from oathbound.evidence.bundle import unpack
from oathbound.evidence.contents import BundledLog, Contents
from oathbound.evidence.envelope import Signed, open_envelope
from oathbound.evidence.keys import Party
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import Checkpoint, open_checkpoint, witnesses
from oathbound.evidence.predicates import (
    Admission,
    Charged,
    Decided,
    Found,
    ModelMade,
    Oath,
    Predicate,
    SitePredicate,
    TrainedWithTrustedAggregator,
    predicate_of,
)
from oathbound.evidence.trust import Trust

STEPS: Final = {
    1: "the file is a bundle in its one form",
    2: "every party in it is one that the trust file names",
    3: "every statement is signed by one of them, with both of its signatures",
    4: "every site swore to one and the same policy, with the keys that it names",
    5: "every log's checkpoints are its operator's, and its leaves have their roots",
    6: "every statement was made by the party whose it is to make",
    7: "enough other sites cosigned every checkpoint",
    8: "nothing that a site logged is missing, and nothing was added to it",
    9: "things happened in the order that the policy promises",
    10: "the cohorts were admitted by consent, and were fresh",
    11: "training followed the plan, and made this model",
    12: "the privacy that was spent, recomputed, is within the budget",
    13: "every finding is whole, about this model and cohort, with the seed that its site committed to",
    14: "the verdict, recomputed from findings and gates, is the one that was decided",
}

CLOCK_SKEW_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """A checkpoint's size, its identity, and its witnesses' times."""

    size: int
    digest: str
    times: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle proves. Every field is signed by its maker, or computed here."""

    policy: Policy
    policy_digest: str
    model: ModelMade
    training: TrainedWithTrustedAggregator
    admissions: tuple[Admission, ...]
    charges: tuple[Charged, ...]
    findings: tuple[Found, ...]
    epsilon: Decimal | None
    judgement: Judgement
    started: int
    decided: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Statement:
    identity: str
    signer: Party
    predicate: Predicate


_P = TypeVar("_P", bound=Predicate)


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give an error the number of the step that it came from."""
    try:
        yield
    except (NotAuthentic, NotAcceptable) as error:
        error.step = number
        raise


def origin(policy: Policy, operator: str) -> str:
    """Return the origin of an operator's log of a study: the first line of its checkpoints."""
    return f"oathbound.invalid/{policy.study}/{operator}"


def verify(data: bytes, trust: Trust, *, at: int) -> Verified:
    """Return what the bundle `data` proves to somebody who trusts `trust`, as of POSIX time `at`.

    Raises `NotAuthentic` or `NotAcceptable`, each with the number of the step that refused. The verdict is
    in the result: a refused release is authentic, and `judgement.verdict` says that it was refused.
    """
    # (1) the file is a bundle in its one form
    with _step(1):
        contents = Contents.of(unpack(data))

    # (2) every party in it is one that the trust file names
    with _step(2):
        decoded = {name: Party.decode(public) for name, public in contents.parties.items()}
        if any(party.name != name for name, party in decoded.items()):
            raise NotAuthentic("a party's keys lie under another party's name")
        parties = trust.admit(decoded.values())
        if not contents.logs.keys() <= decoded.keys():
            raise NotAuthentic("the bundle holds a log of nobody whose keys it holds")

    # (3) every statement is signed by one of them, with both of its signatures
    with _step(3):
        leaves = {leaf for log in contents.logs.values() for leaf in log.leaves}
        statements = {leaf: _open(leaf, parties) for leaf in leaves}

    # (4) every site swore to one and the same policy, with the keys that it names
    with _step(4):
        policy = _policy(contents.policy)
        _check_oaths(policy, list(statements.values()), decoded)

    # (5) every log's checkpoints are its operator's, and its leaves have their roots
    with _step(5):
        if sorted(contents.logs) != sorted(decoded):
            raise NotAcceptable("the bundle must hold exactly one log of each party")
        heads = {name: _checkpoints(name, log, decoded[name], policy) for name, log in contents.logs.items()}

    # (6) every statement was made by the party whose it is to make
    with _step(6):
        for statement in statements.values():
            _check_role(statement, policy)

    # (7) enough other sites cosigned every checkpoint
    with _step(7):
        seen = {
            name: tuple(_witnessed(note, head, policy, parties, at) for note, head in heads[name])
            for name in heads
        }

    # (8) nothing that a site logged is missing, and nothing was added to it
    with _step(8):
        study = [statements[leaf] for leaf in contents.logs[policy.coordinator.name].leaves]
        history = {
            site.name: [statements[leaf] for leaf in contents.logs[site.name].leaves] for site in policy.sites
        }
        _check_complete(study, history, seen, policy)

    # (9) things happened in the order that the policy promises
    with _step(9):
        training, model, decided = (
            _one(study, TrainedWithTrustedAggregator),
            _one(study, ModelMade),
            _last(study),
        )
        start = _cited(seen[policy.coordinator.name], training.run, "the training")
        made = _cited(seen[policy.coordinator.name], _of(study, Found)[0].run, "a finding")
        _check_order(study, start, made)

    # (10) the cohorts were admitted by consent, and were fresh
    with _step(10):
        admissions = _each_site(study, Admission, policy)
        _check_fresh(admissions, policy, start)

    # (11) training followed the plan, and made this model
    with _step(11):
        charges = _each_site(study, Charged, policy)
        _check_training(training, model, charges, policy)

    # (12) the privacy that was spent, recomputed, is within the budget
    with _step(12):
        epsilon = _spent(charges, policy)

    # (13) every finding is whole, about this model and cohort, with the seed that its site committed to
    with _step(13):
        found = [[s.predicate for s in own if isinstance(s.predicate, Found)] for own in history.values()]
        attempts = list(chain.from_iterable(attempts_of(of_site) for of_site in found))
        _check_findings(attempts, model, policy, admissions)
        _check_counts(attempts, admissions)

    # (14) the verdict, recomputed from findings and gates, is the one that was decided
    with _step(14):
        judgement = judgement_of(policy, attempts)
        if decided.verdict != judgement.verdict.value or decided.model != model.model:
            raise NotAcceptable(
                f"the decision says {decided.verdict}, the findings and gates say {judgement.verdict.value}",
                hint="a decision is never believed over the findings that it rests on",
            )

    return Verified(
        policy=policy,
        policy_digest=policy.digest,
        model=model,
        training=training,
        admissions=admissions,
        charges=charges,
        findings=tuple(found for found, _ in attempts),
        epsilon=epsilon,
        judgement=judgement,
        started=min(start.times),
        decided=max(time for log in seen.values() for time in log[-1].times),
        steps=tuple(STEPS.values()),
    )


def _open(leaf: bytes, parties: Mapping[str, Party]) -> _Statement:
    signed: Signed = open_envelope(leaf, parties)
    return _Statement(
        identity=signed.identity, signer=signed.signer, predicate=predicate_of(signed.statement)
    )


def _policy(data: bytes) -> Policy:
    value = from_canonical(data, what="the policy")
    try:
        policy = Policy.parse(data, what="the policy")
    except WrongInput as error:
        raise NotAcceptable(error.message, hint=error.hint) from None
    if policy.plain() != value:
        raise NotAcceptable("the policy is not in its one form")
    return policy


def _checkpoints(
    operator: str, log: BundledLog, party: Party, policy: Policy
) -> list[tuple[bytes, Checkpoint]]:
    hashes = [leaf_hash(leaf) for leaf in log.leaves]
    heads = [(note, open_checkpoint(note, party, origin(policy, operator))) for note in log.checkpoints]
    sizes = [head.size for _, head in heads]
    if not heads or sizes != sorted(set(sizes)) or sizes[-1] != len(hashes):
        raise NotAuthentic(
            f"the checkpoints of the log of {operator} do not ascend to cover all of its leaves"
        )
    for _, head in heads:
        if root(hashes[: head.size]) != head.root:
            raise NotAuthentic(
                f"the leaves of the log of {operator} do not have the root of checkpoint {head.size}"
            )
    return heads


def _check_oaths(policy: Policy, statements: Sequence[_Statement], parties: Mapping[str, Party]) -> None:
    members = (policy.coordinator, *policy.sites)
    for member in members:
        party = parties.get(member.name)
        if party is None or party.fingerprint != member.fingerprint:
            raise NotAcceptable(f"the keys of {member.name} are not those that the policy names")
    if len(parties) != len(members):
        raise NotAcceptable("the bundle holds keys of somebody whom the policy does not name")
    for statement in statements:
        if statement.predicate.policy_digest != policy.digest:
            raise NotAcceptable(f"{statement.signer.name} made a statement for another policy")
    sworn = {statement.signer.name for statement in statements if isinstance(statement.predicate, Oath)}
    missing = sorted({site.name for site in policy.sites} - sworn)
    if missing:
        raise NotAcceptable(f"{missing[0]} did not swear to the policy")


def _check_role(statement: _Statement, policy: Policy) -> None:
    predicate, signer = statement.predicate, statement.signer
    maker = predicate.site if isinstance(predicate, SitePredicate) else policy.coordinator.name
    if signer.name != maker or (isinstance(predicate, SitePredicate) and policy.site(maker) is None):
        raise NotAcceptable(f"a {predicate.kind} statement of {maker} is signed by {signer.name}")
    if isinstance(predicate, Found) and predicate.finding.site != predicate.site:
        raise NotAcceptable(f"{predicate.site} states a finding of {predicate.finding.site}")


def _witnessed(
    note: bytes, head: Checkpoint, policy: Policy, parties: Mapping[str, Party], at: int
) -> CheckpointSeen:
    operator = head.origin.rsplit("/", 1)[-1]
    cosigned = [seen for seen in witnesses(note, parties) if policy.site(seen.name) and seen.name != operator]
    names = {seen.name for seen in cosigned}
    needed = policy.witnesses_needed(operator)
    if len(names) < needed:
        raise NotAcceptable(
            f"checkpoint {head.size} of the log of {operator} has {len(names)} of {needed} witnesses needed"
        )
    if any(seen.time > at + CLOCK_SKEW_SECONDS for seen in cosigned):
        raise NotAcceptable(
            f"checkpoint {head.size} of the log of {operator} was cosigned after the time of verification",
            hint="check this machine's clock, or give the time with --at",
        )
    times = tuple(sorted(seen.time for seen in cosigned))
    return CheckpointSeen(size=head.size, digest=head.identity, times=times)


def _check_complete(
    study: Sequence[_Statement],
    history: Mapping[str, Sequence[_Statement]],
    seen: Mapping[str, tuple[CheckpointSeen, ...]],
    policy: Policy,
) -> None:
    for site, own in history.items():
        logged = {s.identity for s in own}
        shown = {s.identity for s in study if s.signer.name == site}
        if logged - shown:
            raise NotAcceptable(
                f"the study's log withholds {len(logged - shown)} statements that {site} logged"
            )
        if shown - logged:
            raise NotAcceptable(f"{len(shown - logged)} statements of {site} are not in its own log")
    heads = {site.name: seen[site.name][-1].digest for site in policy.sites}
    if _last(study).heads != heads:
        raise NotAcceptable("the decision does not rest on the heads of the sites' logs in this bundle")


def _check_order(study: Sequence[_Statement], start: CheckpointSeen, made: CheckpointSeen) -> None:
    for index, statement in enumerate(study):
        predicate = statement.predicate
        before_start = isinstance(predicate, (Oath, Admission))
        before_model = before_start or isinstance(
            predicate, (Charged, TrainedWithTrustedAggregator, ModelMade)
        )
        if before_start != (index < start.size):
            raise NotAcceptable(f"a {predicate.kind} statement is on the wrong side of the start of training")
        if before_model != (index < made.size):
            raise NotAcceptable(
                f"a {predicate.kind} statement is on the wrong side of the start of the audit"
            )
        if (
            isinstance(predicate, (Charged, TrainedWithTrustedAggregator, ModelMade))
            and predicate.run != start.digest
        ):
            raise NotAcceptable(f"a {predicate.kind} statement cites another start of training")
        if isinstance(predicate, Found) and predicate.run != made.digest:
            raise NotAcceptable("a finding cites another checkpoint of the model")
    if max(start.times) > min(made.times) + CLOCK_SKEW_SECONDS:
        raise NotAcceptable("by its witnesses' clocks the audit began before training")


def _check_fresh(admissions: Sequence[Admission], policy: Policy, start: CheckpointSeen) -> None:
    oldest = max(start.times) - policy.consent.staleness_hours * 3600
    for admission in admissions:
        if not oldest <= admission.as_of <= min(start.times) + CLOCK_SKEW_SECONDS:
            raise NotAcceptable(
                f"{admission.site} read its consents more than {policy.consent.staleness_hours} hours "
                "before training, or after it started"
            )
        if not admission.members or not admission.held_out:
            raise NotAcceptable(f"{admission.site} admitted no members, or none to hold out")
        if admission.members > policy.training.members:
            raise NotAcceptable(f"{admission.site} admitted more members than the policy plans for all sites")


def _check_training(
    training: TrainedWithTrustedAggregator, model: ModelMade, charges: Sequence[Charged], policy: Policy
) -> None:
    if training.steps != policy.training.steps:
        raise NotAcceptable(f"{training.steps} steps were taken; the policy plans {policy.training.steps}")
    if not training.steps <= training.attempts <= policy.training.attempts:
        raise NotAcceptable(
            f"{training.attempts} attempts were made; the policy allows {policy.training.attempts}"
        )
    for charged in charges:
        if not training.steps <= charged.event.attempts <= training.attempts:
            raise NotAcceptable(f"the attempts that {charged.site} charged do not fit those of the training")
    if model.weights != training.last_weights or model.model != digest_of(model.files):
        raise NotAcceptable("the model is not the one that the training made")


def _spent(charges: Sequence[Charged], policy: Policy) -> Decimal | None:
    """Return the largest epsilon that any site's members spent, or None where no bound holds."""
    if policy.budget is None:
        if any(isinstance(charged.event, SampledGaussian) for charged in charges):
            raise NotAcceptable("a site charged a private event in a study without privacy")
        return None
    budget, plan = policy.budget, policy.training
    honest = policy.min_sites - policy.colluding
    least = accounting.share_sigma(
        noise_multiplier=budget.noise_multiplier, ring_norm=plan.ring_norm, honest_shares=honest
    )
    spent = []
    for charged in charges:
        event = charged.event
        if not (
            isinstance(event, SampledGaussian)
            and (event.sampling_rate, event.ring_norm) == (plan.sampling_rate, plan.ring_norm)
            and (event.honest_shares, event.shares) == (honest, len(policy.sites))
            and event.share_sigma >= least
            and event.tail >= accounting.SAMPLER_TAIL
        ):
            raise NotAcceptable(f"{charged.site} charged another mechanism than the policy's")
        try:
            spent.append(accounting.epsilon(event, budget.delta))
        except WrongInput as error:
            raise NotAcceptable(f"the event of {charged.site} has no epsilon: {error.message}") from None
    if max(spent) > budget.epsilon:
        raise NotAcceptable(f"epsilon {max(spent)} was spent; the policy allows {budget.epsilon}")
    return max(spent)


def attempts_of(history: Sequence[Found]) -> list[tuple[Found, int]]:
    """Return one site's findings, each with the number of its attempt: how often that test had been run.

    A finding that repeats an earlier one exactly is a replay, and counts once.
    """
    numbered: list[tuple[Found, int]] = []
    for found in dict.fromkeys(history):
        before = sum(earlier.finding.test == found.finding.test for earlier, _ in numbered)
        numbered.append((found, before + 1))
    return numbered


def _check_findings(
    attempts: Sequence[tuple[Found, int]], model: ModelMade, policy: Policy, admissions: Sequence[Admission]
) -> None:
    committed = {admission.site: admission.nonce_digest for admission in admissions}
    for found, _ in attempts:
        finding = found.finding
        if finding.model != model.model:
            raise NotAcceptable(f"a finding of {finding.site} is about another model")
        seed = audit_seed(
            policy=policy.digest, model=model.model, nonce=found.nonce, test=finding.test, site=finding.site
        )
        if digest(found.nonce.encode()) != committed[finding.site] or finding.seed != seed:
            raise NotAcceptable(f"{finding.site} committed to another seed of {finding.test}")
        if not is_whole(finding):
            raise NotAcceptable(
                f"the finding of {finding.test} at {finding.site} is not all that the test measures"
            )


def _check_counts(attempts: Sequence[tuple[Found, int]], admissions: Sequence[Admission]) -> None:
    """Refuse findings on other patients than were admitted; an excess is on the carriers among them."""
    admitted = {admission.site: (admission.members, admission.held_out) for admission in admissions}
    for found, _ in attempts:
        measures = () if isinstance(found.finding.outcome, DidNotRun) else found.finding.outcome.measures
        for measure in measures:
            members, held_out = admitted[found.site]
            if isinstance(measure, (Auc, TruePositiveRate)):
                fits = (measure.members, measure.held_out) == (members, held_out)
            else:
                fits = isinstance(measure, NotMeasurable) or (
                    measure.members <= members and measure.held_out <= held_out
                )
            if not fits:
                raise NotAcceptable(f"a finding of {found.site} is on other patients than it admitted")


def judgement_of(policy: Policy, attempts: Sequence[tuple[Found, int]]) -> Judgement:
    """Return the verdict on one model, from the numbered findings of all sites."""
    attempted = [Attempted(finding=found.finding, attempt=number) for found, number in attempts]
    return judge(policy.gates, policy.audit, tuple(site.name for site in policy.sites), attempted)


def _of(statements: Sequence[_Statement], kind: type[_P]) -> list[_P]:
    """Return the predicates of one kind, in order, each statement once; none is refused."""
    unique = {s.identity: s.predicate for s in statements if isinstance(s.predicate, kind)}
    if not unique:
        raise NotAcceptable(f"the study's log holds no {kind.kind} statement")
    return list(unique.values())


def _one(statements: Sequence[_Statement], kind: type[_P]) -> _P:
    found = _of(statements, kind)
    if len(found) != 1:
        raise NotAcceptable(
            f"the study's log holds {len(found)} {kind.kind} statements; it must be exactly one"
        )
    return found[0]


def _each_site(statements: Sequence[_Statement], kind: type[_P], policy: Policy) -> tuple[_P, ...]:
    found = _of(statements, kind)
    sites = [getattr(predicate, "site", "") for predicate in found]
    if sorted(sites) != sorted(site.name for site in policy.sites):
        raise NotAcceptable(f"there must be one {kind.kind} statement of each site")
    return tuple(found)


def _last(study: Sequence[_Statement]) -> Decided:
    predicate = study[-1].predicate
    if not isinstance(predicate, Decided):
        raise NotAcceptable("the study's log does not end in a decision")
    return predicate


def _cited(log: Sequence[CheckpointSeen], run: str, what: str) -> CheckpointSeen:
    for seen in log:
        if seen.digest == run:
            return seen
    raise NotAcceptable(f"{what} cites a checkpoint that the bundle does not hold")
