"""What one site adds to a step before noise: the sum over sampled patients of their gradients, on the ring.

A patient's gradient is that of the mean loss over the patient's tokens, so a long record weighs as much as a
short one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from oathbound.hazmat.ring import quantise
from oathbound.models.transformer import PAD, EventTransformer, loss

_CHUNK_BYTES: Final = 48 * 1024 * 1024
_CHUNK_PATIENTS: Final = 128
_WIDTH: Final = 16
_FLOAT32: Final = 4


def clipped_sum(
    model: EventTransformer, tokens: NDArray[np.int64], *, clip: float, ring_norm: int
) -> NDArray[np.int64]:
    """Return the sum of the patients' gradients, each of ring norm at most `ring_norm`: int64 [d].

    `tokens` is int64 [patients, length], padded; the sum over no patients is zero. Patients' gradients are
    computed together in chunks of bounded memory (Lee and Kifer 2021; Subramani et al. 2021, with `vmap`).
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    dimension = sum(parameter.numel() for parameter in parameters.values())
    gradient = vmap(grad(partial(_patient_loss, model)), in_dims=(None, 0))
    total = np.zeros(dimension, dtype=np.int64)
    for chunk in _chunks(tokens, max(1, _CHUNK_BYTES // (_FLOAT32 * dimension))):
        parts = gradient(parameters, chunk)
        rows = torch.cat([parts[name].flatten(start_dim=1) for name in parameters], dim=1)
        total += quantise(rows.numpy(), clip=clip, ring_norm=ring_norm)
    return total


def unclipped_sum(
    model: EventTransformer, tokens: NDArray[np.int64], *, scale: float, saturation: int
) -> NDArray[np.int64]:
    """Return the patients' summed gradients times `scale`, rounded, each coordinate within +-`saturation`.

    For `privacy = "none"` alone: nothing bounds what one patient adds.
    """
    parameters = list(model.parameters())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    for chunk in _chunks(tokens, len(tokens)):
        parts = torch.autograd.grad(loss(model(chunk), chunk).sum(), parameters)
        total += torch.cat([part.flatten() for part in parts])
    scaled = np.nan_to_num(total.numpy() * scale, nan=0.0, posinf=saturation, neginf=-saturation)
    return np.clip(np.rint(scaled), -saturation, saturation).astype(np.int64)


def _patient_loss(model: EventTransformer, parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
    return loss(functional_call(model, parameters, (tokens,)), tokens)


def _chunks(tokens: NDArray[np.int64], at_most: int) -> Iterator[Tensor]:
    """Yield the patients in chunks of one width each: the patient's length, rounded up to a multiple of 16.

    So a patient's integers do not depend on who else was sampled, not even by a float's last place. A width
    that fits a chunk's longest would let one patient's presence move the others' gradients.
    """
    lengths = (tokens != PAD).sum(axis=1)
    widths = np.minimum(-(-lengths // _WIDTH) * _WIDTH, tokens.shape[1])
    size = max(1, min(at_most, _CHUNK_PATIENTS))
    for width in np.unique(widths):
        same = tokens[widths == width, :width]
        for start in range(0, len(same), size):
            yield torch.from_numpy(same[start : start + size])
