from decimal import Decimal
from typing import Any

import pytest

from oathbound.core.accounting import epsilon, noise_multiplier_for, share_sigma
from oathbound.core.errors import WrongInput
from oathbound.core.event import SampledGaussian

DELTA = Decimal("1e-6")


def event(**changes: Any) -> SampledGaussian:
    fields: dict[str, Any] = {
        "mechanism": "sampled-gaussian",
        "sampling_rate": Decimal(1),
        "ring_norm": 1000,
        "share_sigma": Decimal(1000),
        "honest_shares": 2,
        "shares": 2,
        "dimension": 10,
        "tail": Decimal(0),
        "sites_per_patient": 1,
        "attempts": 1,
    }
    return SampledGaussian(**(fields | changes))


def test_noise_that_is_no_noise_is_refused():
    with pytest.raises(WrongInput, match=r"below 0\.1"):
        epsilon(event(ring_norm=2**31 - 1, share_sigma=Decimal(8)), DELTA)


def test_an_exact_sampler_takes_nothing_of_delta_however_great_the_epsilon():
    assert epsilon(event(ring_norm=14_000, attempts=10**7), DELTA) > Decimal(10**7)


@pytest.mark.parametrize(
    "changes",
    [{"epsilon": Decimal(0)}, {"sampling_rate": Decimal(0)}, {"sampling_rate": Decimal(2)}, {"attempts": 0}],
)
def test_a_plan_of_nothing_has_no_noise(changes):
    plan = {"epsilon": Decimal(3), "delta": DELTA, "sampling_rate": Decimal("0.1"), "attempts": 10} | changes
    with pytest.raises(WrongInput, match="must be positive"):
        noise_multiplier_for(**plan)


@pytest.mark.parametrize(
    "changes", [{"noise_multiplier": Decimal(0)}, {"ring_norm": 0}, {"honest_shares": 0}]
)
def test_a_share_of_nothing_has_no_parameter(changes):
    shares = {"noise_multiplier": Decimal(1), "ring_norm": 1000, "honest_shares": 2} | changes
    with pytest.raises(WrongInput, match="must be positive"):
        share_sigma(**shares)
