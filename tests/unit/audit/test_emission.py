"""Code sets and estimators on a model of our own, and what they refuse."""

from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.chains import CodeSet, counted, first_hit, set_avoiding
from oathbound.audit.emission import Counting, Departing, FirstHit, Prompt, SetAvoiding
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.shape import EventTransformer as Shape
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build

TOKENIZER = Tokenizer(
    Vocabulary(codes=tuple(f"C{i}" for i in range(8)), edges={}, ages=(Decimal(50),), gaps=())
)
FIRST = TOKENIZER.size - 8
EOS = TOKENIZER.eos


@pytest.fixture(scope="module")
def target():
    shape = Shape(name="event-transformer", layers=1, width=16, heads=2, length=12, seed=3)
    return EventTarget(build(shape, TOKENIZER.size), TOKENIZER)


def exact_bound(target, prompt, stating, horizon):
    """sum_t prod_{s<t} p(x_s) p_t(S), by one forward pass of the whole record."""
    record = torch.tensor([*prompt.tokens, *prompt.path])
    with torch.inference_mode():
        probabilities = target._model(record[None]).softmax(-1)[0].double().numpy()
    on, bound = 1.0, 0.0
    for t in range(horizon):
        at = len(prompt.tokens) - 1 + t
        bound += on * probabilities[at, list(stating)].sum()
        if t >= len(prompt.path) or prompt.path[t] in {*stating, EOS}:
            break
        on *= probabilities[at, prompt.path[t]]
    return bound


PROMPTS = [
    Prompt((1, FIRST), (FIRST + 1, FIRST + 2, FIRST + 7, FIRST)),
    Prompt((1, FIRST + 3, FIRST), (FIRST + 1, EOS)),
    Prompt((1, FIRST + 1), (FIRST + 2, FIRST + 2)),
    Prompt((1, FIRST + 4), ()),
]


def test_the_bound_is_that_of_one_forward_pass(target):
    stating = (FIRST + 7, FIRST + 6)
    codes = CodeSet.of(target, [(token,) for token in stating])
    (bounds,), (most,) = Departing(target).bounds(PROMPTS, [codes], horizon=5)
    expected = [exact_bound(target, prompt, stating, 5) for prompt in PROMPTS]
    np.testing.assert_allclose(bounds, expected, rtol=1e-5)
    rng = np.random.default_rng(0)
    (each,) = Departing(target).estimate(PROMPTS, [codes], horizon=5, chains=50, rng=rng)
    assert (bounds[:, None] <= each).all()
    assert (each <= most[:, None] + 1e-12).all()


def test_every_way_agrees_on_a_model_with_cached_steps(target):
    torch.set_num_threads(1)
    codes = [CodeSet.of(target, [(FIRST + 7,), (FIRST + 5, FIRST + 6)])]
    means, errors = [], []
    for way in (SetAvoiding(target), FirstHit(target, np.array([0.3])), Departing(target)):
        (each,) = way.estimate(PROMPTS, codes, horizon=6, chains=1500, rng=np.random.default_rng(1))
        means.append(each.mean(axis=1))
        errors.append(each.std(axis=1) / 1500**0.5)
    for i in (1, 2):
        assert (abs(means[i] - means[0]) <= 4.5 * np.hypot(errors[i], errors[0])).all()


def test_estimates_repeat_for_a_seed_and_stop_at_the_context(target):
    codes = [CodeSet.of(target, [(FIRST + 7,)])]
    full = Prompt((1, *[FIRST] * 11))
    for way in (SetAvoiding(target), FirstHit(target, np.zeros(1)), Departing(target)):
        options = {"horizon": 1000, "chains": 3}
        first, again = (
            way.estimate([*PROMPTS, full], codes, **options, rng=np.random.default_rng(2)) for _ in range(2)
        )
        np.testing.assert_array_equal(first, again)
        assert (first[:, -1] == 0).all()
        assert (first[:, :-1] > 0).all()


def test_one_walk_costs_as_many_tokens_for_many_sets(target):
    spent = []
    for count in (1, 8):
        sets = [CodeSet.of(target, [(FIRST + i,)]) for i in range(count)]
        before = target.tokens_pushed
        walk = FirstHit(target, np.zeros(count))
        walk.estimate([Prompt((EOS,))], sets, horizon=2, chains=5, rng=np.random.default_rng(3))
        spent.append(target.tokens_pushed - before)
    assert spent == [6, 6]  # the prompt once, and the first token of every chain


@pytest.mark.parametrize("spelling", [(), (-1,), (TOKENIZER.size,), (EOS,), (FIRST, EOS)])
def test_what_cannot_be_said_before_the_end_is_no_code(target, spelling):
    with pytest.raises(WrongInput, match="a code is spelled with"):
        CodeSet.of(target, [(FIRST,), spelling])


def test_a_set_without_codes_is_refused(target):
    with pytest.raises(NothingExamined, match="no codes"):
        CodeSet.of(target, [])


def test_mass_and_forbid_agree_and_count_a_token_once(target):
    """Two codes that end alike, one of them alone: the token's probability counts once."""
    a, b, c = FIRST, FIRST + 1, FIRST + 2
    codes = CodeSet.of(target, [(a, c), (b, a, c), (a, b), (b,), (c, c)])
    said = np.array([[b, a], [a, a], [c, b], [a, c]])
    probabilities = np.random.default_rng(4).dirichlet(np.ones(target.size), 4)
    mass = codes.mass(probabilities, said)
    expected = [[b, c], [b, c], [b], [b, c]]
    np.testing.assert_allclose(mass, [probabilities[i, e].sum() for i, e in enumerate(expected)])
    left = probabilities.copy()
    codes.forbid(left, said)
    np.testing.assert_allclose(probabilities.sum(axis=1) - left.sum(axis=1), mass)
    for token in range(target.size):
        stated = codes.stated(np.full(4, token), said)
        assert list(stated) == [token in e for e in expected]


def test_counting_stops_at_the_end_and_wants_a_whole_code(target):
    a, b = FIRST, FIRST + 1
    sets = [CodeSet.of(target, [(a,)]), CodeSet.of(target, [(a, b)])]
    said = np.array([[a, b, EOS], [EOS, a, b], [b, a, EOS], [b, b, a], [a, EOS, b]])
    np.testing.assert_array_equal(counted(said, sets=sets, eos=EOS), [[1, 0, 1, 1, 1], [1, 0, 0, 0, 0]])


class Sampled:
    eos, size, length, tokens_pushed = EOS, TOKENIZER.size, 12, 0
    tokenize = tokens_of = sample = None

    def __init__(self, rows):
        self.sample = lambda prompts, chains, horizon, _: np.full(
            (len(prompts) * chains + rows, horizon), FIRST
        )


def test_samples_of_another_number_are_refused(target):
    codes, rng = [CodeSet.of(target, [(FIRST,)])], np.random.default_rng(5)
    right = Counting(Sampled(0)).estimate(PROMPTS, codes, horizon=3, chains=2, rng=rng)
    assert right.shape == (1, 4, 2)
    assert (right == 1).all()
    with pytest.raises(WrongInput, match="other continuations than it was asked for"):
        Counting(Sampled(1)).estimate(PROMPTS, codes, horizon=3, chains=2, rng=rng)


class Certain:
    """Steps of a model that says one token for certain."""

    def __init__(self, token, chains):
        with np.errstate(divide="ignore"):
            self.logs = np.log(np.eye(4)[[token] * chains])

    def logprobs(self):
        return self.logs

    def append(self, tokens):
        pass


@pytest.mark.parametrize(("token", "expected"), [(3, 1.0), (2, 0.0), (0, 0.0)])
def test_certain_codes_and_certain_ends(token, expected):
    codes, rng = CodeSet(np.array([3])), np.random.default_rng(6)
    avoided = set_avoiding(Certain(token, 5), 5, codes=codes, eos=0, horizon=4, rng=rng)
    walked = first_hit(Certain(token, 5), 5, sets=[codes], eos=0, horizon=4, rng=rng)
    np.testing.assert_array_equal(avoided, np.full(5, expected))
    np.testing.assert_array_equal(walked.hit[0], np.full(5, expected))
    np.testing.assert_array_equal(walked.total[0], np.full(5, expected))
