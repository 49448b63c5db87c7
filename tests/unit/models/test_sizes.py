"""The sizes that a policy says, without a model, are those of the models that are built."""

import pytest

from oathbound.core.shape import EventTransformer, LogisticRegression, TabularNet, Vocabulary
from oathbound.models import tabular, transformer
from oathbound.models.model import flat
from oathbound.models.tokenizer import Tokenizer


@pytest.mark.parametrize("edges", [{}, {"a": ["1"], "c": ["1", "2", "3"]}])
@pytest.mark.parametrize(("ages", "gaps"), [([], []), (["18", "60"], ["1", "7", "30"])])
def test_a_vocabulary_counts_its_tokens(edges, ages, gaps):
    vocabulary = Vocabulary.parse(
        {"codes": ["a", "b", "c"], "edges": edges, "ages": ages, "gaps": gaps}, what="vocabulary"
    )
    assert vocabulary.size == Tokenizer(vocabulary).size


@pytest.mark.parametrize(("layers", "width", "heads", "tokens"), [(1, 8, 2, 11), (3, 24, 4, 57)])
def test_a_transformer_counts_its_weights(layers, width, heads, tokens):
    shape = EventTransformer(
        name="event-transformer", layers=layers, width=width, heads=heads, length=8, seed=1
    )
    assert shape.weights(tokens) == flat(transformer.build(shape, tokens)).size


@pytest.mark.parametrize(
    "shape",
    [
        LogisticRegression(name="logistic-regression"),
        TabularNet(name="tabular-net", hidden=(5,), seed=1),
        TabularNet(name="tabular-net", hidden=(5, 7), seed=1),
    ],
)
def test_a_classifier_counts_its_weights(shape):
    assert shape.weights(9) == flat(tabular.build(shape, 9)).size
