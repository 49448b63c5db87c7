"""A site's part in training, without messages: which steps it computes, and its share of the sum.

`spec/training.md` numbers the steps.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.core.ports import Ledger, PatientSampler
from oathbound.hazmat.ring import encode
from oathbound.models.model import Model, Rows, load_flat
from oathbound.train.clip import clipped_sum, unclipped_sum
from oathbound.train.ftrl import Turns
from oathbound.train.local_steps import local_change, to_ring
from oathbound.train.messages import Step
from oathbound.train.plan import Plan, attempts_used_up


class Noise(Protocol):
    """A source of noise: `hazmat.gaussian.DiscreteGaussian`."""

    @property
    def sigma(self) -> Decimal:
        """Its parameter."""
        ...

    def sample(self, n: int) -> NDArray[np.int64]:
        """Return `n` independent draws."""
        ...


Checked = NewType("Checked", Step)
"""A step that `Trainer.check` has let through."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Trainer:
    """One site in one round of a run, whose last step is `last_step`: after it consents are read again.

    `noise` is there if and only if the plan has a budget, and has the plan's parameter; patients take turns
    if and only if the plan has bands, with its coefficients; else `WrongInput`.
    It keeps no state of its own: what it may never do twice, its ledger remembers.
    """

    site: str
    run: str
    plan: Plan
    last_step: int
    model: Model
    sampler: PatientSampler | Turns
    ledger: Ledger
    noise: Noise | None

    def __post_init__(self) -> None:
        planned = self.plan.privacy.share_sigma if self.plan.privacy else None
        if self.site not in self.plan.sites or (self.noise.sigma if self.noise else None) != planned:
            raise WrongInput("a trainer's site and noise must be those of the plan")
        turns = self.sampler.coefficients if isinstance(self.sampler, Turns) else (1,)
        if turns != self.plan.coefficients:
            raise WrongInput("a trainer's turns must be those of the plan")

    def check(self, step: Step) -> Checked:
        """Return the step, unless this site must not compute it; nothing is charged.

        Raises `ProtocolRefused` for weights that are not finite, a step of another run or plan, or an attempt
        not above every charged one, and `BudgetRefused` for one that leaves too few for the steps to come.
        """
        training, label = self.plan.training, step.label
        if not np.isfinite(step.weights).all():  # 2
            raise ProtocolRefused("a step's weights are not finite", hint="the training diverged")
        if (label.run, label.plan) != (self.run, self.plan.policy):  # 3
            raise ProtocolRefused(
                "a step of another run or plan", hint="every site must have signed one policy"
            )
        if not label.step <= training.steps or label.step > label.attempt:
            raise ProtocolRefused("a step that the plan does not have")
        if label.step > self.last_step:
            raise ProtocolRefused("a step after the round that this node was opened for")
        if label.attempt <= self.ledger.highest():  # 4
            raise ProtocolRefused("an attempt that was charged before: no vector is sent twice")
        # so a plan's attempts cannot be spent on a few steps, whose rounds' consents are then read too seldom
        if label.attempt - label.step > training.attempts - training.steps:
            raise attempts_used_up(self.plan)
        if isinstance(self.sampler, Turns):
            self.sampler.check(label.step)
        return Checked(step)

    def share(self, step: Checked) -> NDArray[np.uint32]:
        """Charge the attempt, and return this site's share of the step's sum on the ring: uint32 [words].

        Raises what the ledger raises. Once the attempt is charged it stays so, whatever happens next.
        """
        self.ledger.charge(step.label.attempt)  # 6
        training = self.plan.training
        if training.local and not isinstance(self.sampler, Turns):  # a policy has one of the two at most
            change = local_change(self.model, step.weights, self.sampler, training, training.local)  # 7, 8
            return encode(to_ring(change, self.sampler.size, self.plan))
        load_flat(self.model, step.weights)
        total = self._vector(step.label.step)  # 7, 8
        if self.noise is not None:
            total += self.noise.sample(self.plan.dimension)  # 9
        return encode(total)

    def _vector(self, step: int) -> NDArray[np.int64]:
        if isinstance(self.sampler, Turns):
            return self.sampler.correlated(step, self._sum(self.sampler.members(step)))
        return self._sum(self.sampler.sample(self.plan.training.sampling_rate))

    def _sum(self, rows: Rows) -> NDArray[np.int64]:
        if self.noise is None:
            return unclipped_sum(self.model, rows, scale=self.plan.scale, saturation=self.plan.saturation)
        training = self.plan.training
        return clipped_sum(self.model, rows, clip=float(training.clip), ring_norm=training.ring_norm)
