"""`check`: what a policy binds and what it will cost, before any record is read."""

from dataclasses import dataclass
from decimal import Decimal

from oathbound.core.catalogue import check_gates
from oathbound.core.study import Policy
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build, flat
from oathbound.train.plan import Plan


@dataclass(frozen=True, slots=True)
class Price:
    """What a study will cost. `epsilon` is that of all attempts, None where no bound holds."""

    weights: int
    tokens: int
    expected_batch: int
    steps: int
    attempts: int
    epsilon: Decimal | None


def price(policy: Policy) -> Price:
    """Return the price of a policy; `BudgetRefused` when its plan would break its own budget."""
    check_gates(policy.gates)
    tokenizer = Tokenizer(policy.vocabulary)
    plan = Plan.of(policy, flat(build(policy.model, tokenizer.size)).size)
    training = policy.training
    return Price(
        weights=plan.dimension,
        tokens=tokenizer.size,
        expected_batch=round(plan.divisor),
        steps=training.steps,
        attempts=training.attempts,
        epsilon=plan.price(),
    )
