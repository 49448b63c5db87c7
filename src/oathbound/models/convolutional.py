"""Convolutional classifiers of recordings: `ScanNet` in two dimensions, `BeatNet` in one.

ScanNet has residual blocks in the order of He et al. 2016b and group normalisation (Wu and He 2018): it mixes
no two scans, as patient-level gradients need. BeatNet halves its signal by strides, has no normalisation, and
can square in the place of GELU (Gilad-Bachrach et al. 2016): what is left are sums and products.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oathbound.core import shape
from oathbound.core.shape import GROUP, KERNEL, REACH, Recordings
from oathbound.models.model import Model, Rows, fill_uniform

_AT_ONCE: Final = 2**20
"""Numbers that go through a network together; each layer makes some times as many, and keeps them."""


class Recogniser(Model):
    """Log-odds of each recording's class; `forward` maps values (n, numbers) to them (n, classes).

    A row is (most, numbers + 1): of each recording its values, then the number of its class, or NaN.
    """

    head: nn.Linear

    @abstractmethod
    def features(self, values: Tensor) -> Tensor:
        """Map values (n, numbers) to what the last layer sees of each recording, (n, features)."""

    def forward(self, values: Tensor) -> Tensor:
        """Map values (n, numbers) to log-odds (n, classes)."""
        odds: Tensor = self.head(self.features(values))
        return odds

    def losses(self, rows: Tensor) -> Tensor:
        """Return the mean of -log P(class | recording) in nats over the labelled, (...); 0 where none is."""
        values, label = rows[..., :-1].float(), rows[..., -1]
        known = ~label.isnan()
        scores = self(values.flatten(end_dim=-2)).log_softmax(dim=-1).unflatten(0, values.shape[:-1])
        number = torch.where(known, label, 0.0).long()
        each = -scores.gather(-1, number.unsqueeze(-1)).squeeze(-1)
        return torch.where(known, each, 0.0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)

    def alike(self, rows: Rows) -> Iterator[Rows]:
        """Yield the rows by how many recordings are labelled, rounded up to a power of two; these first.

        So many at once that memory is enough for scans of any size.
        """
        unknown = np.isnan(rows[..., -1])
        labelled = rows.shape[1] - unknown.sum(axis=1)
        widths = np.minimum(2 ** np.ceil(np.log2(labelled.clip(min=1))).astype(int), rows.shape[1])
        order = np.argsort(unknown, axis=1, kind="stable")
        for width in np.unique(widths):
            these = np.flatnonzero(widths == width)
            step = max(_AT_ONCE // (int(width) * rows.shape[2]), 1)
            for some in (these[start : start + step] for start in range(0, len(these), step)):
                yield np.take_along_axis(rows[some], order[some, :width, None], axis=1)


class Block(nn.Module):
    """A residual block that halves rows and columns: two convolutions beside one of single pixels."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(wide // GROUP, wide)
        self.conv1 = nn.Conv2d(wide, out, KERNEL, stride=2, padding=KERNEL // 2, bias=False)
        self.norm2 = nn.GroupNorm(out // GROUP, out)
        self.conv2 = nn.Conv2d(out, out, KERNEL, padding=KERNEL // 2, bias=False)
        self.beside = nn.Conv2d(wide, out, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, wide, rows, columns) to (n, out, half the rows, half the columns), rounded up."""
        x = functional.gelu(self.norm1(x), approximate="tanh")
        inner: Tensor = self.conv2(functional.gelu(self.norm2(self.conv1(x)), approximate="tanh"))
        result: Tensor = inner + self.beside(x)
        return result


class ScanNet(Recogniser):
    """A first convolution, residual blocks, and a linear layer on the mean over all places."""

    def __init__(self, architecture: shape.ScanNet, recordings: Recordings) -> None:
        super().__init__()
        self.architecture = architecture
        self.sides = recordings.shape
        first, last = architecture.widths[0], architecture.widths[-1]
        self.first = nn.Conv2d(1, first, KERNEL, padding=KERNEL // 2, bias=False)
        self.blocks = nn.ModuleList(Block(wide, out) for wide, out in pairwise((first, *architecture.widths)))
        self.norm = nn.GroupNorm(last // GROUP, last)
        self.head = nn.Linear(last, len(recordings.classes))

    def features(self, values: Tensor) -> Tensor:
        """Return the mean of each channel over all places."""
        x = self.first(values.reshape(-1, 1, *self.sides))
        for block in self.blocks:
            x = block(x)
        return functional.gelu(self.norm(x), approximate="tanh").mean(dim=(-2, -1))


class BeatNet(Recogniser):
    """Strided convolutions, and a linear layer on all that they leave: a beat is aligned, so places count."""

    def __init__(self, architecture: shape.BeatNet, recordings: Recordings) -> None:
        super().__init__()
        self.architecture = architecture
        self.squares = architecture.activation == "square"
        self.layers = nn.ModuleList(
            nn.Conv1d(wide, out, REACH, stride=2, padding=REACH // 2)
            for wide, out in pairwise((1, *architecture.widths))
        )
        self.head = nn.Linear(architecture.flattened(recordings), len(recordings.classes))

    def features(self, values: Tensor) -> Tensor:
        """Return every channel at every place."""
        x = values.unsqueeze(-2)
        for layer in self.layers:
            x = layer(x)
            x = x.square() if self.squares else functional.gelu(x, approximate="tanh")
        return x.flatten(start_dim=-2)


def unfilled(architecture: shape.Recogniser, recordings: Recordings) -> Recogniser:
    """Return the model whose weights are still to be loaded."""
    if isinstance(architecture, shape.ScanNet):
        return ScanNet(architecture, recordings)
    return BeatNet(architecture, recordings)


def build(architecture: shape.Recogniser, recordings: Recordings) -> Recogniser:
    """Return the model with its first weights, fixed by its seed.

    Kernels and matrices are uniform of variance 1 / inputs, norms 1, the rest 0. What follows a square has a
    third of that variance: the square of a normal number of variance 1 has a second moment of 3.
    """
    model = unfilled(architecture, recordings)
    matrices = []
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            inputs = parameter[0].numel()
            squared = isinstance(model, BeatNet) and model.squares and name != "layers.0.weight"
            matrices.append((parameter, 1 / math.sqrt(3 * inputs if squared else inputs)))
        else:
            nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    fill_uniform(matrices, seed=architecture.seed)
    return model
