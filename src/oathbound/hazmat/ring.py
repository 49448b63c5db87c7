"""Integer vectors modulo 2^32: what sites add up, noise and mask.

A patient's gradient becomes an integer vector of l2 norm at most `ring_norm`, exactly: the norm is checked
in integers, after rounding, for each patient alone. Rounding a sum of gradients would leave it unknown.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput

MODULUS: Final = 1 << 32

_HALF: Final = 1 << 31
_BATCH_TAIL: Final = 1e-12
_NOISE_REACH: Final = 12


def quantise(
    gradients: NDArray[np.float32], times: Sequence[int] | None = None, *, clip: float, ring_norm: int
) -> NDArray[np.int64]:
    """Return the sum of the patients' integer vectors, int64 [d], from `gradients`, float32 [patients, d].

    `times` says of how many patients each gradient is: of one, if left out. Each is clipped to the l2 norm
    `clip`, scaled by `ring_norm / clip` and truncated toward zero. One that is not finite counts as zero; no
    patients give a zero sum. `WrongInput` for another type or shape, or for bounds that cannot be.
    """
    if gradients.dtype != np.float32 or gradients.ndim != 2:  # noqa: PLR2004 - patients by parameters
        raise WrongInput("gradients are quantised from a float32 matrix, one row for each patient")
    if not (0 < clip < math.inf and 0 < ring_norm < _HALF and ring_norm / clip < math.inf):
        raise WrongInput(
            "the clipping norm must be positive and the ring norm an integer from 1 to 2^31 - 1",
            hint="correct clip and ring_norm in the policy",
        )
    total = np.zeros(gradients.shape[1], dtype=np.int64)
    scaled = np.empty(total.shape)  # allocated once: new pages cost more than the arithmetic
    vector = np.empty_like(total)
    for gradient, patients in zip(gradients, times or [1] * len(gradients), strict=True):
        if patients:
            scaled[:] = gradient
            _to_ring(scaled, clip, ring_norm, out=vector)
            total += vector if patients == 1 else patients * vector
    return total


def _to_ring(gradient: NDArray[np.float64], clip: float, ring_norm: int, *, out: NDArray[np.int64]) -> None:
    """Write a patient's vector to `out`. `gradient` holds float32 values, so its squares do not overflow."""
    norm = math.sqrt(_square_norm(gradient))
    if not math.isfinite(norm):
        out.fill(0)
        return
    gradient *= ring_norm / max(norm, clip)
    np.copyto(out, gradient, casting="unsafe")  # truncates toward zero
    while _square_norm(out) > ring_norm**2:  # where floats were rounded upward
        out -= np.sign(out)


def _square_norm(vector: NDArray[np.float64] | NDArray[np.int64]) -> Any:
    """Return the sum of squares, exactly for integers. Not by BLAS, whose threads cost more than the sum."""
    return np.einsum("i,i", vector, vector)


def encode(values: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return `values` modulo 2^32."""
    return values.astype(np.uint32)


def decode(ring: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the representatives of `ring` in [-2^31, 2^31)."""
    return ring.view(np.int32).astype(np.int64)


def check_headroom(*, patients: int, sampling_rate: Decimal, ring_norm: int, total_sigma: Decimal) -> None:
    """Raise `WrongInput` unless a sum over a batch, with its noise, is sure enough not to wrap around.

    The batch is exceeded with probability below 1e-12, and a coordinate's noise passes 12 deviations with
    probability below 1e-31. Wrapping around would spoil the model, and never the privacy.
    """
    reach = largest_batch(patients, sampling_rate) * ring_norm + _NOISE_REACH * total_sigma
    if reach >= _HALF:
        raise WrongInput(
            "a sum over the largest batch, with its noise, does not fit 32 bits",
            hint="lower ring_norm or the sampling rate",
        )


def largest_batch(patients: int, sampling_rate: Decimal) -> int:
    """Return a batch size that a Poisson sample of `patients` exceeds with probability below 1e-12.

    `WrongInput` unless 0 < sampling_rate <= 1.
    By Chernoff: P(batch >= k) <= exp(-patients KL(k / patients || sampling_rate)) for k above the mean.
    """
    if not 0 < sampling_rate <= 1:
        raise WrongInput("the sampling rate must be above 0 and at most 1")
    rate = float(sampling_rate)
    low, high = math.ceil(patients * rate), patients  # P(batch > high) is always below the bound
    while low < high:
        middle = (low + high) // 2
        if _exceeds(middle + 1, patients, rate) < _BATCH_TAIL:
            high = middle
        else:
            low = middle + 1
    return low


def _exceeds(batch: int, patients: int, rate: float) -> float:
    share = batch / patients
    divergence = share * math.log(share / rate)
    if batch < patients:
        divergence += (1 - share) * math.log((1 - share) / (1 - rate))
    return math.exp(-patients * divergence)
