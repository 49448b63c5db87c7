"""Vectors on the ring: bounds, faults in gradients, and headroom."""

import math
from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.errors import WrongInput
from oathbound.hazmat.ring import _exceeds, check_headroom, decode, encode, largest_batch, quantise


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_scales_and_truncates_toward_zero() -> None:
    assert quantise(rows([0.5, -0.5, 0.0999]), clip=1.0, ring_norm=10).tolist() == [5, -5, 0]


def test_clips_each_patient_alone() -> None:
    assert quantise(rows([300.0, 0.0], [0.0, -0.25]), clip=1.0, ring_norm=1000).tolist() == [1000, -250]


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_counts_as_zero(fault: float) -> None:
    assert quantise(rows([fault, 1.0], [0.5, 0.5]), clip=1.0, ring_norm=100).tolist() == [50, 50]


def test_a_huge_gradient_is_clipped_not_lost() -> None:
    huge = float(np.finfo(np.float32).max)
    assert quantise(rows([huge, 0.0]), clip=1.0, ring_norm=4096).tolist() == [4096, 0]


def test_zero_gradients_no_patients_and_no_parameters() -> None:
    assert quantise(rows([0.0, -0.0]), clip=1.0, ring_norm=100).tolist() == [0, 0]
    assert quantise(np.empty((0, 3), dtype=np.float32), clip=1.0, ring_norm=100).tolist() == [0, 0, 0]
    assert quantise(np.empty((2, 0), dtype=np.float32), clip=1.0, ring_norm=100).shape == (0,)


def test_shrinks_what_floats_rounded_over_the_norm() -> None:
    """The square norm 2^54 + 1 is 2^54 in floats: only integers see that it is one too many."""
    assert quantise(rows([2.0**27, 1.0]), clip=2.0**27, ring_norm=2**27).tolist() == [2**27 - 1, 0]
    assert quantise(rows([2.0**27, 0.0]), clip=2.0**27, ring_norm=2**27).tolist() == [2**27, 0]


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf, 5e-324])
def test_refuses_a_clip_that_cannot_be(clip: float) -> None:
    with pytest.raises(WrongInput):
        quantise(rows([1.0]), clip=clip, ring_norm=100)


@pytest.mark.parametrize("ring_norm", [0, -1, 2**31])
def test_refuses_a_ring_norm_that_cannot_be(ring_norm: int) -> None:
    with pytest.raises(WrongInput):
        quantise(rows([1.0]), clip=1.0, ring_norm=ring_norm)


def test_refuses_another_type_or_shape() -> None:
    with pytest.raises(WrongInput):
        quantise(np.zeros((1, 2)), clip=1.0, ring_norm=100)  # type: ignore[arg-type]
    with pytest.raises(WrongInput):
        quantise(np.zeros(2, dtype=np.float32), clip=1.0, ring_norm=100)


def test_the_ring_wraps_at_its_half() -> None:
    values = np.array([0, -1, 2**31 - 1, -(2**31), 2**31, 2**32 + 5], dtype=np.int64)
    assert encode(values).tolist() == [0, 2**32 - 1, 2**31 - 1, 2**31, 2**31, 5]
    assert decode(encode(values)).tolist() == [0, -1, 2**31 - 1, -(2**31), -(2**31), 5]


@pytest.mark.parametrize(
    ("patients", "rate"), [(10_000, "0.01"), (500, "0.3"), (50, "0.99"), (20, "0.001"), (1, "0.5")]
)
def test_largest_batch_is_a_bound_and_not_a_loose_one(patients: int, rate: str) -> None:
    binomial = pytest.importorskip("scipy.stats").binom
    batch = largest_batch(patients, Decimal(rate))
    assert binomial.sf(batch, patients, float(rate)) < 1e-12
    assert batch == patients or _exceeds(batch, patients, float(rate)) >= 1e-12
    assert binomial.sf(batch - 4 - batch // 20, patients, float(rate)) > 1e-14


def test_largest_batch_at_the_ends() -> None:
    assert largest_batch(100, Decimal(1)) == 100
    assert largest_batch(0, Decimal("0.5")) == 0
    for rate in ("0", "1.1", "-1"):
        with pytest.raises(WrongInput):
            largest_batch(10, Decimal(rate))


def test_headroom() -> None:
    check_headroom(
        patients=10_000, sampling_rate=Decimal("0.01"), ring_norm=2**14, total_sigma=Decimal(40_000)
    )
    with pytest.raises(WrongInput, match="32 bits"):  # too many patients in a batch
        check_headroom(patients=10_000, sampling_rate=Decimal(1), ring_norm=2**18, total_sigma=Decimal(1))
    with pytest.raises(WrongInput, match="32 bits"):  # too much noise
        check_headroom(
            patients=1, sampling_rate=Decimal(1), ring_norm=1, total_sigma=Decimal(2**31 // 12 + 1)
        )
    with pytest.raises(WrongInput, match="32 bits"):  # exactly at the edge
        check_headroom(patients=1, sampling_rate=Decimal(1), ring_norm=2**31 - 12, total_sigma=Decimal(1))
    check_headroom(patients=1, sampling_rate=Decimal(1), ring_norm=2**31 - 13, total_sigma=Decimal(1))
