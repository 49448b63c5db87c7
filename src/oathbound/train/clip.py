"""What one site adds to a step before noise: the sum over sampled patients of their gradients, on the ring.

A patient's gradient is that of the model's mean loss on the patient, so a long record weighs as much as a
short one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from oathbound.hazmat.ring import quantise
from oathbound.models.model import Model, Rows

_CHUNK_BYTES: Final = 48 * 1024 * 1024
_CHUNK_PATIENTS: Final = 128
_FLOAT32: Final = 4


class _Losses(nn.Module):
    """A model whose forward pass is its losses: what `functional_call` can call."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        return self.model.losses(rows)


def clipped_sum(model: Model, rows: Rows, *, clip: float, ring_norm: int) -> NDArray[np.int64]:
    """Return the sum of the patients' gradients, each of ring norm at most `ring_norm`: int64 [d].

    `rows` has one row a patient, as the model sees it; the sum over no patients is zero. Patients' gradients
    are computed together in chunks of bounded memory (Lee and Kifer 2021; Subramani et al. 2021; `vmap`).
    """
    losses = _Losses(model)
    parameters = {name: parameter.detach() for name, parameter in losses.named_parameters()}
    dimension = sum(parameter.numel() for parameter in parameters.values())
    gradient = vmap(grad(partial(_patient_loss, losses)), in_dims=(None, 0))
    total = np.zeros(dimension, dtype=np.int64)
    size = min(max(1, _CHUNK_BYTES // (_FLOAT32 * dimension)), _CHUNK_PATIENTS)
    for chunk in _chunks(model, rows, size):
        parts = gradient(parameters, _filled(chunk, size) if model.even else chunk)
        each = torch.cat([parts[name][: len(chunk)].flatten(start_dim=1) for name in parameters], dim=1)
        total += quantise(each.numpy(), clip=clip, ring_norm=ring_norm)
    return total


def unclipped_sum(model: Model, rows: Rows, *, scale: float, saturation: int) -> NDArray[np.int64]:
    """Return the patients' summed gradients times `scale`, rounded, each coordinate within +-`saturation`.

    For `privacy = "none"` alone: nothing bounds what one patient adds.
    """
    parameters = list(model.parameters())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    for chunk in _chunks(model, rows, _CHUNK_PATIENTS):
        parts = torch.autograd.grad(model.losses(chunk).sum(), parameters)
        total += torch.cat([part.flatten() for part in parts])
    scaled = np.nan_to_num(total.numpy() * scale, nan=0.0, posinf=saturation, neginf=-saturation)
    return np.clip(np.rint(scaled), -saturation, saturation).astype(np.int64)


def _patient_loss(losses: _Losses, parameters: dict[str, Tensor], row: Tensor) -> Tensor:
    loss: Tensor = functional_call(losses, parameters, (row,))
    return loss


def _filled(chunk: Tensor, size: int) -> Tensor:
    """Return the chunk with rows of zeros after it, `size` rows in all."""
    return torch.cat([chunk, chunk.new_zeros((size - len(chunk), *chunk.shape[1:]))])


def _chunks(model: Model, rows: Rows, size: int) -> Iterator[Tensor]:
    """Yield the patients in chunks of at most `size` rows that are alike.

    So a patient's integers depend on who else was sampled by a float's last place at most (LIMITATIONS.md).
    """
    for same in model.alike(rows):
        for start in range(0, len(same), size):
            yield torch.from_numpy(same[start : start + size])
