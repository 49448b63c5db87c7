"""`train`: federated training under the policy's budget, from a witnessed start to a witnessed model.

Every step can be repeated after a crash. An attempt that was charged stays charged; training goes on with
the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import ConsentRefused, NotAcceptable, Refused, Unavailable, WrongInput
from oathbound.core.study import Policy
from oathbound.data.store import SiteStore
from oathbound.evidence.heads import CLOCK_SKEW_SECONDS
from oathbound.evidence.keys import Party
from oathbound.evidence.log import Log
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Admission, Charged, ModelMade, Oath, TrainedWithSecureSum
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli
from oathbound.models.folder import write_model
from oathbound.models.model import Rows, flat, load_flat
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent
from oathbound.train.engine import Engine
from oathbound.train.engines import local
from oathbound.train.messages import weight_bytes
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.terms import Terms
from oathbound.train.trainer import Trainer
from oathbound.workflow.extensions import load
from oathbound.workflow.families import family_of, read_model
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, write_file
from oathbound.workflow.model_files import model_files
from oathbound.workflow.notary import Consortium, made_note, stands, started, state, stated, witnessed
from oathbound.workflow.records import rows_of, source_of
from oathbound.workflow.rounds import Gathered, gather_site, is_fresh, latest_round
from oathbound.workflow.watch import Watch

MAX_SNAPSHOT_BYTES = 4 * 1024**3
LOCAL = "local"
"""The engine that oathbound has."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves: the model's digest, what was done, and the epsilon it cost (None: unbounded)."""

    model: str
    steps: int
    attempts: int
    epsilon: Decimal | None


@dataclass(frozen=True, slots=True)
class Members:
    """What the model sees of one site's members, at their `places` among the `rows`: a `PatientSampler`."""

    rows: Rows
    places: NDArray[np.int64]

    def sample(self, rate: Decimal) -> Rows:
        """Return the rows of the members whose coin came up; no others are read."""
        return self.rows[self.places[bernoulli(rate, len(self.places))]]


@dataclass(frozen=True, slots=True)
class _Session:
    """What one call of `train` works with; `stores` are in the order of `sites`, `first` is public."""

    consortium: Consortium
    study: StudyFolder
    log: Log
    plan: Plan
    run: str
    first: NDArray[np.float32]
    sites: Sequence[SiteFolder]
    stores: Sequence[SiteStore]

    def each_site(self) -> Iterator[tuple[SiteFolder, SiteStore]]:
        """Yield every site with its store."""
        return zip(self.sites, self.stores, strict=True)

    def segments(self) -> list[TrainedWithSecureSum]:
        """Return what was stated of the rounds that are over, in their order."""
        return stated(self.log, TrainedWithSecureSum, self.consortium.parties)


def train(study: StudyFolder, *, clock: Callable[[], int], watch: Watch) -> Trained:
    """Train the study's model, or go on where an earlier run stopped; a finished training is not run again.

    `clock` tells the time, `watch` is told of steps done, steps planned, and epsilon spent of allowed. Raises
    `Refused` before any record is read when a site has not sworn or admitted, or when a patient's budget
    would break.
    """
    policy = study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    first = flat(family_of(policy).model)
    plan = Plan.of(policy, first.size)
    with study.locked(), study.log() as log, ExitStack() as open_stores:
        consortium = Consortium.of(study)
        if not stated(log, ModelMade, consortium.parties):
            _check_ready(policy, log, consortium.parties)
            stores = [open_stores.enter_context(SiteStore.open(site.state)) for site in consortium.sites]
            if not any(stands(note, consortium) for note in log.checkpoints()):
                _check_fresh(policy, stated(log, Admission, consortium.parties), clock())
                for site, store in zip(consortium.sites, stores, strict=True):
                    _check_affordable(site, store, policy)
            start = started(log, study.secret(), consortium, clock())
            run = decode(start)[0].identity
            session = _Session(consortium, study, log, plan, run, first, consortium.sites, stores)
            _state(session, _run(session, clock, watch))
        if not study.model.is_dir():
            raise WrongInput(f"the model's folder {study.model} is gone", hint="restore it from a copy")
        if made_note(log, consortium) is None:
            witnessed(log, study.secret(), consortium, clock())
        made = stated(log, ModelMade, consortium.parties)[0]
        last = stated(log, TrainedWithSecureSum, consortium.parties)[-1]
    return Trained(made.model, last.last_step, last.attempts, plan.epsilon(last.attempts))


def _run(session: _Session, clock: Callable[[], int], watch: Watch) -> Descent:
    """Take every step that is left, round after round, and return where the last one led."""
    study, plan = session.study, session.plan
    engine = _engine(study)
    rows = {site.file.name: _reserved(session, site, store) for site, store in session.each_site()}
    descent, terms = _descent(session), _terms(session)
    coordinator = Coordinator(descent, terms)
    # A crash ends a round: what it took is stated of it, before another reads the consents again.
    _state_segment(session, _newest_round(session), descent)
    hours = study.policy.consent.staleness_hours
    while (taken := _steps_stated(session)) < plan.training.steps:
        gathered = _gather(session, clock())
        last = min(taken + plan.training.round_steps, plan.training.steps)
        nodes = {
            site.file.name: Node(
                _trainer(session, site, store, rows=rows[site.file.name], gathered=gathered, last_step=last),
                Client(terms, site.file.name, site.secret().statement_keys()[0]),
            )
            for site, store in session.each_site()
        }

        def goes_on(until: int = last, oldest: int = gathered.as_of) -> bool:
            return descent.progress.step < until and clock() - oldest <= hours * 3600

        coordinator.void()  # the nodes are new, and agree on new keys
        engine(
            coordinator,
            nodes,
            goes_on=goes_on,
            save=lambda snapshot: write_file(study.snapshot, snapshot),
            on_progress=lambda progress: watch(
                progress.step,
                plan.training.steps,
                f"{_spent(plan, progress.attempt)} · {coordinator.present} of {len(plan.sites)} sites",
            ),
        )
        if goes_on():
            raise Unavailable(f"the engine {study.study.run.engine} ended before the round did")
        _state_segment(session, gathered.number, descent)
    return descent


def _engine(study: StudyFolder) -> Engine:
    """Return what carries the messages: one process for all sites, or what an extension brings."""
    name = study.study.run.engine
    if name == LOCAL:
        return local.run
    engine: Engine = load(study.policy, "engines", name)
    return engine


def _gather(session: _Session, now: int) -> Gathered:
    """Open the next round, or go on with one of which nobody withdrew since, and have it witnessed.

    The consents of the latter must also be fresh.
    """
    policy, segments = session.study.policy, session.segments()
    over = segments[-1].round if segments else 0
    newest = _newest_round(session)
    number = newest + 1
    if newest > over and all(
        is_fresh(stated_round.as_of, policy, now) and not store.withdrew_since(stated_round.as_of)
        for site, store in session.each_site()
        if (stated_round := latest_round(site, policy)) is not None and stated_round.round == newest
    ):
        number = newest
    cohorts = {
        site.file.name: gather_site(
            site, store, policy, run=session.run, number=number, now=now, log=session.log
        )
        for site, store in session.each_site()
    }
    witnessed(session.log, session.study.secret(), session.consortium, now)
    return Gathered(
        number=number,
        as_of=min(stated_round.as_of for stated_round, _ in cohorts.values()),
        members={name: members for name, (_, members) in cohorts.items()},
    )


def _newest_round(session: _Session) -> int:
    """Return the number of the last round that any site stated its cohort of, 0 before the first."""
    latest = (latest_round(site, session.study.policy) for site in session.sites)
    return max((each.round for each in latest if each is not None), default=0)


def _steps_stated(session: _Session) -> int:
    segments = session.segments()
    return segments[-1].last_step if segments else 0


def _state_segment(session: _Session, number: int, descent: Descent) -> None:
    """State the steps that a round took; a round that went stale before its first step took none."""
    segments, progress = session.segments(), descent.progress
    first_step = 1 + (segments[-1].last_step if segments else 0)
    if progress.step < first_step:
        return
    segment = TrainedWithSecureSum(
        policy_digest=session.study.policy.digest,
        run=session.run,
        round=number,
        first_step=first_step,
        last_step=progress.step,
        attempts=progress.attempt,
        first_weights=segments[-1].last_weights if segments else digest(weight_bytes(session.first)),
        last_weights=digest(weight_bytes(descent.weights)),
    )
    state(segment, session.study.secret(), session.log)


def _state(session: _Session, descent: Descent) -> None:
    """State what every site charged, and the model; write the model's folder."""
    study, policy, run = session.study, session.study.policy, session.run
    for site, store in session.each_site():
        event = session.plan.event(store.close_charges(policy.study).count)
        charged = Charged(policy_digest=policy.digest, site=site.file.name, run=run, event=event)
        with site.log(policy) as own:
            state(charged, site.secret(), own, session.log)
    state(_model_made(session, descent.weights), study.secret(), session.log)


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


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the model sees of a site's members, and whose each row is."""

    subjects: NDArray[np.int64]
    rows: Rows

    def of(self, subjects: frozenset[int]) -> Members:
        """Return some of them."""
        return Members(self.rows, np.flatnonzero(np.isin(self.subjects, sorted(subjects))))


def _reserved(session: _Session, site: SiteFolder, store: SiteStore) -> _Rows:
    """Reserve the budget of a site's members, then read their records."""
    policy = session.study.policy
    cohort = store.cohort(policy.study)
    if cohort.policy_digest != policy.digest:
        raise Refused(f"{site.file.name} admitted its patients for another policy")
    if policy.budget is None:
        store.reserve_unbounded(policy.study)
    else:
        limit = site.file.budget
        store.reserve(policy.study, policy.budget.epsilon, policy.budget.delta, limit.epsilon, limit.delta)
    rows = rows_of(source_of(site, policy), cohort, cohort.members, family_of(policy).encoder, site.path)
    return _Rows(np.array(sorted(cohort.members), dtype=np.int64), rows)


def _terms(session: _Session) -> Terms:
    """Return the terms of the run's secure sums: sites sign in them with the keys of their statements."""
    policy, parties = session.study.policy, session.consortium.parties
    keys = {site.name: parties[site.name].statement_keys()[0] for site in policy.sites}
    return Terms.of(policy, run=session.run, keys=keys, dimension=session.plan.dimension)


def _trainer(
    session: _Session, site: SiteFolder, store: SiteStore, *, rows: _Rows, gathered: Gathered, last_step: int
) -> Trainer:
    """Return the site's trainer for one round: the rows of whom it may use, its ledger and its noise."""
    plan, policy = session.plan, session.study.policy
    name = site.file.name
    return Trainer(
        site=name,
        run=session.run,
        plan=plan,
        last_step=last_step,
        model=family_of(policy).model,
        sampler=rows.of(gathered.members[name]),
        ledger=store.ledger(policy.study, policy.training.attempts),
        noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
    )


def _descent(session: _Session) -> Descent:
    """Return a new descent, or the one that stopped; its next attempt is above every charged one.

    Raises `Refused` where a site's state, or the snapshot, is older than what was done since.
    """
    study, plan, run = session.study, session.plan, session.run
    charged = max(store.charged(study.policy.study).highest for store in session.stores)
    if study.snapshot.exists():
        snapshot = read_file(study.snapshot, most=MAX_SNAPSHOT_BYTES)
    else:
        snapshot = Descent(plan=plan, run=run, weights=session.first).snapshot()
    descent = Descent.restore(snapshot, plan=plan, run=run, charged=charged)
    steps, policy = descent.progress.step, study.policy
    missing = 0  # how often a site was in no sum of a step: each sum holds min_sites at least
    for site, store in session.each_site():
        missing += max(0, steps - store.charged(policy.study).count)
        if missing > steps * (len(policy.sites) - policy.min_sites):
            raise Refused(
                f"{site.file.name} has charged fewer attempts than steps: its state is an old copy",
                hint="restore the newest state.sqlite there: what was charged must not be forgotten",
            )
    if steps < _steps_stated(session):
        raise Refused(
            "the training's snapshot is older than what the study's log says was trained",
            hint=f"restore the newest {study.snapshot}",
        )
    return descent


def _model_made(session: _Session, weights: NDArray[np.float32]) -> ModelMade:
    """Write the model's folder, unless it is there, and return the statement about it."""
    study, plan, run = session.study, session.plan, session.run
    policy = study.policy
    family = family_of(policy)
    load_flat(family.model, weights)
    if not study.model.exists():
        bounded = "patient" if plan.privacy else "unbounded"
        lineage = {"study": policy.study, "policy": policy.digest, "run": run, "privacy": bounded}
        write_model(study.model, family.model, family.encoder.seen, lineage=lineage)
    loaded = read_model(study.model, policy)
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
