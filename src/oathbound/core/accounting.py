"""The binding epsilon: what a privacy event promises every patient, by `spec/accounting.md`.

A Rényi upper bound in decimal arithmetic of 50 digits, standard library only: a ledger, a plan and a verifier
compute the same digits on any machine. Every step bounds from above; the spec numbers and proves the steps.

Sources: Mironov, Talwar, Zhang 2019 (arXiv:1908.10530); Canonne, Kamath, Steinke 2020 (arXiv:2004.00010);
Balle et al. 2020 (arXiv:1905.09982).
"""

from collections.abc import Sequence
from decimal import (
    ROUND_CEILING,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    localcontext,
)
from functools import lru_cache
from itertools import accumulate, repeat
from math import comb
from operator import mul
from typing import Final

from oathbound.core.errors import WrongInput
from oathbound.core.event import Bounded, SampledGaussian

ORDERS: Final = range(2, 65)
"""The orders of the Rényi divergence: all from 2 to 64."""

LEAST_NOISE: Final = Decimal("0.1")
"""The least noise multiplier: below it no order gives an epsilon that means anything."""

GREATEST_NOISE: Final = Decimal(1000)
"""The greatest noise multiplier that is searched for."""

LEAST_SHARE_SIGMA: Final = Decimal(8)
"""The least parameter of a noise share, in ring units, for which the bounds below hold."""

ROUNDING_VARIANCE: Final = 4
"""The variance, of the sum of the noise shares, that turning a continuous Gaussian into integers takes."""

ETA: Final = Decimal("1.3e-22")
"""Bounds |ln(p / p')|, for the exact noise p and the rounded Gaussian p' of an attempt: 2^40 * 1.1e-34."""

SAMPLER_TAIL: Final = Decimal("2e-32")
"""Bounds the total variation distance of one draw of our sampler (`hazmat.gaussian`) from the exact one."""

SAMPLER_SHARE: Final = Decimal("0.01")
"""The part of delta kept for the sampler's distance from the exact noise."""

_SLACK: Final = Decimal("1e-20")  # more than the rounding errors of every step together
_FOUR: Final = Decimal("0.0001")
_SIX: Final = Decimal("0.000001")


def epsilon(event: Bounded, delta: Decimal) -> Decimal:
    """Return the epsilon of `event` at `delta`, rounded up to four decimals; 0 without attempts.

    `WrongInput` unless 0 < delta < 1, and if the noise is too weak or inexact for a meaningful epsilon.
    """
    _check_delta(delta)
    if event.attempts == 0:
        return Decimal(0)
    with localcontext(_arithmetic()):
        variance = event.honest_shares * event.share_sigma * event.share_sigma - ROUNDING_VARIANCE
        if isinstance(event, SampledGaussian):
            square, rate, uses = 1, event.sampling_rate, event.attempts
        else:  # each patient is used in every b-th attempt, for certain, and is then in b sums
            square, rate = square_norm(event.coefficients), Decimal(1)
            uses = -(-event.attempts // len(event.coefficients))
        bound = _bound(
            (variance / square).sqrt() / event.ring_norm,
            rate=rate,
            uses=uses,
            sites=event.sites_per_patient,
            attempts=event.attempts,
            delta=delta,
        )
        distance = event.tail * event.dimension * event.shares * event.attempts
        if distance > 0 and distance * (1 + bound.exp()) > SAMPLER_SHARE * delta:
            raise WrongInput(
                "the noise is too weak, or its sampler too inexact, for this delta",
                hint="plan for a smaller epsilon: raise the noise, or lower the sampling rate or the steps",
            )
        return bound.quantize(_FOUR, ROUND_CEILING)


def noise_multiplier_for(
    *, epsilon: Decimal, delta: Decimal, sampling_rate: Decimal, attempts: int, sites_per_patient: int = 1
) -> Decimal:
    """Return the least noise multiplier, at four decimals, with which `attempts` cost at most `epsilon`.

    A person is a patient of at most `sites_per_patient` of the sites.

    `WrongInput` if none from 0.1 to 1000 does, or if a number is out of its range.
    """
    _check_delta(delta)
    if epsilon <= 0 or not 0 < sampling_rate <= 1 or attempts <= 0 or sites_per_patient <= 0:
        raise WrongInput(
            "epsilon, the sampling rate, and the numbers of attempts and of sites of a patient must be "
            "positive, the rate at most 1"
        )
    with localcontext(_arithmetic()):
        least = (LEAST_NOISE * Decimal(sites_per_patient).sqrt() / _FOUR).to_integral_value(ROUND_CEILING)
        low, high = int(least), int(GREATEST_NOISE / _FOUR) + 1
        while low < high:
            middle = (low + high) // 2
            bound = _bound(
                middle * _FOUR,
                rate=sampling_rate,
                uses=attempts,
                sites=sites_per_patient,
                attempts=attempts,
                delta=delta,
            )
            low, high = (
                (low, middle) if bound.quantize(_FOUR, ROUND_CEILING) <= epsilon else (middle + 1, high)
            )
        noise = low * _FOUR
    if noise > GREATEST_NOISE:
        raise WrongInput(
            f"no noise multiplier up to {GREATEST_NOISE} reaches this epsilon",
            hint="allow a larger epsilon or delta, or lower the sampling rate or the steps",
        )
    return noise


def square_norm(coefficients: Sequence[int]) -> int:
    """Return the square of the norm of all that a vector of norm 1 adds, times a coefficient each time."""
    return sum(each * each for each in coefficients)


def share_sigma(
    *, noise_multiplier: Decimal, ring_norm: int, honest_shares: int, coefficients: Sequence[int] = (1,)
) -> Decimal:
    """Return the least parameter of each noise share, rounded up to six decimals, at least 8 ring units.

    The sum of `honest_shares` shares then protects a vector of norm `ring_norm`, which is in as many sums as
    there are `coefficients`, times one of them in each, as a Gaussian of deviation `noise_multiplier` times
    the norm of all of that does.
    """
    if noise_multiplier <= 0 or ring_norm <= 0 or honest_shares <= 0:
        raise WrongInput(
            "the noise multiplier, the ring norm and the number of honest shares must be positive"
        )
    with localcontext(_arithmetic()):
        deviation = noise_multiplier * ring_norm
        needed = deviation * deviation * square_norm(coefficients)
        sigma = ((needed + ROUNDING_VARIANCE) / honest_shares).sqrt()
        return max(sigma.quantize(_SIX, ROUND_CEILING), LEAST_SHARE_SIGMA)


def _arithmetic() -> Context:
    """Return the one arithmetic, in which `exp`, `ln` and `sqrt` are correctly rounded (`**` is not used).

    What is too great for it becomes infinite, and is refused as such.
    """
    return Context(
        prec=50,
        rounding=ROUND_HALF_EVEN,
        Emin=-999_999,
        Emax=999_999,
        traps=[InvalidOperation, DivisionByZero],
    )


def _check_delta(delta: Decimal) -> None:
    if not 0 < delta < 1:
        raise WrongInput(
            "delta must lie between 0 and 1", hint="choose it well below 1 / the number of patients"
        )


def _bound(noise: Decimal, *, rate: Decimal, uses: int, sites: int, attempts: int, delta: Decimal) -> Decimal:
    """Return an epsilon of `attempts` attempts with exact noise, steps 2 to 5 of the spec.

    In `uses` of them each patient may be, with chance `rate`. The noise is split in `sites` parts, one for
    each site that has the patient.
    """
    part = noise / Decimal(sites).sqrt()
    if part < LEAST_NOISE:
        raise WrongInput(
            f"a noise multiplier below {LEAST_NOISE}, for each site of a patient, gives no epsilon worth the "
            "name",
            hint="raise the noise",
        )
    kept = (1 - SAMPLER_SHARE) * delta * (-ETA * attempts).exp()
    converted = min(
        uses * sites * divergence + (1 - 1 / Decimal(order)).ln() - (kept * order).ln() / (order - 1)
        for order, divergence in zip(ORDERS, _divergences(part, rate), strict=True)
    )
    return max(converted, Decimal(0)) + 2 * ETA * attempts + _SLACK


@lru_cache(maxsize=64)
def _divergences(noise: Decimal, rate: Decimal) -> tuple[Decimal, ...]:
    """Return the Rényi divergence of one attempt at each of `ORDERS`: Mironov, Talwar, Zhang, section 3.3."""
    greatest = ORDERS[-1]
    inside = list(accumulate(repeat(rate, greatest), mul, initial=Decimal(1)))
    outside = list(accumulate(repeat(1 - rate, greatest), mul, initial=Decimal(1)))
    moments = [(k * (k - 1) / (2 * noise * noise)).exp() for k in range(greatest + 1)]
    totals = (
        sum(comb(order, k) * outside[order - k] * inside[k] * moments[k] for k in range(order + 1))
        for order in ORDERS
    )
    return tuple(Decimal(total).ln() / (order - 1) for order, total in zip(ORDERS, totals, strict=True))
