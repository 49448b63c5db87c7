import numpy as np
import pytest
import torch

from oathbound.core.shape import EventTransformer as Architecture
from oathbound.hazmat.ring import quantise
from oathbound.models.transformer import PAD, build, loss
from oathbound.train import clip
from oathbound.train.clip import clipped_sum, unclipped_sum

# small matrices are slower on several threads, and much slower on a busy machine
torch.set_num_threads(1)

SIZE = 20
RING_NORM = 2**14


@pytest.fixture
def model():
    return build(Architecture(name="event-transformer", layers=2, width=16, heads=2, length=40, seed=5), SIZE)


@pytest.fixture
def tokens():
    rng = np.random.default_rng(3)
    rows = rng.integers(1, SIZE, (20, 40))
    for row, length in zip(rows, rng.integers(2, 41, 20), strict=True):
        row[length:] = PAD
    return rows


def one_by_one(model, tokens):
    rows = []
    for row in torch.from_numpy(tokens):
        parts = torch.autograd.grad(loss(model(row), row), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("bound", [0.1, 100.0])
def test_the_sum_is_that_of_patients_clipped_one_by_one(model, tokens, bound):
    expected = quantise(one_by_one(model, tokens), clip=bound, ring_norm=RING_NORM)
    got = clipped_sum(model, tokens, clip=bound, ring_norm=RING_NORM)
    # two ways to the same floats differ in the last places, which truncation can turn into one unit a patient
    assert np.abs(got - expected).max() <= 3
    assert np.abs(expected).max() > 50


def test_a_patient_adds_the_same_integers_whoever_else_was_sampled(model, tokens):
    rng = np.random.default_rng(4)
    alone = {row.tobytes(): clipped_sum(model, row[None], clip=0.1, ring_norm=RING_NORM) for row in tokens}
    for _ in range(10):
        some = tokens[rng.permutation(20)[: rng.integers(1, 20)]]
        expected = sum(alone[row.tobytes()] for row in some)
        assert np.array_equal(clipped_sum(model, some, clip=0.1, ring_norm=RING_NORM), expected)


def test_chunks_change_nothing(model, tokens, monkeypatch):
    whole = clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM)
    for name, value in (("_CHUNK_PATIENTS", 3), ("_CHUNK_BYTES", 1)):
        monkeypatch.setattr(clip, name, value)
        assert np.array_equal(clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM), whole)


@pytest.mark.parametrize("bound", [1e-4, 0.1, 1e4])
def test_no_patient_weighs_more_than_the_ring_norm(model, tokens, bound):
    for row in tokens:
        vector = clipped_sum(model, row[None], clip=bound, ring_norm=RING_NORM)
        assert int(vector @ vector) <= RING_NORM**2
        assert bound > 1 or int(vector @ vector) > 0.98 * RING_NORM**2


def test_a_patient_whose_gradient_is_not_finite_counts_as_zero(model, tokens):
    with torch.no_grad():
        model.tokens[19] = torch.inf
    tokens[tokens == 19] = 18
    tokens[0, 0] = 19
    assert not clipped_sum(model, tokens[:1], clip=0.1, ring_norm=RING_NORM).any()


def test_the_sum_over_nobody_is_zero(model, tokens):
    for total in (
        clipped_sum(model, tokens[:0], clip=1.0, ring_norm=RING_NORM),
        unclipped_sum(model, tokens[:0], scale=1.0, saturation=10),
    ):
        assert total.dtype == np.int64
        assert total.shape == (sum(p.numel() for p in model.parameters()),)
        assert not total.any()


def test_without_privacy_the_sum_is_plain_scaled_and_saturated(model, tokens):
    expected = one_by_one(model, tokens).sum(axis=0) * 1e4
    got = unclipped_sum(model, tokens, scale=1e4, saturation=2**30)
    assert np.abs(got - expected).max() < 1
    saturated = unclipped_sum(model, tokens, scale=1e4, saturation=100)
    assert np.abs(saturated).max() == 100
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    assert not unclipped_sum(model, tokens, scale=1.0, saturation=100).any()
