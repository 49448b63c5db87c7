"""`check`: what a policy binds and what it will cost, before any record is read."""

from dataclasses import dataclass
from decimal import Decimal

from oathbound.core.catalogue import check_gates
from oathbound.core.errors import WrongInput
from oathbound.core.study import Policy
from oathbound.models.model import flat
from oathbound.train.plan import Plan
from oathbound.workflow.extensions import check_extensions
from oathbound.workflow.families import family_of
from oathbound.workflow.rounds import use_of


@dataclass(frozen=True, slots=True)
class Price:
    """What a study will cost. `epsilon` is that of all attempts, None where no bound holds.

    `tokens` are those of the vocabulary; of a classifier, the numbers that it sees of a patient.
    """

    weights: int
    tokens: int
    expected_batch: int
    steps: int
    attempts: int
    epsilon: Decimal | None


def price(policy: Policy) -> Price:
    """Return the price of a policy; `BudgetRefused` when its plan would break its own budget.

    Raises what `check_extensions` raises, too.
    """
    check_gates(policy)
    check_extensions(policy)
    for purpose in (policy.consent.training_purpose, policy.consent.audit_purpose):
        use_of(policy, purpose)
    least = len(policy.sites) * policy.audit.minimum_patients
    if policy.training.members < least:
        raise WrongInput(
            f"training.members plans fewer than the {least} that minimum_patients asks of all sites",
            hint="members counts the patients in training over all sites",
        )
    family = family_of(policy)
    plan = Plan.of(policy, flat(family.model).size)
    training = policy.training
    return Price(
        weights=plan.dimension,
        tokens=family.encoder.size,
        expected_batch=round(plan.divisor),
        steps=training.steps,
        attempts=training.attempts,
        epsilon=plan.price(),
    )
