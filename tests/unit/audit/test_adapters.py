"""Adapters of what others bring: wrong answers are refused, and never become scores."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="audits are an extra")

from oathbound.audit.adapters.callable import CallableTarget
from oathbound.audit.adapters.classifier import ClassifierTarget
from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.adapters.own import EventTarget
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer, Features, Vocabulary
from oathbound.models.features import FeatureEncoder
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build

FEATURES = Features.parse({"present": ["A"], "numbers": [], "label": {"code": "B"}}, what="features")
ENCODER = FeatureEncoder(FEATURES)
PEOPLE = [
    Patient(1, (Event(None, "A", None), Event(None, "B", None))),
    Patient(2, (Event(None, "A", None),)),
]
MAP = CodeMap(format="oathbound/codes/v1", tokens={"A": 3, "B": 4})
BOOK = PlainCodes(MAP, bos=1, eos=2)


class Fixed:
    def __init__(self, answer, classes=None):
        self.answer = np.array(answer)
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict_proba(self, features):
        return self.answer[: len(features)]


def test_a_classifier_is_asked_for_the_label():
    scores = ClassifierTarget(Fixed([[0.25, 0.75], [0.4, 0.6]]), ENCODER).record_logprobs(PEOPLE)
    np.testing.assert_allclose(scores, np.log([0.75, 0.4]))


def test_classes_may_stand_in_any_order():
    classifier = Fixed([[0.75, 0.25], [0.6, 0.4]], classes=[1, 0])
    scores = ClassifierTarget(classifier, ENCODER).record_logprobs(PEOPLE)
    np.testing.assert_allclose(scores, np.log([0.75, 0.4]))


def test_a_certainty_that_is_wrong_has_a_finite_score():
    scores = ClassifierTarget(Fixed([[1.0, 0.0], [1.0, 0.0]]), ENCODER).record_logprobs(PEOPLE)
    assert np.isfinite(scores).all()
    assert scores[0] < -80


@pytest.mark.parametrize(
    ("answer", "classes"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], None),
        ([[np.nan, 1.0], [0.5, 0.5]], None),
        ([[-0.5, 1.5], [0.5, 0.5]], None),
        ([0.5, 0.5], None),
        ([[0.5, 0.5]], None),
        ([[1.0], [1.0]], None),
        ([[0.5, 0.5], [0.5, 0.5]], ["no", "yes"]),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 1, 2]),
    ],
)
def test_answers_that_are_no_probabilities_of_the_labels(answer, classes):
    with pytest.raises(WrongInput):
        ClassifierTarget(Fixed(answer, classes), ENCODER).record_logprobs(PEOPLE)


@pytest.mark.parametrize(
    "logits",
    [
        lambda tokens: np.zeros((*tokens.shape, 4)),
        lambda tokens: np.zeros((*tokens.shape, 5), dtype=int),
        lambda tokens: np.zeros(tokens.shape),
        lambda tokens: np.full((*tokens.shape, 5), np.nan),
    ],
)
def test_a_function_whose_answers_are_no_logits(logits):
    target = CallableTarget(logits, BOOK, length=8)
    with pytest.raises(WrongInput):
        target.token_logprobs([target.tokenize(PEOPLE[0])])


def test_fewer_logits_than_tokens():
    with pytest.raises(WrongInput, match="more tokens than"):
        CallableTarget(lambda tokens: tokens, BOOK, length=8, size=4)


def test_logits_that_are_log_probabilities_already_stay_what_they_are():
    logs = np.log(np.array([0.1, 0.2, 0.3, 0.25, 0.15]))
    target = CallableTarget(lambda tokens: np.broadcast_to(logs, (*tokens.shape, 5)).copy(), BOOK, length=8)
    scores = target.token_logprobs([(1, 3, 4, 2)])
    np.testing.assert_allclose(scores.logprob[0], logs[[3, 4, 2]], atol=1e-5)


def test_a_token_that_never_comes_adds_nothing_to_the_mean():
    logs = np.array([-np.inf, 0.0, 0.0, 0.0, 0.0])
    target = CallableTarget(lambda tokens: np.broadcast_to(logs, (*tokens.shape, 5)).copy(), BOOK, length=8)
    scores = target.token_logprobs([(1, 3, 2)])
    np.testing.assert_allclose(scores.mean[0], np.log(1 / 4), atol=1e-5)
    np.testing.assert_allclose(scores.deviation[0], 0, atol=1e-3)


def test_plain_codes_are_the_record_in_order():
    record = Patient(1, (Event(None, "B", None), Event(None, "X", None), Event(None, "A", 3.0)))
    assert BOOK.encode(record, 8) == (1, 4, 3, 2)
    assert BOOK.encode(record, 3) == (1, 4, 3)
    assert BOOK.encode(Patient(1, ()), 8) == (1, 2)
    knowing = PlainCodes(MAP.model_copy(update={"unknown": 7}), bos=1, eos=2)
    assert knowing.encode(record, 8) == (1, 4, 7, 3, 2)
    assert (BOOK.size, knowing.size) == (5, 8)


@pytest.mark.parametrize("special", [{"bos": 1, "eos": 1}, {"bos": 3, "eos": 2}, {"bos": 1, "eos": 4}])
def test_special_tokens_are_tokens_of_their_own(special):
    with pytest.raises(WrongInput, match="two tokens"):
        PlainCodes(MAP, **special)


def test_our_own_scoring_restates_the_model():
    torch = pytest.importorskip("torch")
    vocabulary = Vocabulary(codes=("A", "B"), edges={}, ages=(), gaps=())
    architecture = EventTransformer(name="event-transformer", layers=3, width=16, heads=4, length=16, seed=1)
    model = build(architecture, vocabulary.size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    target = EventTarget(model, Tokenizer(vocabulary))
    tokens = torch.randint(vocabulary.size, (5, 16), generator=torch.Generator().manual_seed(1))
    hidden = target._hidden(tokens, torch.full((5,), 16))
    torch.testing.assert_close(target._head(hidden), model(tokens), atol=1e-5, rtol=1e-4)


def test_a_sample_ends_at_eos_and_at_the_context():
    certain = np.where(np.arange(5) == 3, 0.0, -50.0)

    def logits(tokens):
        return np.broadcast_to(certain, (*tokens.shape, 5)).copy()

    drawn = CallableTarget(logits, BOOK, length=6).sample(np.array([[1, 4]]), 2, 10, seed=1)
    assert drawn.tolist() == 2 * [[3, 3, 3, 3, 2, 2, 2, 2, 2, 2]]
