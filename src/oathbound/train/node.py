"""A site's part in training, without input or output: bytes in, bytes out.

`spec/training.md` numbers the steps.
"""

from decimal import Decimal
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import BudgetRefused, ProtocolRefused, WrongInput
from oathbound.core.ports import Ledger, PatientSampler
from oathbound.hazmat.ring import encode
from oathbound.models.model import Model, Rows, load_flat
from oathbound.train.clip import clipped_sum, unclipped_sum
from oathbound.train.messages import Label, Share, ShareLabel, Step
from oathbound.train.plan import Plan


class Noise(Protocol):
    """A source of noise: `hazmat.gaussian.DiscreteGaussian`."""

    @property
    def sigma(self) -> Decimal:
        """Its parameter."""
        ...

    def sample(self, n: int) -> NDArray[np.int64]:
        """Return `n` independent draws."""
        ...


class Node:
    """One site in one round of a run, whose last step is `last_step`: after it consents are read again.

    `noise` is there if and only if the plan has a budget, and has the plan's parameter; else `WrongInput`.
    The node keeps no state of its own: what it may never do twice, its ledger remembers.
    """

    def __init__(
        self,
        *,
        site: str,
        run: str,
        plan: Plan,
        last_step: int,
        model: Model,
        sampler: PatientSampler,
        ledger: Ledger,
        noise: Noise | None,
    ) -> None:
        planned = plan.privacy.share_sigma if plan.privacy else None
        if site not in plan.sites or (noise.sigma if noise else None) != planned:
            raise WrongInput("a node's site and noise must be those of the plan")
        self._site = site
        self._run = run
        self._plan = plan
        self._last_step = last_step
        self._model = model
        self._sampler = sampler
        self._ledger = ledger
        self._noise = noise

    def receive(self, message: bytes) -> bytes:
        """Return this site's share for a step message.

        Raises `ProtocolRefused` for a message that is malformed, of another run, plan or model, or for an
        attempt not above every charged one, and `BudgetRefused` for an attempt that the plan does not have.
        Once the attempt is charged it stays so, whatever happens next.
        """
        step = Step.decode(message, self._plan.dimension)  # 1, 2
        self._check(step.label)  # 3, 4
        self._ledger.charge(step.label.attempt)  # 5
        load_flat(self._model, step.weights)
        total = self._sum(self._sampler.sample(self._plan.training.sampling_rate))  # 6, 7
        if self._noise is not None:
            total += self._noise.sample(self._plan.dimension)  # 8
        label = ShareLabel(site=self._site, **step.label.plain())
        return Share(label, encode(total)).encode()  # 9

    def _check(self, label: Label) -> None:
        training = self._plan.training
        if (label.run, label.plan) != (self._run, self._plan.policy):
            raise ProtocolRefused(
                "a step of another run or plan", hint="every site must have signed one policy"
            )
        if not label.step <= training.steps or label.step > label.attempt:
            raise ProtocolRefused("a step that the plan does not have")
        if label.step > self._last_step:
            raise ProtocolRefused("a step after the round that this node was opened for")
        if label.attempt <= self._ledger.highest():
            raise ProtocolRefused("an attempt that was charged before: no vector is sent twice")
        if label.attempt > training.attempts:
            raise attempts_used_up(self._plan)

    def _sum(self, rows: Rows) -> NDArray[np.int64]:
        if self._noise is None:
            return unclipped_sum(self._model, rows, scale=self._plan.scale, saturation=self._plan.saturation)
        training = self._plan.training
        return clipped_sum(self._model, rows, clip=float(training.clip), ring_norm=training.ring_norm)


def attempts_used_up(plan: Plan) -> BudgetRefused:
    """Return the error that says that the plan has no attempt left."""
    attempts = plan.training.attempts
    return BudgetRefused(
        f"of all {attempts} attempts of the plan too few are left",
        needed=str(plan.epsilon(attempts + 1) or "unbounded"),
        allowed=str(plan.privacy.budget.epsilon) if plan.privacy else "unbounded",
        hint="a new study, signed by every site, can plan for more attempts than steps",
    )
