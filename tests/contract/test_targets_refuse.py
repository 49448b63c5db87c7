"""A suite for targets that nothing could fail would say nothing: each rule, and an adapter that breaks it."""

# ruff: noqa: ARG002 - what stands for an adapter takes what its Protocol gives it

import datetime as dt

import numpy as np
import pytest

pytest.importorskip("torch", reason="audits are an extra")

from oathbound.audit.adapters.callable import CallableTarget
from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.target import Samples, ScoresTokens, embedding, sampling, scoring, stepping
from oathbound.core.errors import NothingExamined, OathboundError
from oathbound.core.patient import Event, Patient
from oathbound.testing.contracts.targets import TargetContract

BROKEN = (AssertionError, OathboundError)
CODES = ("A", "B", "C", "D")
FIRST = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
TABLE = np.random.default_rng(5).normal(size=(12, 12))
MAP = CodeMap(format="oathbound/codes/v1", tokens={code: 4 + i for i, code in enumerate(CODES)}, unknown=3)
BOOK = PlainCodes(MAP, bos=1, eos=2, pad=0)


def people():
    draw = np.random.default_rng(3)
    return [
        Patient(
            number,
            tuple(
                Event(FIRST + dt.timedelta(days=day), str(code), None)
                for day, code in enumerate(draw.choice(CODES, size=2 + number))
            ),
        )
        for number in range(12)
    ]


def markov(tokens):
    return TABLE[tokens]


class Whole(CallableTarget):
    """A target that breaks no rule but those of whoever inherits it."""

    def __init__(self, logits=markov, book=BOOK):
        super().__init__(logits, book, length=16, size=12)


def sees_later(tokens):
    return TABLE[tokens] * (1 + 0.1 * (tokens[:, ::-1, None] % 5))


def sees_others(tokens):
    return TABLE[tokens] * (1 + 0.1 * len(tokens))


def sees_width(tokens):
    return TABLE[tokens] * (1 + 0.1 * tokens.shape[1])


def broken_number(tokens):
    return np.where(tokens[..., None] == 4, np.inf, TABLE[tokens])


class Shuffled(Whole):
    def token_logprobs(self, sequences):
        return super().token_logprobs(sorted(sequences, key=len))


class Unnormalised(Whole):
    def begin(self, prompts, chains):
        steps = super().begin(prompts, chains)
        logprobs = steps.logprobs
        steps.logprobs = lambda: logprobs() + 0.1
        return steps


class Above(Whole):
    def token_logprobs(self, sequences):
        scores = super().token_logprobs(sequences)
        scores.logprob[:] += 10
        return scores


class WrongMean(Whole):
    def token_logprobs(self, sequences):
        scores = super().token_logprobs(sequences)
        scores.mean[:] += 0.1
        return scores


class Entangled(Whole):
    def begin(self, prompts, chains):
        steps = super().begin(prompts, chains)
        append = steps.append
        steps.append = lambda tokens: append(np.repeat(tokens[::chains], chains))
        return steps


class Unseeded(Whole):
    def sample(self, prompts, chains, horizon, seed):
        return super().sample(prompts, chains, horizon, np.random.default_rng().integers(2**31))


class Stubborn(Whole):
    def sample(self, prompts, chains, horizon, seed):
        return super().sample(prompts, chains, horizon, 3)


class Nucleus(Whole):
    def sample(self, prompts, chains, horizon, seed):
        likely = np.exp(self.begin(prompts, chains).logprobs()).argmax(axis=1)
        return np.repeat(likely[:, None], horizon, axis=1)


class Restless(Whole):
    def sample(self, prompts, chains, horizon, seed):
        return np.random.default_rng(seed).integers(12, size=(len(prompts) * chains, horizon))


class Free(Whole):
    @property
    def tokens_pushed(self):
        return 0

    @tokens_pushed.setter
    def tokens_pushed(self, value):
        pass


class Lenient(PlainCodes):
    def tokens_of(self, code):
        return frozenset({self._tokens.get(code, 3)})


class Backwards(PlainCodes):
    def encode(self, patient, length):
        first, *others = super().encode(patient, length)
        return (first, *reversed(others))


class Beyond(PlainCodes):
    def encode(self, patient, length):
        return (*super().encode(patient, length), 99)


class Headless(PlainCodes):
    def encode(self, patient, length):
        return super().encode(patient, length)[1:]


class Embedding(Whole):
    """A target with a representation that breaks no rule."""

    def embed(self, sequences):
        return np.array([[len(sequence), sequence[-1]] for sequence in sequences], dtype=np.float64)


class Dizzy(Embedding):
    def embed(self, sequences):
        return super().embed(sequences) * len(sequences)


def suite(make):
    return type("Suite", (TargetContract,), {"target": lambda _: make(), "patients": lambda _: people()})()


RULES = [name for name in dir(TargetContract) if name.startswith("test_")]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [Whole, Embedding])
def test_a_target_that_breaks_nothing_passes(make, rule):
    getattr(suite(make), rule)()


def booked(book):
    return lambda: Whole(book=book(MAP, bos=1, eos=2, pad=0))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (object, "it_offers_something_to_attack"),
        (lambda: Whole(sees_later), "a_prefix_is_scored_as_the_whole"),
        (lambda: Whole(sees_width), "a_prefix_is_scored_as_the_whole"),
        (lambda: Whole(sees_later), "its_answers_agree_with_each_other"),
        (lambda: Whole(sees_others), "its_answers_agree_with_each_other"),
        (lambda: Whole(sees_width), "its_answers_agree_with_each_other"),
        (lambda: Whole(broken_number), "its_answers_agree_with_each_other"),
        (lambda: Whole(lambda tokens: TABLE[tokens][..., :5]), "its_answers_agree_with_each_other"),
        (lambda: Whole(lambda tokens: np.full((*tokens.shape, 12), np.nan)), "the_cost_is_counted"),
        (Shuffled, "the_order_of_a_batch_is_kept"),
        (Unnormalised, "its_answers_agree_with_each_other"),
        (Above, "its_answers_agree_with_each_other"),
        (WrongMean, "mean_and_deviation_are_those_of_the_next_token"),
        (Entangled, "its_answers_agree_with_each_other"),
        (Unseeded, "its_answers_agree_with_each_other"),
        (Unseeded, "another_seed_draws_another_sample"),
        (Stubborn, "another_seed_draws_another_sample"),
        (Nucleus, "samples_have_the_distribution_that_is_told"),
        (Restless, "its_answers_agree_with_each_other"),
        (Free, "the_cost_is_counted"),
        (Dizzy, "its_answers_agree_with_each_other"),
        (booked(Lenient), "an_unknown_code_is_refused"),
        (booked(Backwards), "records_become_tokens_that_there_are"),
        (booked(Beyond), "records_become_tokens_that_there_are"),
        (booked(Beyond), "its_answers_agree_with_each_other"),
        (booked(Headless), "an_empty_record_has_a_beginning"),
    ],
)
def test_a_broken_target(make, rule):
    with pytest.raises(BROKEN):
        getattr(suite(make), f"test_{rule}")()


class OnlySamples:
    """What an endpoint without probabilities shows."""

    eos, size, length, tokens_pushed = 2, 12, 16, 0

    def __init__(self):
        self._whole = Whole()

    def tokenize(self, patient):
        return self._whole.tokenize(patient)

    def tokens_of(self, code):
        return self._whole.tokens_of(code)

    def sample(self, prompts, chains, horizon, seed):
        self.tokens_pushed += prompts.size + len(prompts) * chains * horizon
        return self._whole.sample(prompts, chains, horizon, seed)


@pytest.mark.parametrize("rule", RULES)
def test_a_target_that_only_samples_is_one(rule):
    getattr(suite(OnlySamples), rule)()


def test_a_capability_that_is_missing_is_said():
    target = OnlySamples()
    assert isinstance(target, Samples)
    assert not isinstance(target, ScoresTokens)
    assert sampling(target) is target
    for ask, word in ((scoring, "record"), (stepping, "next token"), (embedding, "representation")):
        with pytest.raises(NothingExamined, match=f"the model does not .*{word}"):
            ask(target)


def test_a_classifier_says_no_codes():
    class Records:
        tokens_pushed = 0

        def record_logprobs(self, patients):
            return np.zeros(len(patients))

    for ask in (scoring, stepping, sampling, embedding):
        with pytest.raises(NothingExamined, match="sees a record as a whole"):
            ask(Records())
