"""`train`: federated training under the policy's budget, from a witnessed start to a witnessed model.

Every step can be repeated after a crash. An attempt that was charged stays charged; training goes on with
the next.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from oathbound.workflow.notary import MADE, START, Consortium, milestone, stands, state, stated
from oathbound.workflow.records import tokens_of
from oathbound.workflow.watch import Watch

MAX_SNAPSHOT_BYTES = 4 * 1024**3


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


@dataclass(frozen=True, slots=True)
class _Session:
    """What one call of `train` works with; `stores` are in the order of `sites`, `first` is public."""

    study: StudyFolder
    plan: Plan
    run: str
    first: NDArray[np.float32]
    sites: Sequence[SiteFolder]
    stores: Sequence[SiteStore]

    def each_site(self) -> Iterator[tuple[SiteFolder, SiteStore]]:
        """Yield every site with its store."""
        return zip(self.sites, self.stores, strict=True)


def train(study: StudyFolder, *, now: int, watch: Watch) -> Trained:
    """Train the study's model, or go on where an earlier run stopped; a finished training is not run again.

    `watch` is told of steps done, steps planned, and epsilon spent of allowed. Raises `Refused` before any
    record is read when a site has not sworn or admitted, or when a patient's budget would break.
    """
    policy = study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    first = flat(build(policy.model, Tokenizer(policy.vocabulary).size))
    plan = Plan.of(policy, first.size)
    with study.locked(), study.log() as log, ExitStack() as open_stores:
        consortium = Consortium.of(study)
        if not stated(log, ModelMade, consortium.parties):
            _check_ready(policy, log, consortium.parties)
            stores = [open_stores.enter_context(SiteStore.open(site.state)) for site in consortium.sites]
            if not any(stands(note, consortium) for note in log.checkpoints()):
                _check_fresh(policy, stated(log, Admission, consortium.parties), now)
                for site, store in zip(consortium.sites, stores, strict=True):
                    _check_affordable(site, store, policy)
            start = milestone(START, log, study.secret(), consortium, now)
            session = _Session(study, plan, decode(start)[0].identity, first, consortium.sites, stores)
            _state(session, log, _run(session, watch))
        if not study.model.is_dir():
            raise WrongInput(f"the model's folder {study.model} is gone", hint="restore it from a copy")
        milestone(MADE, log, study.secret(), consortium, now)
        made = stated(log, ModelMade, consortium.parties)[0]
        trained = stated(log, TrainedWithTrustedAggregator, consortium.parties)[0]
    return Trained(made.model, trained.steps, trained.attempts, plan.epsilon(trained.attempts))


def _run(session: _Session, watch: Watch) -> Coordinator:
    """Take every step that is left, and return the coordinator that took the last."""
    study, plan, name = session.study, session.plan, session.study.policy.study
    nodes = {site.file.name: _node(session, site, store) for site, store in session.each_site()}
    charged = max(store.charged(name).highest for store in session.stores)
    coordinator = _coordinator(session, charged)
    for site, store in session.each_site():
        if store.charged(name).count < coordinator.progress.step:
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
    return coordinator


def _state(session: _Session, log: Log, coordinator: Coordinator) -> None:
    """State what every site charged, what was trained, and the model; write the model's folder."""
    study, policy, run = session.study, session.study.policy, session.run
    most = 0
    for site, store in session.each_site():
        charges = store.close_charges(policy.study)
        most = max(most, charges.highest)
        event = session.plan.event(charges.count)
        charged = Charged(policy_digest=policy.digest, site=site.file.name, run=run, event=event)
        with site.log(policy) as own:
            state(charged, site.secret(), own, log)
    trained = TrainedWithTrustedAggregator(
        policy_digest=policy.digest,
        run=run,
        steps=coordinator.progress.step,
        attempts=most,
        first_weights=digest(weight_bytes(session.first)),
        last_weights=digest(weight_bytes(coordinator.weights)),
    )
    state(trained, study.secret(), log)
    state(_model_made(session, coordinator.weights), study.secret(), log)


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


def _node(session: _Session, site: SiteFolder, store: SiteStore) -> Node:
    """Return the site's node: its members' tokens, its ledger and its noise, after the budget is reserved."""
    plan, policy = session.plan, session.study.policy
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
        run=session.run,
        plan=plan,
        model=build(policy.model, tokenizer.size),
        sampler=_Members(tokens),
        ledger=store.ledger(policy.study, policy.training.attempts),
        noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
    )


def _coordinator(session: _Session, charged: int) -> Coordinator:
    """Return a new coordinator, or the one that stopped; its next attempt is above every charged one."""
    study, plan, run = session.study, session.plan, session.run
    if study.snapshot.exists():
        snapshot = read_file(study.snapshot, most=MAX_SNAPSHOT_BYTES)
    else:
        snapshot = Coordinator(plan=plan, run=run, weights=session.first).snapshot()
    return Coordinator.restore(snapshot, plan=plan, run=run, charged=charged)


def _model_made(session: _Session, weights: NDArray[np.float32]) -> ModelMade:
    """Write the model's folder, unless it is there, and return the statement about it."""
    study, plan, run = session.study, session.plan, session.run
    policy = study.policy
    tokenizer = Tokenizer(policy.vocabulary)
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
