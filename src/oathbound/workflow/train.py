"""`train`: federated training under the policy's budget, from a witnessed start to a witnessed model.

This is the coordinator's part: the study's folder, its log and the weights. It holds no site's key and opens
no site's folder; each site is asked (`asking`), and decides for itself (`site`). Every step can be repeated
after a crash. An attempt that was charged stays charged; training goes on with the next.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import (
    ConsentRefused,
    NotAcceptable,
    NotAuthentic,
    Refused,
    Unavailable,
    WrongInput,
)
from oathbound.core.study import Policy
from oathbound.evidence.heads import CLOCK_SKEW_SECONDS
from oathbound.evidence.keys import Party
from oathbound.evidence.log import Log
from oathbound.evidence.note import decode
from oathbound.evidence.predicates import Admission, ModelMade, Oath, Round, TrainedWithSecureSum
from oathbound.models.folder import write_model
from oathbound.models.model import flat, load_flat
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent
from oathbound.train.messages import weight_bytes
from oathbound.train.plan import Plan
from oathbound.train.secure_sum.terms import Terms
from oathbound.workflow.asking import Asked, Begin, Position, Seat
from oathbound.workflow.families import family_of, read_model
from oathbound.workflow.folders import StudyFolder, read_file, write_file
from oathbound.workflow.model_files import model_files
from oathbound.workflow.notary import (
    Consortium,
    check_unchanged,
    deliver,
    made_note,
    stands,
    started,
    state,
    stated,
    witnessed,
)
from oathbound.workflow.reaching import Reached, reached
from oathbound.workflow.rounds import is_fresh
from oathbound.workflow.watch import Watch

MAX_SNAPSHOT_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` leaves: the model's digest, what was done, and the epsilon it cost (None: unbounded)."""

    model: str
    steps: int
    attempts: int
    epsilon: Decimal | None


@dataclass(slots=True)
class _Clock:
    """The coordinator's clock. Sites in its process take the time of its last look: one machine, one time."""

    look: Callable[[], int]
    last: int

    def __call__(self) -> int:
        """Return the time."""
        self.last = self.look()
        return self.last


@dataclass(frozen=True, slots=True)
class _Gathered:
    """One round: every site has stated its cohort of it, by consents of `as_of` or later."""

    number: int
    as_of: int


@dataclass(frozen=True, slots=True)
class _Session:
    """What one call of `train` works with; `start` is the checkpoint it starts from, `first` is public."""

    consortium: Consortium
    study: StudyFolder
    log: Log
    plan: Plan
    start: bytes
    first: NDArray[np.float32]
    sites: Sequence[Asked]
    by: Reached

    @property
    def run(self) -> str:
        """The run's digest."""
        return decode(self.start)[0].identity

    def segments(self) -> list[TrainedWithSecureSum]:
        """Return what was stated of the rounds that are over, in their order."""
        return stated(self.log, TrainedWithSecureSum, self.consortium.parties)

    def positions(self) -> dict[str, Position]:
        """Return how far each site is, and take in what it stated and a crash kept from the study's log."""
        positions = {}
        for site in self.sites:
            positions[site.name], leaves = site.where()
            deliver(leaves, self.log)
        return positions


def train(
    study: StudyFolder,
    *,
    clock: Callable[[], int],
    watch: Watch,
    by: Callable[[StudyFolder, Callable[[], int]], AbstractContextManager[Reached]] = reached,
) -> Trained:
    """Train the study's model, or go on where an earlier run stopped; a finished training is not run again.

    `clock` tells the time, `watch` is told of steps done, steps planned, and epsilon spent of allowed; `by`
    opens the ways to the sites. Raises `Refused` before any record is read when a site has not sworn or
    admitted, or when a patient's budget would break.
    """
    policy = study.policy
    if study.study.run.threads:
        torch.set_num_threads(study.study.run.threads)
    first = flat(family_of(policy).model)
    plan = Plan.of(policy, first.size)
    clock = now = _Clock(clock, 0)
    with study.locked(), study.log() as log, by(study, lambda: now.last or now()) as sites_by:
        parties = study.parties()
        sites = [
            Asked(site.name, parties[site.name], sites_by.peers[site.name], policy) for site in policy.sites
        ]
        consortium = Consortium(policy, parties, sites)
        check_unchanged(log, consortium)
        if not stated(log, ModelMade, parties):
            for site in sites:
                deliver(site.where()[1], log)
            _check_ready(policy, log, parties)
            if not any(stands(note, consortium) for note in log.checkpoints()):
                _check_fresh(policy, stated(log, Admission, parties), clock())
                for site in sites:
                    site.review(list(log.leaves()))
                    site.afford()
            start = started(log, study.secret(), consortium, clock())
            session = _Session(consortium, study, log, plan, start, first, sites, sites_by)
            _state(session, _run(session, clock, watch))
        if not study.model.is_dir():
            raise WrongInput(f"the model's folder {study.model} is gone", hint="restore it from a copy")
        if made_note(log, consortium) is None:
            witnessed(log, study.secret(), consortium, clock())
        made = stated(log, ModelMade, parties)[0]
        last = stated(log, TrainedWithSecureSum, parties)[-1]
    return Trained(made.model, last.last_step, last.attempts, plan.epsilon(last.attempts))


def _run(session: _Session, clock: Callable[[], int], watch: Watch) -> Descent:
    """Take every step that is left, round after round, and return where the last one led."""
    study, plan = session.study, session.plan
    positions = session.positions()
    descent = _descent(session, positions)
    coordinator = Coordinator(descent, _terms(session))
    # A crash ends a round: what it took is stated of it, before another reads the consents again.
    _state_segment(session, max(each.round for each in positions.values()), descent)
    while (taken := _steps_stated(session)) < plan.training.steps:
        gathered = _gather(session, clock)
        last = min(taken + plan.training.round_steps, plan.training.steps)

        def goes_on(until: int = last, oldest: int = gathered.as_of) -> bool:
            return descent.progress.step < until and is_fresh(oldest, study.policy, clock())

        coordinator.void()  # the nodes are new, and agree on new keys
        session.by.engine(
            coordinator,
            _seats(session, gathered.number, last),
            goes_on=goes_on,
            save=lambda snapshot: write_file(study.snapshot, snapshot),
            on_progress=lambda progress: watch(
                progress.step,
                plan.training.steps,
                f"{_spent(plan, progress.attempt)} · {coordinator.present} of {len(plan.sites)} sites"
                + ("" if progress.loss is None else f" · loss {progress.loss:.3f}"),
            ),
        )
        if goes_on():
            raise Unavailable(f"the engine {study.study.run.engine} ended before the round did")
        _state_segment(session, gathered.number, descent)
    return descent


def _seats(session: _Session, number: int, last_step: int) -> dict[str, Seat]:
    """Return every site's place in a round, which begins at the site with its first message."""
    log, policy = session.log, session.study.policy
    question = Begin(policy=policy.digest, round=number, last_step=last_step)
    begin = question.encode(session.start, log.checkpoints()[-1], *log.leaves())
    return {site.name: Seat(site.peer, begin) for site in session.sites}


def _gather(session: _Session, clock: Callable[[], int]) -> _Gathered:
    """Open the next round, or go on with one of which nobody withdrew since, and have it witnessed.

    The consents of the latter must also be fresh.
    """
    segments, positions = session.segments(), session.positions()
    over = segments[-1].round if segments else 0
    number = newest = max(each.round for each in positions.values())
    if newest <= over or not all(each.resumable for each in positions.values() if each.round == newest):
        number = newest + 1
    clock()  # sites in this process read their consents now
    for site in session.sites:
        deliver(site.gather(session.start, number), session.log)
    parties = session.consortium.parties
    rounds = [each for each in stated(session.log, Round, parties) if each.round == number]
    if {each.site for each in rounds} != {site.name for site in session.sites}:
        raise NotAuthentic(f"not every site has stated its cohort of round {number}")
    for each in rounds:
        check_read(each, session.study.policy, clock())
    # looked at again: sites may have read for minutes
    witnessed(session.log, session.study.secret(), session.consortium, clock())
    return _Gathered(number, min(each.as_of for each in rounds))


def check_read(stated_round: Round, policy: Policy, now: int) -> None:
    """Refuse a round whose consents a site says to have read at a time that nobody could train by."""
    site = stated_round.site
    if stated_round.as_of > now + CLOCK_SKEW_SECONDS:
        raise Unavailable(
            f"by this machine's clock {site} read its consents in the future",
            hint="set the clock right, here or there",
        )
    if not is_fresh(stated_round.as_of, policy, now):
        hours = policy.consent.staleness_hours
        raise ConsentRefused(
            f"{site} says that it read the consents of this round more than {hours} hours ago",
            hint="set its clock right, and train again: a new round begins",
        )


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
        summed=descent.summed,
        first_weights=segments[-1].last_weights if segments else digest(weight_bytes(session.first)),
        last_weights=digest(weight_bytes(descent.weights)),
    )
    state(segment, session.study.secret(), session.log)


def _state(session: _Session, descent: Descent) -> None:
    """Have every site state what it charged, and state the model; write the model's folder."""
    for site in session.sites:
        deliver(site.close(session.start), session.log)
    state(_model_made(session, descent.weights), session.study.secret(), session.log)


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
    stale = [admission.site for admission in admissions if not is_fresh(admission.as_of, policy, now)]
    if stale:
        hours = policy.consent.staleness_hours
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


def _terms(session: _Session) -> Terms:
    """Return the terms of the run's secure sums: sites sign in them with the keys of their statements."""
    policy, parties = session.study.policy, session.consortium.parties
    keys = {site.name: parties[site.name].statement_keys()[0] for site in policy.sites}
    return Terms.of(policy, run=session.run, keys=keys, dimension=session.plan.words)


def _descent(session: _Session, positions: Mapping[str, Position]) -> Descent:
    """Return a new descent, or the one that stopped; its next attempt is above every charged one.

    Raises `Refused` where a site's state, or the snapshot, is older than what was done since.
    """
    study, plan, run = session.study, session.plan, session.run
    charged = max(each.highest for each in positions.values())
    if study.snapshot.exists():
        snapshot = read_file(study.snapshot, most=MAX_SNAPSHOT_BYTES)
    else:
        snapshot = Descent(plan=plan, run=run, weights=session.first).snapshot()
    descent = Descent.restore(snapshot, plan=plan, run=run, charged=charged)
    for name, position in positions.items():
        if position.charged < descent.summed[name]:
            raise Refused(
                f"{name} has charged fewer attempts than it took part in: its state is an old copy",
                hint="restore the newest state.sqlite there: what was charged must not be forgotten",
            )
    if descent.progress.step < _steps_stated(session):
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
