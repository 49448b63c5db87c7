"""A lower bound on epsilon from one training run with planted patients: standard library only.

Of `planted` invented patients each was in the training by an independent fair coin. An attacker who saw the
result, and no coin, guessed `guesses` of the coins, and `right` of the guesses were right. Steinke, Nasr,
Jagielski 2023 (arXiv:2305.08846), theorem 5.2 with corollary 5.4: if the training is (epsilon, delta)
differentially private for adding or removing one patient, then with W ~ Binomial(guesses, e^epsilon /
(1 + e^epsilon))

    P(right >= v) <= P(W >= v) + 2 planted delta max over 1 <= i <= planted of P(v > W >= v - i) / i.

The right-hand side is computed in decimal arithmetic of 50 digits, so that a verifier computes the same
digits on any machine.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache
from itertools import accumulate
from typing import Final, Self

from oathbound.core import accounting
from oathbound.core.finding import OneRun
from oathbound.core.planned import planned_event, planned_sigma
from oathbound.core.record import decimal_text
from oathbound.core.study import Policy

GREATEST: Final = 20
"""The greatest epsilon that is looked for: no number of guesses that a plan may have can show more."""

UNPROMISED_DELTA: Final = Decimal("0.00001")
"""The delta of a bound on a training without privacy, which promises none."""

SHOWN: Final = 0.025
"""The error rate of a bound that is shown by itself; one that judges is stricter."""

_ARITHMETIC: Final = Context(prec=50, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)
_UNIT: Final = Decimal("0.001")
_SLACK: Final = Decimal("1e-30")
"""More than the rounding errors of every operation together."""


@dataclass(frozen=True, slots=True)
class Accounted:
    """What is accounted for the training procedure of a policy, all its steps taken once."""

    epsilon: Decimal
    delta: Decimal

    @classmethod
    def of(cls, policy: Policy) -> Self | None:
        """Return it; None where the policy bounds nothing. Raises what `accounting.epsilon` raises.

        A sibling takes every step once, so it costs the steps, not the attempts that a crash may add; and a
        canary is a patient of its site alone, whatever the policy says of people.
        """
        budget, training = policy.budget, policy.training
        if budget is None:
            return None
        honest = policy.min_sites - policy.colluding
        event = planned_event(
            training,
            budget.model_copy(update={"sites_per_patient": 1}),
            share_sigma=planned_sigma(training, budget, honest),
            honest_shares=honest,
            shares=honest,
            dimension=policy.weights or 1,
            attempts=training.steps,
        )
        return cls(accounting.epsilon(event, budget.delta), budget.delta)


def delta_of(policy: Policy) -> Decimal:
    """Return the delta at which the procedure of a policy is bounded."""
    return UNPROMISED_DELTA if policy.budget is None else policy.budget.delta


def shown(run: OneRun) -> str:
    """Return what a finding shows of epsilon, by itself, in words."""
    least = epsilon_at_least(run, run.delta, SHOWN)
    sure = f"at delta {decimal_text(run.delta)}, with confidence {100 * (1 - SHOWN):.4g} %"
    return f"epsilon at least {decimal_text(least)} {sure}" if least else "no epsilon above 0 is shown"


@lru_cache(maxsize=256)
def epsilon_at_least(run: OneRun, delta: Decimal, alpha: float) -> Decimal:
    """Return a lower bound on epsilon at `delta`, to three decimals; 0 where nothing is shown.

    It exceeds the truth with probability at most `alpha`, whatever the bisection ends at, as long as the
    bound of the theorem is at most `alpha` at an epsilon above 0 that is returned. For let b(v) be what is
    returned for v, and v* the least v with b(v) above the true epsilon. Then the training is also
    (b(v*), delta)-private, and P(b(right) > epsilon) <= P(right >= v*) <= `alpha` by the theorem at b(v*).
    """
    level = Decimal(alpha)
    low, high = 0, int(GREATEST / _UNIT)
    while high - low > 1:
        middle = (low + high) // 2
        if most_likely(run, middle * _UNIT, delta) <= level:
            low = middle
        else:
            high = middle
    return low * _UNIT


def most_likely(run: OneRun, epsilon: Decimal, delta: Decimal) -> Decimal:
    """Return the most that P(at least so many right) can be under (epsilon, delta): theorem 5.2, at most 1.

    W takes the value j with probability C(r, j) e^(epsilon j) / (1 + e^epsilon)^r, so that no power of the
    guesses' chance is needed: each weight is the one before times (r - j) / (j + 1) e^epsilon.
    """
    with localcontext(_ARITHMETIC):
        odds, r, v = epsilon.exp(), run.guesses, run.right
        steps = (odds * (r - j) / (j + 1) for j in range(r))
        weights = list(accumulate(steps, lambda weight, step: weight * step, initial=Decimal(1)))
        below = accumulate(reversed(weights[:v]))
        densest = max((mass / i for i, mass in enumerate(below, start=1)), default=Decimal(0))
        reached = sum(weights[v:], 2 * run.planted * delta * densest)
        return min(reached / sum(weights, Decimal(0)) + _SLACK, Decimal(1))
