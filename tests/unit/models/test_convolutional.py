import math

import numpy as np
import pytest
import torch

from oathbound.core.shape import BeatNet, Recordings, ScanNet
from oathbound.models import convolutional
from oathbound.models.convolutional import build
from oathbound.models.model import flat
from oathbound.train.clip import clipped_sum

torch.set_num_threads(1)

SCANS = Recordings.parse(
    {"shape": [9, 6], "most": 4, "centre": "0", "scale": "1", "classes": ["a", "b", "c"]}, what="recordings"
)
BEATS = SCANS.model_copy(update={"shape": (21,)})
CASES = [
    (ScanNet(name="scan-net", widths=(4, 8), seed=3), SCANS),
    (ScanNet(name="scan-net", widths=(12,), seed=3), SCANS),
    (BeatNet(name="beat-net", widths=(3, 5), activation="gelu", seed=3), BEATS),
    (BeatNet(name="beat-net", widths=(2, 3, 4), activation="square", seed=3), BEATS),
]
each_model = pytest.mark.parametrize(("architecture", "seen"), CASES)
RING_NORM = 2**14


def rows(seen, patients=20, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(patients, seen.most, seen.width + 1)).astype(np.float16)
    rows[..., -1] = rng.integers(len(seen.classes), size=(patients, seen.most))
    rows[..., -1][rng.random((patients, seen.most)) < 0.4] = np.nan
    rows[::7, :, -1] = np.nan
    return rows


@each_model
def test_first_weights_are_counted_public_and_fixed(architecture, seen):
    model = build(architecture, seen)
    assert architecture.weights(seen) == flat(model).size
    assert np.array_equal(flat(model), flat(build(architecture, seen)))
    assert not np.array_equal(flat(model), flat(build(architecture.model_copy(update={"seed": 4}), seen)))
    assert not model.head.bias.any()
    assert abs(model.head.weight).max().item() <= math.sqrt(3 / model.head.weight.shape[1])


@each_model
def test_a_loss_is_the_mean_over_labelled_recordings(architecture, seen):
    model, data = build(architecture, seen), rows(seen)
    losses = model.losses(torch.from_numpy(data)).detach().numpy()
    for row, loss in zip(data, losses, strict=True):
        labelled = row[~np.isnan(row[:, -1])]
        each = []
        for recording in labelled:
            odds = model(torch.from_numpy(recording[None, :-1]).float())[0].detach().double().numpy()
            each.append(np.log(np.exp(odds).sum()) - odds[int(recording[-1])])
        assert loss == pytest.approx(np.mean(each) if each else 0.0, abs=1e-5)
    assert (losses[::7] == 0).all()
    assert not clipped_sum(model, data[::7], clip=1.0, ring_norm=RING_NORM).any()


@each_model
@pytest.mark.parametrize("at_once", [2**20, 2])
def test_rows_that_are_alike_lose_no_labelled_recording(at_once, architecture, seen, monkeypatch):
    monkeypatch.setattr(convolutional, "_AT_ONCE", at_once * 8 * (seen.width + 1))
    model, data = build(architecture, seen), rows(seen)
    groups = list(model.alike(data))
    assert {group.shape[1] for group in groups} == {1, 2, 4}
    assert max(map(len, groups)) <= at_once * 8
    assert max(len(group) for group in groups if group.shape[1] == 4) <= at_once * 2
    assert sum(map(len, groups)) == len(data)
    apart = torch.cat([model.losses(torch.from_numpy(group)) for group in groups])
    torch.testing.assert_close(apart.sort().values, model.losses(torch.from_numpy(data)).sort().values)


@each_model
def test_the_sum_is_that_of_patients_clipped_one_by_one(architecture, seen, check_sums):
    model, data = build(architecture, seen), rows(seen)
    check_sums(model, data)


@each_model
def test_a_patient_adds_the_same_integers_but_for_the_last_place_whoever_else_was_sampled(architecture, seen):
    model, data = build(architecture, seen), rows(seen, 60)
    alone = [clipped_sum(model, row[None], clip=0.1, ring_norm=RING_NORM) for row in data]
    rng = np.random.default_rng(4)
    for size in (2, 3, 17, 60):
        some = rng.permutation(60)[:size]
        got = clipped_sum(model, data[some], clip=0.1, ring_norm=RING_NORM)
        assert np.abs(got - sum(alone[i] for i in some)).max() <= size


def test_a_square_is_a_polynomial():
    """Of degree 2 after one layer: its third differences along a line are zero, and those of gelu are not."""
    point, step = torch.randn(2, 21, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    line = torch.stack([point + place * step for place in range(4)])
    for activation, polynomial in (("square", True), ("gelu", False)):
        net = BeatNet(name="beat-net", widths=(3,), activation=activation, seed=1)
        odds = build(net, BEATS).double()(line)
        third = odds[3] - 3 * odds[2] + 3 * odds[1] - odds[0]
        assert bool(third.abs().max() < 1e-9) == polynomial


def pulses(rng, patients, most):
    """Return invented beats of two shapes: an upright peak, or a wide one after a dip, with noise."""
    time = np.linspace(-1, 1, 64)
    label = rng.integers(2, size=(patients, most))
    narrow = np.exp(-((time / 0.08) ** 2))
    wide = np.exp(-((time / 0.25) ** 2)) - 0.6 * np.exp(-(((time + 0.5) / 0.15) ** 2))
    values = np.where(label[..., None] == 1, wide, narrow) * rng.uniform(0.7, 1.3, (patients, most, 1))
    values = values + rng.normal(0, 0.15, values.shape) + rng.normal(0, 0.2, (patients, most, 1)) * time
    return np.concatenate([values, label[..., None]], axis=-1).astype(np.float16)


@pytest.mark.parametrize("activation", ["gelu", "square"])
def test_a_beat_net_learns_shapes(activation):
    seen = BEATS.model_copy(update={"shape": (64,), "most": 6, "classes": ("narrow", "wide")})
    model = build(BeatNet(name="beat-net", widths=(4, 8), activation=activation, seed=1), seen)
    rng = np.random.default_rng(2)
    train, test = (torch.from_numpy(pulses(rng, patients, 6)) for patients in (80, 100))
    descent = torch.optim.Adam(model.parameters(), lr=0.01)
    before = accuracy(model, test)
    for _ in range(30):
        descent.zero_grad()
        model.losses(train).mean().backward()
        descent.step()
    assert before < 0.8
    assert accuracy(model, test) > 0.95


def accuracy(model, data):
    with torch.no_grad():
        odds = model(data[..., :-1].float().flatten(end_dim=1))
    return (odds.argmax(dim=-1) == data[..., -1].flatten()).float().mean().item()
