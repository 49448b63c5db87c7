from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.shape import Recordings, ScanNet, TabularNet
from oathbound.hazmat.ring import quantise
from oathbound.models import convolutional, tabular
from oathbound.models.transformer import PAD, build, loss
from oathbound.models.transformer import EventTransformer as Transformer
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


def hostile(width, hidden):
    """Return a classifier whose weights blow a last place up: two units cancel but for their rounding."""
    net = tabular.build(TabularNet(name="tabular-net", hidden=hidden, seed=1), width)
    with torch.no_grad():
        first, second = net.layers[:2]
        pattern = torch.randn(width, generator=torch.Generator().manual_seed(8)) / width**0.5
        first.weight[0], first.weight[1] = pattern, 1.1 * pattern
        first.bias[0], first.bias[1] = 50.0, 55.0
        second.weight[:, 0], second.weight[:, 1] = -1.1e12, 1e12
    return net


@pytest.mark.parametrize("together", [1, 8, 64])
@pytest.mark.parametrize(("width", "hidden"), [(7, (2,)), (300, (2, 8)), (301, (2,))])
def test_at_hostile_weights_who_leaves_moves_the_sum_by_their_own_vector(
    width, hidden, together, monkeypatch
):
    # in the order in which they come, the sum of these patients moved by up to 2.2 times the ring norm
    rng, net = np.random.default_rng(8), hostile(width, hidden)
    monkeypatch.setattr(tabular.Classifier, "together", together)
    rows = np.append(rng.normal(size=(128, width)), rng.integers(0, 2, (128, 1)), axis=1).astype(np.float32)
    alone = [clipped_sum(net, row[None], clip=0.1, ring_norm=RING_NORM) for row in rows]
    whole = clipped_sum(net, rows, clip=0.1, ring_norm=RING_NORM)
    assert whole.any()
    assert np.array_equal(whole, sum(alone))
    for gone in range(0, 128, 16):
        rest = clipped_sum(net, np.delete(rows, gone, axis=0), clip=0.1, ring_norm=RING_NORM)
        assert np.array_equal(whole - rest, alone[gone])


def test_equal_patients_count_as_often_as_they_occur(model, tokens):
    doubled = np.concatenate([tokens, tokens[3:4], tokens[3:4]])
    once = clipped_sum(model, tokens[3:4], clip=0.1, ring_norm=RING_NORM)
    without = clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM)
    assert np.array_equal(clipped_sum(model, doubled, clip=0.1, ring_norm=RING_NORM), without + 2 * once)


@pytest.mark.parametrize("together", [2, 5, 64])
def test_one_after_the_other_or_together_is_the_same_gradient(model, tokens, together, monkeypatch):
    alone = clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM)
    monkeypatch.setattr(Transformer, "together", together)
    assert np.abs(clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM) - alone).max() <= 3


def test_large_models_are_computed_one_by_one(model, tokens, monkeypatch):
    seen = []
    honest = clip._placed
    monkeypatch.setattr(clip, "_placed", lambda rows, size: seen.append(size) or honest(rows, size))
    monkeypatch.setattr(Transformer, "together", 8)
    clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM)
    monkeypatch.setattr(clip, "_CHUNK_BYTES", 1)
    clipped_sum(model, tokens, clip=0.1, ring_norm=RING_NORM)
    assert set(seen) == {8, 1}


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


@pytest.fixture
def scans():
    seen = Recordings(shape=(16, 16), most=2, centre=Decimal(0), scale=Decimal(1), classes=("ill", "well"))
    rows = np.random.default_rng(6).normal(size=(12, 2, 257)).astype(np.float16)
    rows[..., -1] = np.arange(24).reshape(12, 2) % 2
    return convolutional.build(ScanNet(name="scan-net", widths=(8, 16), seed=1), seen), rows


def test_a_patients_scans_add_the_same_integers_whoever_else_was_sampled(scans):
    model, rows = scans
    alone = [clipped_sum(model, row[None], clip=0.1, ring_norm=RING_NORM) for row in rows]
    for some in ([1, 5, 7], [7, 1], [*range(12)][::-1]):
        together = clipped_sum(model, rows[some], clip=0.1, ring_norm=RING_NORM)
        assert np.array_equal(together, sum(alone[place] for place in some))


def test_without_onednn_a_gradient_of_scans_is_the_same(scans, monkeypatch):
    model, rows = scans
    without = clipped_sum(model, rows, clip=0.1, ring_norm=RING_NORM)
    monkeypatch.setattr(clip, "_NARROW", 0)
    assert np.abs(clipped_sum(model, rows, clip=0.1, ring_norm=RING_NORM) - without).max() <= 2 * len(rows)
    assert np.abs(without).max() > 1000


@pytest.mark.parametrize("before", [True, False])
def test_onednn_is_used_afterwards_as_before(scans, monkeypatch, before):
    seen = []

    class StopError(Exception):
        pass

    def losses(_row):
        seen.append(torch.backends.mkldnn.enabled)
        raise StopError

    model, rows = scans
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", before)
    monkeypatch.setattr(model, "losses", losses)
    with pytest.raises(StopError):
        clipped_sum(model, rows, clip=0.1, ring_norm=RING_NORM)
    assert seen == [False]
    assert torch.backends.mkldnn.enabled is before
