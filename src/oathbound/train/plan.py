"""The plan of a training, derived from the policy and the model's size: the same at every party."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Self

from oathbound.core import accounting
from oathbound.core.errors import BudgetRefused
from oathbound.core.event import Bounded, Unbounded
from oathbound.core.planned import planned_coefficients, planned_event, planned_sigma
from oathbound.core.study import Policy
from oathbound.core.training_plan import Budget, Training
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.ring import MODULUS, check_headroom


@dataclass(frozen=True, slots=True)
class Privacy:
    """The noise of a plan with a budget. Each site's share has parameter `share_sigma`, in ring units.

    `honest_shares` is the least number of shares in an opened sum that an attacker does not know.
    """

    budget: Budget
    share_sigma: Decimal
    honest_shares: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a node and the coordinator must agree on.

    `policy` is the policy's digest; `privacy` is None for `privacy = "none"`.
    `dimension` is the number of the model's weights. A plan made by `of` costs no more than its budget.
    """

    policy: str
    sites: tuple[str, ...]
    training: Training
    dimension: int
    privacy: Privacy | None

    @classmethod
    def of(cls, policy: Policy, dimension: int) -> Self:
        """Return the plan of `policy` for a model of `dimension` weights.

        Raises `BudgetRefused` if all its attempts would cost more than the budget, and `WrongInput` if a sum
        could wrap around the ring or the noise is out of the sampler's range.
        """
        sites = tuple(site.name for site in policy.sites)
        plan = cls(policy.digest, sites, policy.training, dimension, privacy=None)
        if policy.budget is None:
            return plan
        honest = policy.min_sites - policy.colluding
        share_sigma = planned_sigma(policy.training, policy.budget, honest)
        DiscreteGaussian(share_sigma)
        check_headroom(
            patients=plan.training.members,
            sampling_rate=plan.training.sampling_rate,
            ring_norm=plan.training.ring_norm * sum(plan.coefficients),
            total_sigma=share_sigma * Decimal(len(sites)).sqrt(),
        )
        plan = replace(plan, privacy=Privacy(policy.budget, share_sigma, honest))
        plan.price()
        return plan

    def event(self, attempts: int) -> Bounded | Unbounded:
        """Return what `attempts` charged attempts did to each member's privacy."""
        if self.privacy is None:
            return Unbounded(mechanism="unbounded", attempts=attempts)
        return planned_event(
            self.training,
            self.privacy.budget,
            share_sigma=self.privacy.share_sigma,
            honest_shares=self.privacy.honest_shares,
            shares=len(self.sites),
            dimension=self.dimension,
            attempts=attempts,
        )

    def epsilon(self, attempts: int) -> Decimal | None:
        """Return the epsilon of `attempts` at the budget's delta; None if nothing bounds it."""
        event = self.event(attempts)
        if self.privacy is None or isinstance(event, Unbounded):
            return None
        return accounting.epsilon(event, self.privacy.budget.delta)

    def price(self) -> Decimal | None:
        """Return the epsilon of all the plan's attempts; `BudgetRefused` if the budget does not allow it."""
        needed = self.epsilon(self.training.attempts)
        if needed is not None and self.privacy is not None and needed > self.privacy.budget.epsilon:
            raise BudgetRefused(
                f"the plan costs epsilon {needed}, and the budget is {self.privacy.budget.epsilon}",
                needed=str(needed),
                allowed=str(self.privacy.budget.epsilon),
                hint="raise noise_multiplier, or lower attempts or sampling_rate; every site must sign again",
            )
        return needed

    @property
    def coefficients(self) -> tuple[int, ...]:
        """What a patient's vector is multiplied by, in this sum and those that follow it."""
        return planned_coefficients(self.training)

    @property
    def words(self) -> int:
        """The length of the vectors that are summed: with local steps, three numbers beside the weights."""
        return self.dimension + (3 if self.training.local else 0)

    @property
    def divisor(self) -> float:
        """The expected batch q * N over all sites, which divides every sum: public, unlike the batch."""
        return float(self.training.sampling_rate * self.training.members)

    @property
    def scale(self) -> float:
        """Ring units per unit of gradient."""
        return self.training.ring_norm / float(self.training.clip)

    @property
    def saturation(self) -> int:
        """The largest coordinate of a share without noise, so that the sum of all cannot wrap around."""
        return (MODULUS // 2 - 1) // len(self.sites)

    def learning_rate(self, step: int) -> float:
        """Return the rate of `step`, from 1: linear from 0 over `warmup` steps, times a linear decay to 0."""
        rise = min(1.0, step / max(1, self.training.warmup))
        fall = 1 - (step - 1) / self.training.steps
        return float(self.training.learning_rate) * rise * fall


def attempts_used_up(plan: Plan) -> BudgetRefused:
    """Return the error that says that the plan has no attempt left."""
    attempts = plan.training.attempts
    if plan.training.bands is not None:
        return BudgetRefused(
            "a step was lost, and with bands none is tried again: this training is void",
            needed=str(attempts + 1),
            allowed=str(attempts),
            hint="its budget stays reserved: a new study needs other patients, or a larger limit",
        )
    return BudgetRefused(
        f"of all {attempts} attempts of the plan too few are left",
        needed=str(plan.epsilon(attempts + 1) or "unbounded"),
        allowed=str(plan.privacy.budget.epsilon) if plan.privacy else "unbounded",
        hint="a new study, signed by every site, can plan for more attempts than steps",
    )
