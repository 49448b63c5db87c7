import numpy as np
import pytest
import torch

from oathbound.core.errors import WrongInput
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.models.model import flat, load_flat
from oathbound.models.transformer import PAD, build, loss, token_losses

SIZE = 20
SHAPE = {"name": "event-transformer", "layers": 2, "width": 16, "heads": 2, "length": 12, "seed": 5}


@pytest.fixture
def model():
    return build(Architecture(**SHAPE), SIZE)


@pytest.fixture
def tokens():
    return torch.randint(1, SIZE, (4, 12), generator=torch.Generator().manual_seed(1))


def test_a_later_token_never_changes_an_earlier_logit(model, tokens):
    before = model(tokens)
    for position in range(1, 12):
        changed = tokens.clone()
        changed[:, position:] = (changed[:, position:] + 3) % SIZE
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_padding_changes_neither_logits_nor_loss(model, tokens):
    short = tokens[:, :7]
    padded = torch.cat([short, torch.full((4, 5), PAD)], dim=1)
    assert torch.allclose(model(padded)[:, :7], model(short), atol=1e-6)
    assert torch.allclose(loss(model(padded), padded), loss(model(short), short), atol=1e-6)


def test_loss_is_the_mean_over_tokens_that_are_there(model, tokens):
    tokens[0, 5:] = PAD
    logits = model(tokens)
    probability = logits.softmax(-1)
    by_hand = [-torch.log(probability[0, t, tokens[0, t + 1]]) for t in range(4)]
    assert torch.allclose(loss(logits, tokens)[0], sum(by_hand) / 4)
    assert (token_losses(logits, tokens)[0, 4:] == 0).all()
    alone = torch.full((1, 3), PAD)
    assert loss(model(alone), alone).item() == 0


def test_first_weights_are_fixed_by_the_seed(model):
    again, other = build(Architecture(**SHAPE), SIZE), build(Architecture(**{**SHAPE, "seed": 6}), SIZE)
    assert np.array_equal(flat(model), flat(again))
    assert not np.array_equal(flat(model), flat(other))
    torch.manual_seed(9)
    assert np.array_equal(flat(build(Architecture(**SHAPE), SIZE)), flat(model))


def test_an_untrained_model_is_nearly_uniform(model, tokens):
    assert abs(loss(model(tokens), tokens).mean().item() - np.log(SIZE)) < 0.3


def test_weights_round_trip_through_one_vector(model, tokens):
    vector = flat(model)
    other = build(Architecture(**{**SHAPE, "seed": 6}), SIZE)
    load_flat(other, vector)
    assert torch.equal(other(tokens), model(tokens))
    vector += 1
    assert not np.array_equal(flat(model), vector)


@pytest.mark.parametrize("bad", [lambda v: v[:-1], lambda v: v.astype(np.float64), lambda v: v[None]])
def test_another_vector_is_refused(model, bad):
    with pytest.raises(WrongInput, match="float32 weights"):
        load_flat(model, bad(flat(model)))
