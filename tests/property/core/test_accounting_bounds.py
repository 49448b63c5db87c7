"""What holds for every event: more of anything that leaks never costs less."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from oathbound.core.accounting import epsilon, share_sigma
from oathbound.core.event import SampledGaussian

DELTA = Decimal("1e-5")
NOISE = st.decimals("1", "20", places=4)
RATE = st.decimals("0.0001", "0.02", places=6)
ATTEMPTS = st.integers(1, 2000)
RING = st.integers(2**10, 2**24)
SHARES = st.integers(2, 50)


def cost(
    noise: Decimal, rate: Decimal, attempts: int, ring_norm: int, shares: int, *, sites: int = 1
) -> Decimal:
    event = SampledGaussian(
        mechanism="sampled-gaussian",
        sampling_rate=rate,
        ring_norm=ring_norm,
        share_sigma=share_sigma(noise_multiplier=noise, ring_norm=ring_norm, honest_shares=shares),
        honest_shares=shares,
        shares=shares,
        dimension=10**6,
        tail=Decimal("2e-32"),
        sites_per_patient=sites,
        attempts=attempts,
    )
    return epsilon(event, DELTA)


@settings(max_examples=40, deadline=None)
@given(NOISE, RATE, ATTEMPTS, RING, SHARES)
def test_monotone(noise: Decimal, rate: Decimal, attempts: int, ring_norm: int, shares: int) -> None:
    here = cost(noise, rate, attempts, ring_norm, shares)
    assert here > 0
    assert here.as_tuple().exponent == -4
    assert cost(noise, rate, attempts + 1, ring_norm, shares) >= here
    assert cost(noise, rate * 2, attempts, ring_norm, shares) >= here
    assert cost(noise + 1, rate, attempts, ring_norm, shares) <= here
    assert cost(noise, rate, attempts, ring_norm, shares, sites=2) >= here


@settings(max_examples=40, deadline=None)
@given(NOISE, RATE, ATTEMPTS, RING, SHARES)
def test_only_the_ratio_of_noise_to_norm_counts(
    noise: Decimal, rate: Decimal, attempts: int, ring_norm: int, shares: int
) -> None:
    """`share_sigma` undoes what `epsilon` takes away, for any ring and any number of shares."""
    here = cost(noise, rate, attempts, ring_norm, shares)
    there = cost(noise, rate, attempts, 2**20, 2)
    assert abs(here - there) <= Decimal("0.0001")
