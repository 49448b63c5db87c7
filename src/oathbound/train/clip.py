"""What one site adds to a step before noise: the sum over sampled patients of their gradients, on the ring.

A patient's gradient is that of the model's mean loss on the patient, so a long record weighs as much as a
short one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import zip_longest
from typing import Any, Final
from zlib import crc32

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

_NARROW: Final = 64
"""Up to so many channels, what oneDNN prepares for a convolution of one patient costs more than it gains."""


def clipped_sum(model: Model, rows: Rows, *, clip: float, ring_norm: int) -> NDArray[np.int64]:
    """Return the sum of the patients' gradients, each of ring norm at most `ring_norm`: int64 [d].

    `rows` has one row a patient, as the model sees it; the sum over no patients is zero.

    **What a patient adds is a function of the weights and of that patient's row alone, bit by bit**, so the
    sum moves by one patient's vector where one comes or leaves, at any weights. Libraries compute a row of a
    product by its place and by how many there are, and round accordingly: so a patient is computed alone, or,
    where the model says so, in a chunk of one shape at a place that follows from the patient's row.
    """
    dimension = sum(parameter.numel() for parameter in model.parameters())
    size = min(max(1, _CHUNK_BYTES // (_FLOAT32 * dimension)), model.together)
    gradients = _one_by_one(model) if size == 1 else _together(model)
    total = np.zeros(dimension, dtype=np.int64)
    for same in model.alike(rows):
        for chunk, times in _placed(same, size):
            total += quantise(gradients(chunk).numpy(), times, clip=clip, ring_norm=ring_norm)
    return total


def unclipped_sum(model: Model, rows: Rows, *, scale: float, saturation: int) -> NDArray[np.int64]:
    """Return the patients' summed gradients times `scale`, rounded, each coordinate within +-`saturation`.

    For `privacy = "none"` alone: nothing bounds what one patient adds.
    """
    gradient, _ = plain_sums(model, rows)
    scaled = np.nan_to_num(gradient * scale, nan=0.0, posinf=saturation, neginf=-saturation)
    return np.clip(np.rint(scaled), -saturation, saturation).astype(np.int64)


def plain_sums(model: Model, rows: Rows) -> tuple[NDArray[np.float64], float]:
    """Return the sum of the patients' gradients, float64 [d], and that of their losses, as they are."""
    parameters = list(model.parameters())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    losses = 0.0
    for chunk in _chunks(model, rows):
        loss = model.losses(chunk).sum()
        losses += loss.item()
        total += torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
    return total.numpy(), losses


class _Losses(nn.Module):
    """A model whose forward pass is its losses: what `functional_call` can call."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        return self.model.losses(rows)


def _one_by_one(model: Model) -> Callable[[Tensor], Tensor]:
    """Return what gives the gradient of the loss of a chunk's only row: float32 (1, d)."""
    parameters = list(model.parameters())
    channels = [kernel.shape[0] for kernel in parameters if kernel.dim() > 2]  # noqa: PLR2004 - not matrices
    computing = _without_onednn if 0 < max(channels, default=0) <= _NARROW else nullcontext

    def gradient(chunk: Tensor) -> Tensor:
        with computing():
            parts = torch.autograd.grad(model.losses(chunk[0]), parameters, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).unsqueeze(0)

    return gradient


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Compute convolutions as matrix products, in this process."""
    flags: Any = torch.backends.mkldnn  # untyped
    before, flags.enabled = flags.enabled, False
    try:
        yield
    finally:
        flags.enabled = before


def _together(model: Model) -> Callable[[Tensor], Tensor]:
    """Return what gives the gradient of each row's loss: float32 (rows, d).

    By `vmap` (Lee and Kifer 2021; Subramani et al. 2021): small models gain by it.
    """
    losses = _Losses(model)
    parameters = {name: parameter.detach() for name, parameter in losses.named_parameters()}
    each = vmap(grad(partial(_patient_loss, losses)), in_dims=(None, 0))

    def gradients(chunk: Tensor) -> Tensor:
        by_name = each(parameters, chunk)
        return torch.cat([by_name[name].flatten(start_dim=1) for name in parameters], dim=1)

    return gradients


def _patient_loss(losses: _Losses, parameters: dict[str, Tensor], row: Tensor) -> Tensor:
    loss: Tensor = functional_call(losses, parameters, (row,))
    return loss


def _placed(rows: Rows, size: int) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield the rows in chunks of `size`, each at its own place, and how often each occurs: 0 for a gap.

    Gaps are filled with zeros. Equal rows have equal gradients, so they are computed once.
    """
    queues: list[list[tuple[bytes, int]]] = [[] for _ in range(size)]
    for row, times in Counter(row.tobytes() for row in rows).items():
        queues[crc32(row) % size].append((row, times))
    gap = (bytes(rows[:1].nbytes), 0)
    for places in zip_longest(*queues, fillvalue=gap):
        chunk = np.frombuffer(bytearray().join(row for row, _ in places), dtype=rows.dtype)
        shaped = torch.from_numpy(chunk.reshape(size, *rows.shape[1:]))
        # a copy of torch's own, for how it lies in memory can decide how a product is computed
        yield shaped.clone(), [times for _, times in places]


def _chunks(model: Model, rows: Rows) -> Iterator[Tensor]:
    """Yield the patients in chunks of rows that are alike."""
    for same in model.alike(rows):
        for start in range(0, len(same), _CHUNK_PATIENTS):
            yield torch.from_numpy(same[start : start + _CHUNK_PATIENTS])
