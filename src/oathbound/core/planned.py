"""The privacy event that a policy plans: what sites charge, and what a verifier expects of them."""

from decimal import Decimal
from typing import Any

from oathbound.core import accounting
from oathbound.core.bands import coefficients
from oathbound.core.event import BandedToeplitz, Bounded, SampledGaussian
from oathbound.core.training_plan import Budget, Training


def planned_coefficients(training: Training) -> tuple[int, ...]:
    """Return what a patient's vector is multiplied by, in a sum and in those that follow it."""
    return (1,) if training.bands is None else coefficients(training.bands)


def planned_sigma(training: Training, budget: Budget, honest_shares: int) -> Decimal:
    """Return the parameter of each site's noise share; raises what `accounting.share_sigma` raises."""
    return accounting.share_sigma(
        noise_multiplier=budget.noise_multiplier,
        ring_norm=training.ring_norm,
        honest_shares=honest_shares,
        coefficients=planned_coefficients(training),
    )


def planned_event(
    training: Training,
    budget: Budget,
    *,
    share_sigma: Decimal,
    honest_shares: int,
    shares: int,
    dimension: int,
    attempts: int,
) -> Bounded:
    """Return what `attempts` attempts of the plan do to each member's privacy."""
    facts: dict[str, Any] = {
        "ring_norm": training.ring_norm,
        "share_sigma": share_sigma,
        "honest_shares": honest_shares,
        "shares": shares,
        "dimension": dimension,
        "tail": accounting.SAMPLER_TAIL,
        "sites_per_patient": budget.sites_per_patient,
        "attempts": attempts,
    }
    if training.bands is None:
        return SampledGaussian(mechanism="sampled-gaussian", sampling_rate=training.sampling_rate, **facts)
    return BandedToeplitz(mechanism="banded-toeplitz", coefficients=planned_coefficients(training), **facts)
