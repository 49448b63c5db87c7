"""Confidence limits, recomputed by whoever reads a finding: standard library only.

Every function takes `alpha`, the error rate of *one* end, below one half, and returns both one-sided ends.
Ends are rounded outward to `DECIMALS` digits, so that an interval never claims more than its inputs do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from statistics import NormalDist
from typing import Final

from oathbound.core.finding import DECIMALS

UNIT: Final = Decimal(1).scaleb(-DECIMALS)
"""One unit of the last published digit."""

HALF_UNIT: Final = UNIT / 2
"""The most by which a published estimate differs from the one that was measured."""

_BISECTIONS: Final = 40
"""Enough for a millionth of a millionth; ends are rounded to a thousandth."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Two one-sided limits."""

    lower: Decimal
    upper: Decimal


def quantile(alpha: float) -> float:
    """Return z with P(Z > z) = `alpha` for standard normal Z; `ValueError` unless 0 < alpha < 1/2."""
    if not 0 < alpha < 0.5:  # noqa: PLR2004 - one half: beyond it an end lies on the wrong side of the estimate
        raise ValueError("alpha, the error rate of one end, must lie between 0 and 1/2")
    return -NormalDist().inv_cdf(alpha)


def normal(estimate: Decimal, standard_error: Decimal, alpha: float) -> Interval:
    """Return estimate -+ z * standard error, for an estimate published to `DECIMALS` digits.

    Half a unit of the last digit is added on either side.
    """
    reach = quantile(alpha) * float(standard_error) + float(HALF_UNIT)
    return _outward(float(estimate) - reach, float(estimate) + reach)


def logit(auc: Decimal, standard_error: Decimal, pairs: int, alpha: float) -> Interval:
    """Return limits of a published AUC, symmetric on the logit scale (Pepe 2003, section 5.2).

    logit(A) -+ z * SE / (A (1 - A)), with A moved outward by half a unit of the last digit.

    A standard error of zero at A = 1 means that every member outranks every held-out patient, where
    DeLong's variance says nothing. Then the limit is exact: among `pairs` = min(members, held-out) disjoint
    pairs of a member and a held-out patient each is won independently with probability A, and all were,
    which has probability A ** pairs; so A >= alpha ** (1 / pairs). No distribution-free limit is sharper: a
    mixture that puts the smaller group on the far side with probability 1 - A attains it. A = 0 is its
    mirror image.
    """
    if standard_error == 0 and auc in (0, 1):
        if pairs < 1:
            return Interval(Decimal(0), Decimal(1))
        end = _power(alpha, pairs)
        return _outward(end, 1.0) if auc == 1 else _outward(0.0, 1 - end)
    reach = quantile(alpha) * float(standard_error)
    low, high = float(auc - HALF_UNIT), float(auc + HALF_UNIT)
    lower = _expit(_logit(low) - reach / (low * (1 - low))) if low > 0 else 0.0
    upper = _expit(_logit(high) + reach / (high * (1 - high))) if high < 1 else 1.0
    return _outward(lower, upper)


def score_limits(
    estimate: Decimal, standard_error: Callable[[float], float], alpha: float, *, least: int
) -> Interval:
    """Return the values in [`least`, 1] that lie within z standard errors, *taken there*, of the estimate.

    Score limits (Wilson 1927). They stay honest where a small sample has missed what is rare, and its own
    error with it. `standard_error` is called with values of the estimated quantity, and must grow more
    slowly than these move away, as those of `pooling` do: then each end is one point. Half a unit of the
    last digit is added on either side.
    """
    z = quantile(alpha)
    low, high = max(float(estimate - HALF_UNIT), least), min(float(estimate + HALF_UNIT), 1.0)
    return _outward(
        _bisect(lambda value: low - value <= z * standard_error(value), low, least),
        _bisect(lambda value: value - high <= z * standard_error(value), high, 1.0),
    )


def hanley_mcneil(auc: float, members: int, held_out: int) -> float:
    """Return the standard error of an AUC whose true value is `auc` (Hanley, McNeil 1982, equations 1 to 3).

    Theirs is that of exponential scores. It is not symmetric, so it is taken as it is and turned round, and
    the larger counts. For two equal continuous distributions it is exact.
    """
    return math.sqrt(max(_hanley_mcneil(auc, members, held_out), _hanley_mcneil(1 - auc, members, held_out)))


def _hanley_mcneil(auc: float, members: int, held_out: int) -> float:
    two_members = auc / (2 - auc)  # the chance that both of two members outrank one held-out patient
    two_held_out = 2 * auc**2 / (1 + auc)  # that one member outranks both of two held-out patients
    spread = (members - 1) * (two_members - auc**2) + (held_out - 1) * (two_held_out - auc**2)
    return max(auc * (1 - auc) + spread, 0.0) / (members * held_out)


def clopper_pearson(hits: int, n: int, alpha: float) -> Interval:
    """Return exact limits of a proportion (Clopper, Pearson 1934). No hits of n give about 3 / n at 5 %.

    Raises `ValueError` unless 0 <= hits <= n and n > 0.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError("hits must lie between 0 and n, and n above 0")
    quantile(alpha)  # the limits below exist for alpha < 1/2 only
    return _outward(1 - _upper_limit(n - hits, n, alpha), _upper_limit(hits, n, alpha))


def binomial_at_most(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p), summed from the largest term to the last that counts."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k <= n * p:
        return _descending(k, n, p)
    return 1 - _descending(n - k - 1, n, 1 - p)


def _descending(k: int, n: int, p: float) -> float:
    """Sum the binomial terms k, k-1, ..., which shrink because k is not above the mean."""
    term = math.exp(
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    total, odds = 0.0, (1 - p) / p
    for j in range(k, -1, -1):
        total += term
        if term <= total * 1e-17:  # both are 0 where the largest term is less than any float
            break
        term *= j / (n - j + 1) * odds
    return total


def _upper_limit(hits: int, n: int, alpha: float) -> float:
    """Return the p at which `hits` or fewer of `n` have probability `alpha`."""
    return _bisect(lambda p: binomial_at_most(hits, n, p) > alpha, hits / n, 1.0)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the point from `low` to `high` up to which `holds` is true, rounded towards `high`."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _outward(lower: float, upper: float) -> Interval:
    return Interval(
        Decimal(lower).quantize(UNIT, ROUND_FLOOR),
        Decimal(upper).quantize(UNIT, ROUND_CEILING),
    )


def _power(alpha: float, pairs: int) -> float:
    return math.exp(math.log(alpha) / pairs)


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
