"""The one bound that the privacy rests on: a patient's integer norm, for any gradient whatever."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from oathbound.hazmat.ring import decode, encode, quantise

ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
FINITE = st.floats(-(2.0**64), 2.0**64, width=32)
CLIP = st.floats(1e-30, 1e30)
RING = st.integers(1, 2**31 - 1)


@settings(max_examples=300, deadline=None)
@given(arrays(np.float32, st.tuples(st.just(1), st.integers(0, 40)), elements=ANY), CLIP, RING)
def test_norm_is_at_most_the_ring_norm(gradient: NDArray[np.float32], clip: float, ring_norm: int) -> None:
    vector = quantise(gradient, clip=clip, ring_norm=ring_norm).tolist()
    assert sum(x * x for x in vector) <= ring_norm**2


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, st.tuples(st.just(1), st.integers(1, 40)), elements=FINITE), CLIP, RING)
def test_close_to_the_scaled_gradient(gradient: NDArray[np.float32], clip: float, ring_norm: int) -> None:
    vector = quantise(gradient, clip=clip, ring_norm=ring_norm)
    exact = gradient[0].astype(np.float64)
    exact *= ring_norm / max(math.sqrt(exact @ exact), clip)
    assert (np.abs(vector - exact) <= 2 + 1e-6 * ring_norm**0.5).all()
    assert (vector * exact >= 0).all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 6), st.just(5)), elements=ANY))
def test_patients_add_up(gradients: NDArray[np.float32]) -> None:
    alone = [quantise(gradients[i : i + 1], clip=1.0, ring_norm=2**14) for i in range(len(gradients))]
    assert (quantise(gradients, clip=1.0, ring_norm=2**14) == sum(alone, np.zeros(5, dtype=np.int64))).all()


@given(arrays(np.int64, 8, elements=st.integers(-(2**31), 2**31 - 1)), arrays(np.uint32, 8))
def test_masks_come_off(values: NDArray[np.int64], mask: NDArray[np.uint32]) -> None:
    assert (decode(encode(values)) == values).all()
    assert (decode(encode(values) + mask - mask) == values).all()
