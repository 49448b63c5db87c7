"""The training itself, without messages: weights, the optimiser, and which attempt of which step is open.

`spec/training.md`, "The coordinator". What is computed from a noised sum costs no more privacy.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.core.record import Count, Digest, Name, Record
from oathbound.hazmat.ring import decode
from oathbound.train.adam import Adam
from oathbound.train.ftrl import Solved
from oathbound.train.local_steps import mean_change
from oathbound.train.messages import Label, Step, frame, unframe, weight_bytes
from oathbound.train.plan import Plan, attempts_used_up

_SNAPSHOT: Final = b"oathbound/snapshot/v2\n"
_WORD: Final = 4
_SUM_WORD: Final = 8
_VECTORS: Final = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training is: steps taken and attempts begun.

    `loss` is the members' mean during the last step, in nats, where its sum opened it: never in a study with
    a budget, nor where gradients are summed.
    """

    step: int
    attempt: int
    loss: float | None = None


class _Position(Record):
    run: Digest
    plan: Digest
    step: Annotated[int, Field(ge=0)]
    attempt: Count
    summed: dict[Name, Annotated[int, Field(ge=0)]]
    state: Digest


class Descent:
    """One run of a plan: opens attempts, and moves the weights by the sum of each that succeeded."""

    def __init__(self, *, plan: Plan, run: str, weights: NDArray[np.float32]) -> None:
        if weights.dtype != np.float32 or weights.shape != (plan.dimension,):
            raise WrongInput(f"the plan is for {plan.dimension} float32 weights")
        self._plan = plan
        self._run = run
        self._adam = Adam.at(weights)
        self._solved = Solved.at_first(plan.coefficients, plan.dimension)
        self._step = 0
        self._attempt = 0
        self._summed = dict.fromkeys(plan.sites, 0)
        self._is_open = False
        self._loss: float | None = None

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights after the last whole step, float32 [d]."""
        return self._adam.weights

    @property
    def progress(self) -> Progress:
        """How far this run is."""
        return Progress(self._step, self._attempt, self._loss)

    @property
    def summed(self) -> dict[str, int]:
        """In how many of the sums that moved the weights each site was."""
        return dict(self._summed)

    @property
    def finished(self) -> bool:
        """Whether every step of the plan is taken."""
        return self._step == self._plan.training.steps

    def upcoming(self) -> int:
        """Return the number that `begin` would give the next attempt; nothing is opened.

        Raises `BudgetRefused` if the plan has not an attempt left for every step, `ProtocolRefused` if one is
        open or none is needed.
        """
        if self._is_open or self.finished:
            raise ProtocolRefused("no attempt can begin while one is open, or after the last step")
        training = self._plan.training
        if training.attempts - self._attempt < training.steps - self._step:
            raise attempts_used_up(self._plan)
        return self._attempt + 1

    def begin(self) -> Step:
        """Open the next attempt and return what each site computes its share of; raises as `upcoming`."""
        self._attempt = self.upcoming()
        self._is_open = True
        label = Label(
            run=self._run,
            plan=self._plan.policy,
            step=self._step + 1,
            attempt=self._attempt,
            model=digest(weight_bytes(self.weights)),
        )
        return Step(label, self.weights)

    def take(self, total: NDArray[np.uint32], sites: Iterable[str] | None = None) -> Progress:
        """Take the step of the open attempt by the sum of the sites' shares, uint32 [words]; close it.

        `sites` are those whose shares were summed: all, if left out. Raises `ProtocolRefused` if no attempt
        is open, or for a sum that cannot be one of local steps.
        """
        if not self._is_open:
            raise ProtocolRefused("a sum, and no attempt is open")
        self._adam, self._loss = self._moved(decode(total))
        self._is_open = False
        self._step += 1
        for site in self._plan.sites if sites is None else sites:
            self._summed[site] += 1
        return self.progress

    def _moved(self, total: NDArray[np.int64]) -> tuple[Adam, float | None]:
        """Return the state after the next step, by its sum, and the loss, where that is in the sum."""
        step, local = self._step + 1, self._plan.training.local
        rate = self._plan.learning_rate(step)
        if local is None:
            solved, self._solved = self._solved.solve(total)
            gradient = (solved / (self._plan.scale * self._plan.divisor)).astype(np.float32)
            return self._adam.stepped(gradient, step=step, rate=rate), None
        mean = mean_change(total, self._plan)
        change = mean.weights.astype(np.float32)
        if local.takes_the_mean:
            return replace(self._adam, weights=self._adam.weights + change), mean.loss
        return self._adam.stepped(-change, step=step, rate=rate), mean.loss

    def void(self) -> None:
        """Give the open attempt up, if there is one. It stays charged; the next has a new number."""
        self._is_open = False

    def snapshot(self) -> bytes:
        """Return the state after the last whole step, and the number of the last attempt begun."""
        vectors = (self._adam.weights, self._adam.first, self._adam.second)
        sums = (each.astype("<f8").tobytes() for each in self._solved.sums)
        state = b"".join((*map(weight_bytes, vectors), *sums))
        position = _Position(
            run=self._run,
            plan=self._plan.policy,
            step=self._step,
            attempt=self._attempt,
            summed=self._summed,
            state=digest(state),
        )
        return frame(_SNAPSHOT, position.plain(), state)

    @classmethod
    def restore(cls, snapshot: bytes, *, plan: Plan, run: str, charged: int) -> Self:
        """Return the descent that made `snapshot`.

        Its next attempt is above `charged`, the highest at any site, too. `WrongInput` if the snapshot is
        damaged, or of another run or plan.
        """
        try:
            header, state = unframe(_SNAPSHOT, snapshot, _state_bytes(plan))
        except ProtocolRefused:
            raise WrongInput("the training's snapshot is damaged, or of another model") from None
        position = _Position.parse(header, what="the training's snapshot")
        if position.state != digest(state):
            raise WrongInput("the training's snapshot is damaged")
        if (position.run, position.plan) != (run, plan.policy) or position.step > plan.training.steps:
            raise WrongInput("the training's snapshot is of another run or plan")
        vectors = np.frombuffer(state, dtype="<f4", count=_VECTORS * plan.dimension).astype(np.float32)
        weights, first, second = vectors.reshape(_VECTORS, -1)
        sums = np.frombuffer(state, dtype="<f8", offset=vectors.nbytes).astype(np.float64)
        descent = cls(plan=plan, run=run, weights=weights)
        descent._adam = Adam(weights, first, second)
        descent._solved = Solved(plan.coefficients, tuple(sums.reshape(-1, plan.dimension)))
        descent._step = position.step
        descent._attempt = max(position.attempt, charged)
        descent._summed = dict(position.summed)
        return descent


def _state_bytes(plan: Plan) -> int:
    """Return how many bytes a snapshot's state has: three vectors, and the sums that later ones need."""
    return plan.dimension * (_VECTORS * _WORD + (len(plan.coefficients) - 1) * _SUM_WORD)
