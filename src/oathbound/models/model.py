"""What every model is to training and to its folder: weights, and a loss for each patient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oathbound.core.errors import WrongInput
from oathbound.core.shape import Architecture

Rows = NDArray[Any]
"""What a model sees of some patients, one row each: int64 tokens, or float32 features."""


class Model(nn.Module, ABC):
    """A torch module whose loss can be taken of one patient at a time."""

    architecture: Architecture

    together: ClassVar[int] = 1
    """How many patients' gradients are computed at once, by `torch.func.vmap`; 1: each alone.

    A patient has a place among them that somebody else may need at the same time, so places stay empty: many
    at once gain where a patient costs little beside the call."""

    @abstractmethod
    def losses(self, rows: Tensor) -> Tensor:
        """Return each patient's mean loss, in nats, shape (...), of rows of shape (..., columns)."""

    def alike(self, rows: Rows) -> Iterator[Rows]:
        """Yield the rows in groups that can be computed together, by a rule that looks at each row alone."""
        yield rows


def fill_uniform(matrices: Iterable[tuple[nn.Parameter, float]], *, seed: int) -> None:
    """Fill each matrix with uniform numbers of mean 0 and the standard deviation that stands beside it.

    They are made of 24-bit integers by exact operations alone, so that every processor with the same torch
    gets the same bits; the fast normal generators differ between processors in the last place.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for matrix, deviation in matrices:
            uniform = torch.rand(matrix.shape, generator=generator)
            matrix.copy_((uniform - 0.5) * (math.sqrt(12) * deviation))


def flat(model: nn.Module) -> NDArray[np.float32]:
    """Return a copy of all weights as one float32 vector, in the order of `named_parameters`."""
    with torch.no_grad():
        return torch.cat([parameter.flatten() for parameter in model.parameters()]).numpy()


def load_flat(model: nn.Module, vector: NDArray[np.float32]) -> None:
    """Set all weights from one float32 vector in the order of `flat`; `WrongInput` if it is not that."""
    parameters = list(model.parameters())
    expected = sum(parameter.numel() for parameter in parameters)
    if vector.dtype != np.float32 or vector.shape != (expected,):
        raise WrongInput(f"the model takes {expected} float32 weights")
    values = torch.split(torch.tensor(vector), [parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value.view_as(parameter))
