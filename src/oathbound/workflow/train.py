"""`train`: federated training under the policy's budget, from a witnessed start to a witnessed model.

Every step can be repeated after a crash. An attempt that was charged stays charged; training goes on with
the next.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import ConsentRefused, NotAcceptable, Refused, WrongInput
from oathbound.core.study import Policy
from oathbound.data.store import SiteStore
from oathbound.evidence.keys import Party
from oathbound.evidence.log import Log
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Admission, Charged, ModelMade, Oath, TrainedWithTrustedAggregator
from oathbound.evidence.steps import CLOCK_SKEW_SECONDS
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli
from oathbound.models.folder import read_model, write_model
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build, flat, load_flat
from oathbound.train.coordinator import Coordinator
from oathbound.train.engines import local
from oathbound.train.messages import weight_bytes
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, write_file
from oathbound.workflow.model_files import model_files
from oathbound.workflow.notary import MADE, START, Consortium, milestone, state, stated
from oathbound.workflow.records import tokens_of
from oathbound.workflow.watch import Watch


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves: the model's digest, what was done, and the epsilon it cost (None: unbounded)."""

    model: str
    steps: int
    attempts: int
    epsilon: Decimal | None


@dataclass(frozen=True, slots=True)
class _Members:
    """The members' tokens of one site, int64 (members, length): a `PatientSampler`."""

    tokens: NDArray[np.int64]

    def sample(self, rate: Decimal) -> NDArray[np.int64]:
        """Return the rows of the members whose coin came up."""
        return self.tokens[bernoulli(rate, len(self.tokens))]


def train(study: StudyFolder, *, now: int, watch: Watch) -> Trained:
    """Train the study's model, or go on where an earlier run stopped.

    `watch` is told of steps done, steps planned, and epsilon spent of allowed. Raises `Refused` before any
    record is read when a site has not sworn or admitted, or when a patient's budget would break.
    """
    policy = study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    with study.locked(), ExitStack() as open_files:
        log = open_files.enter_context(study.log())
        consortium = Consortium.of(study)
        sites = consortium.sites
        secret = study.secret()
        if earlier := stated(log, ModelMade, consortium.parties):
            milestone(MADE, log, secret, consortium, now)
            if not study.model.is_dir():
                raise WrongInput(f"the model's folder {study.model} is gone", hint="restore it from a copy")
            return _already(
                stated(log, TrainedWithTrustedAggregator, consortium.parties)[0], earlier[0], policy
            )
        _check_ready(policy, log, consortium.parties)
        stores = [open_files.enter_context(SiteStore.open(site.state)) for site in sites]
        if not log.checkpoints():
            _check_fresh(policy, stated(log, Admission, consortium.parties), now)
            for site, store in zip(sites, stores, strict=True):
                _check_affordable(site, store, policy)
        start = milestone(START, log, secret, consortium, now)
        run = decode(start)[0].identity

        tokenizer = Tokenizer(policy.vocabulary)
        model = build(policy.model, tokenizer.size)
        first = flat(model)
        plan = Plan.of(policy, first.size)
        nodes = {
            site.file.name: _node(site, store, policy, plan, run)
            for site, store in zip(sites, stores, strict=True)
        }
        charged = max(store.charged(policy.study).highest for store in stores)
        coordinator = _coordinator(study, plan, run, first, charged)
        for site, store in zip(sites, stores, strict=True):
            if store.charged(policy.study).count < coordinator.progress.step:
                raise Refused(
                    f"{site.file.name} has charged fewer attempts than steps: its state is an old copy",
                    hint="restore the newest state.sqlite there: what was charged must not be forgotten",
                )
        local.run(
            coordinator,
            nodes,
            save=lambda snapshot: write_file(study.snapshot, snapshot),
            on_progress=lambda progress: watch(
                progress.step, plan.training.steps, _spent(plan, progress.attempt)
            ),
        )

        weights = coordinator.weights
        attempts = max(store.close_charges(policy.study).highest for store in stores)
        for site, store in zip(sites, stores, strict=True):
            event = plan.event(store.charged(policy.study).count)
            statement = Charged(policy_digest=policy.digest, site=site.file.name, run=run, event=event)
            with site.log(policy) as own:
                state(statement, site.secret(), own, log)
        trained = TrainedWithTrustedAggregator(
            policy_digest=policy.digest,
            run=run,
            steps=coordinator.progress.step,
            attempts=attempts,
            first_weights=digest(weight_bytes(first)),
            last_weights=digest(weight_bytes(weights)),
        )
        made = _model_made(study, plan, run, weights, tokenizer)
        state(trained, secret, log)
        state(made, secret, log)
        milestone(MADE, log, secret, consortium, now)
        return Trained(made.model, trained.steps, attempts, plan.epsilon(attempts))


def _already(trained: TrainedWithTrustedAggregator, made: ModelMade, policy: Policy) -> Trained:
    """Return what an earlier run left; a finished training is not run again."""
    plan = Plan.of(policy, flat(build(policy.model, Tokenizer(policy.vocabulary).size)).size)
    return Trained(made.model, trained.steps, trained.attempts, plan.epsilon(trained.attempts))


def _check_ready(policy: Policy, log: Log, parties: Mapping[str, Party]) -> None:
    """Refuse to use a record before every site has sworn and admitted."""
    admissions = stated(log, Admission, parties)
    sworn = {oath.site for oath in stated(log, Oath, parties)}
    for verb, done in (("oath", sworn), ("admit", {admission.site for admission in admissions})):
        missing = [site.name for site in policy.sites if site.name not in done]
        if missing:
            hint = f"at each of them: oathbound {verb} --site {missing[0]} STUDY"
            raise Refused(
                f"no training before every site did `{verb}`: {', '.join(missing)} did not", hint=hint
            )


def _check_fresh(policy: Policy, admissions: Sequence[Admission], now: int) -> None:
    """Refuse, before training starts, consents that `verify` would find stale, or of the future."""
    hours = policy.consent.staleness_hours
    stale = [admission.site for admission in admissions if now - admission.as_of > hours * 3600]
    if stale:
        raise ConsentRefused(
            f"the consents of {', '.join(stale)} were read more than {hours} hours ago",
            hint="a cohort is drawn once: start a new study, whose admission reads them again",
        )
    early = [admission.site for admission in admissions if admission.as_of > now + CLOCK_SKEW_SECONDS]
    if early:
        raise ConsentRefused(
            f"by this machine's clock {', '.join(early)} has admitted in the future",
            hint="set the clocks right; the admission's time stands in its statement",
        )


def _check_affordable(site: SiteFolder, store: SiteStore, policy: Policy) -> None:
    """Refuse, before anything is reserved anywhere, a study that one site's limit does not allow."""
    if policy.budget is not None:
        budget, limit = policy.budget, site.file.budget
        store.check_affordable(policy.study, budget.epsilon, budget.delta, limit.epsilon, limit.delta)


def _node(site: SiteFolder, store: SiteStore, policy: Policy, plan: Plan, run: str) -> Node:
    """Return the site's node: its members' tokens, its ledger and its noise, after the budget is reserved."""
    cohort = store.cohort(policy.study)
    if cohort.policy_digest != policy.digest:
        raise Refused(f"{site.file.name} admitted its patients for another policy")
    if policy.budget is None:
        store.reserve_unbounded(policy.study)
    else:
        limit = site.file.budget
        store.reserve(policy.study, policy.budget.epsilon, policy.budget.delta, limit.epsilon, limit.delta)
    tokenizer = Tokenizer(policy.vocabulary)
    tokens = tokens_of(site, cohort, cohort.members, tokenizer, policy.model.length)
    return Node(
        site=site.file.name,
        run=run,
        plan=plan,
        model=build(policy.model, tokenizer.size),
        sampler=_Members(tokens),
        ledger=store.ledger(policy.study, policy.training.attempts),
        noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
    )


def _coordinator(
    study: StudyFolder, plan: Plan, run: str, first: NDArray[np.float32], charged: int
) -> Coordinator:
    """Return a new coordinator, or the one that stopped; its next attempt is above every charged one."""
    if study.snapshot.exists():
        return Coordinator.restore(read_file(study.snapshot), plan=plan, run=run, charged=charged)
    snapshot = Coordinator(plan=plan, run=run, weights=first).snapshot()
    return Coordinator.restore(snapshot, plan=plan, run=run, charged=charged)


def _model_made(
    study: StudyFolder, plan: Plan, run: str, weights: NDArray[np.float32], tokenizer: Tokenizer
) -> ModelMade:
    """Write the model's folder, unless it is there, and return the statement about it."""
    policy = study.policy
    model = build(policy.model, tokenizer.size)
    load_flat(model, weights)
    if not study.model.exists():
        bounded = "patient" if plan.privacy else "unbounded"
        lineage = {"study": policy.study, "policy": policy.digest, "run": run, "privacy": bounded}
        write_model(study.model, model, tokenizer, lineage=lineage)
    loaded = read_model(study.model)
    if digest(weight_bytes(flat(loaded.model))) != digest(weight_bytes(weights)):
        raise NotAcceptable(
            f"{study.model} holds another model than this training made", hint="move it away, and train again"
        )
    return ModelMade(
        policy_digest=policy.digest,
        run=run,
        weights=digest(weight_bytes(weights)),
        files=model_files(study.model),
        model=loaded.digest,
    )


def _spent(plan: Plan, attempts: int) -> str:
    if plan.privacy is None:
        return "no bound holds"
    return f"epsilon {plan.epsilon(attempts):.2f} of {plan.privacy.budget.epsilon}"
