import numpy as np
import torch

from oathbound.train.adam import Adam


def test_it_is_adam_as_torch_has_it():
    rng = np.random.default_rng(2)
    start = rng.normal(size=50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.Adam([parameter], lr=0.01)
    ours = Adam.at(start)
    for step in range(1, 40):
        gradient = rng.normal(size=50).astype(np.float32)
        parameter.grad = torch.tensor(gradient)
        theirs.step()
        ours = ours.stepped(gradient, step=step, rate=0.01)
    assert np.allclose(ours.weights, parameter.detach().numpy(), atol=1e-5)
    assert not np.allclose(ours.weights, start, atol=0.05)
    assert {vector.dtype for vector in (ours.weights, ours.first, ours.second)} == {np.dtype("float32")}


def test_a_state_is_a_value():
    start = Adam.at(np.ones(3, dtype=np.float32))
    start.stepped(np.ones(3, dtype=np.float32), step=1, rate=0.5)
    assert (start.weights == 1).all()
    assert not start.first.any()
