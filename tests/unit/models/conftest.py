"""What every model's sums must be."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from oathbound.hazmat.ring import quantise
from oathbound.models.model import Model, Rows
from oathbound.train.clip import clipped_sum, unclipped_sum

RING_NORM = 2**14


@pytest.fixture
def check_sums() -> Callable[[Model, Rows], None]:
    """Return a function that compares a model's sums with the gradients of patients, one by one."""

    def check(model: Model, data: Rows) -> None:
        each = []
        for row in torch.from_numpy(data):
            parts = torch.autograd.grad(model.losses(row), list(model.parameters()))
            each.append(torch.cat([part.flatten() for part in parts]).numpy())
        expected = quantise(np.stack(each), clip=0.5, ring_norm=RING_NORM)
        got = clipped_sum(model, data, clip=0.5, ring_norm=RING_NORM)
        assert np.abs(got - expected).max() <= 5
        assert np.abs(expected).max() > 500
        plain = unclipped_sum(model, data, scale=1e4, saturation=2**30)
        assert np.abs(plain - np.stack(each).sum(axis=0) * 1e4).max() < 5

    return check
