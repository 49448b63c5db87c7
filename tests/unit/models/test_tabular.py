import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.shape import Features, LogisticRegression, TabularNet
from oathbound.models.folder import read_model, write_model
from oathbound.models.model import flat
from oathbound.models.tabular import build
from oathbound.train.clip import clipped_sum

# small matrices are slower on several threads, and much slower on a busy machine
torch.set_num_threads(1)

NET = TabularNet(name="tabular-net", hidden=(16, 8), seed=3)
LINEAR = LogisticRegression(name="logistic-regression")
WIDTH = 5
RING_NORM = 2**14


def rows(patients=200, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(patients, WIDTH + 1)).astype(np.float32)
    rows[:, -1] = rng.random(patients) < 0.4
    rows[::7, -1] = np.nan
    return rows


def test_logistic_regression_begins_at_nothing():
    model = build(LINEAR, WIDTH)
    assert flat(model).tolist() == [0.0] * (WIDTH + 1)
    losses = model.losses(torch.from_numpy(rows()))
    unknown = np.isnan(rows()[:, -1])
    assert losses.detach().numpy()[~unknown] == pytest.approx(math.log(2))


def test_first_weights_are_public_and_fixed():
    model = build(NET, WIDTH)
    assert np.array_equal(flat(model), flat(build(NET, WIDTH)))
    assert not np.array_equal(flat(model), flat(build(NET.model_copy(update={"seed": 4}), WIDTH)))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["layers.0.weight"] == (16, WIDTH)
    assert shapes["layers.2.weight"] == (1, 8)
    assert abs(model.layers[0].weight).max().item() <= math.sqrt(3 / WIDTH)
    assert not model.layers[1].bias.any()


@pytest.mark.parametrize("architecture", [NET, LINEAR])
def test_losses_are_binary_cross_entropy_and_zero_without_a_label(architecture):
    model = build(architecture, WIDTH)
    data = torch.from_numpy(rows())
    known = ~data[:, -1].isnan()
    expected = functional.binary_cross_entropy(
        model(data[known, :-1]).sigmoid(), data[known, -1], reduction="none"
    )
    losses = model.losses(data)
    assert losses.shape == (200,)
    torch.testing.assert_close(losses[known], expected)
    assert not losses[~known].any()
    total = clipped_sum(model, rows()[::7], clip=1.0, ring_norm=RING_NORM)
    assert not total.any()  # nobody there has a label, so nobody adds anything


@pytest.mark.parametrize("architecture", [NET, LINEAR])
def test_the_sum_is_that_of_patients_clipped_one_by_one(architecture, check_sums):
    model, data = build(architecture, WIDTH), rows()
    check_sums(model, data)


@pytest.mark.parametrize("hidden", [(), (16, 8), (64, 64)])
def test_a_patient_adds_the_same_integers_whoever_else_was_sampled(hidden):
    architecture = TabularNet(name="tabular-net", hidden=hidden, seed=3) if hidden else LINEAR
    model = build(architecture, WIDTH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    data = rows(300)
    alone = [clipped_sum(model, row[None], clip=0.1, ring_norm=RING_NORM) for row in data]
    rng = np.random.default_rng(4)
    for size in (2, 3, 17, 64, 100, 131, 300):
        some = rng.permutation(300)[:size]
        got = clipped_sum(model, data[some], clip=0.1, ring_norm=RING_NORM)
        assert np.array_equal(got, sum(alone[i] for i in some)), size


@pytest.fixture
def features():
    plain = {
        "present": ["a", "b", "c"],
        "numbers": [{"code": "n", "centre": "0", "scale": "1", "missing": ["0"]}],
        "label": {"code": "ill"},
    }
    return Features.parse(plain, what="features")


@pytest.mark.parametrize("architecture", [NET, LINEAR])
def test_a_classifier_in_its_folder_is_read_as_it_was_written(tmp_path, features, architecture):
    model = build(architecture, WIDTH)
    written = write_model(tmp_path / "m", model, features)
    loaded = read_model(tmp_path / "m")
    assert loaded.digest == written
    assert loaded.encoder.seen == features
    assert np.array_equal(flat(loaded.model), flat(model))
    data = torch.from_numpy(rows())
    assert torch.equal(loaded.model.losses(data), model.losses(data))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "config.json",
        "features.json",
        "model.safetensors",
    ]


def test_a_classifier_needs_its_own_features(tmp_path, features):
    write_model(tmp_path / "m", build(LINEAR, WIDTH), features)
    path = tmp_path / "m" / "features.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, sort_keys=True))
    with pytest.raises(NotAuthentic):
        read_model(tmp_path / "m")
    content["present"] = ["a", "b"]
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")))
    with pytest.raises(WrongInput, match=r"features\.json describe"):
        read_model(tmp_path / "m")
    path.rename(tmp_path / "m" / "vocabulary.json")
    with pytest.raises(WrongInput, match=r"no file features\.json"):
        read_model(tmp_path / "m")
