"""What an adapter must keep, so that a score means what it says: each capability that a target offers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from oathbound.audit.coherence import check_coherent
from oathbound.audit.target import (
    EmbeddingTarget,
    HasTokens,
    RecordTarget,
    SamplingTarget,
    ScoringTarget,
    SequenceTarget,
    SteppingTarget,
    Target,
)
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.testing.contracts.rule import expect, refuses

_CLOSE: Final = 1e-3
"""Far above what single precision does to a log-probability."""

_PROBES: Final = 6
_CHAINS: Final = 4000
_FAR: Final = 0.1
"""No sample of 4,000 lies so far from its distribution over some tens of tokens, in total variation."""


class TargetContract(ABC):
    """Inherit it as `class TestMine(TargetContract)`; pytest then runs every rule on your adapter."""

    @abstractmethod
    def target(self) -> Target:
        """Return the adapter, around a model small enough to be asked often."""

    @abstractmethod
    def patients(self) -> Sequence[Patient]:
        """Return a dozen patients or more, with records of different lengths that the model knows."""

    def test_it_offers_something_to_attack(self) -> None:
        """A record as a whole, or tokens with probabilities, samples or representations."""
        target = self.target()
        offers = (ScoringTarget, SteppingTarget, SamplingTarget, EmbeddingTarget, RecordTarget)
        expect(isinstance(target, offers), "it has a capability of oathbound.audit.target")

    def test_its_answers_agree_with_each_other(self) -> None:
        """What every audit asks before it begins."""
        check_coherent(self.target(), self.patients())

    def test_records_become_tokens_that_there_are(self) -> None:
        """At most `length` of them; the first events give the first tokens, or prompts could not be cut."""
        target = self.target()
        if not isinstance(target, HasTokens):
            return
        for patient in self.patients():
            tokens = target.tokenize(patient)
            expect(0 < len(tokens) <= target.length, "a record has from one to `length` tokens")
            expect(all(0 <= token < target.size for token in tokens), "tokens are below `size`")
            for events in range(1, len(patient.events)):
                opening = target.tokenize(replace(patient, events=patient.events[:events]))
                opening = opening[:-1] if opening[-1] == target.eos else opening
                expect(tokens[: len(opening)] == opening, "the first events give the first tokens")

    def test_an_empty_record_has_a_beginning(self) -> None:
        """An attacker who knows nothing starts there."""
        target = self.target()
        if isinstance(target, HasTokens):
            tokens = target.tokenize(Patient(1, ()))
            expect(len(tokens) > 0 and tokens[0] != target.eos, "a record begins with a token of its own")

    def test_an_unknown_code_is_refused(self) -> None:
        """A code that no token states would have probability 0, and look safe."""
        target = self.target()
        if isinstance(target, HasTokens):
            refuses(
                WrongInput, lambda: target.tokens_of("NO//SUCH//CODE"), "an unknown code raises WrongInput"
            )

    def test_the_order_of_a_batch_is_kept(self) -> None:
        """Scores come in the order asked, with padding or without."""
        target = self.target()
        if isinstance(target, ScoringTarget):
            sequences = self._sequences(target)
            forwards, backwards = (target.token_logprobs(each) for each in (sequences, sequences[::-1]))
            for row, sequence in enumerate(sequences):
                one = forwards.logprob[row, : len(sequence) - 1]
                other = backwards.logprob[-1 - row, : len(sequence) - 1]
                expect(
                    np.allclose(one, other, atol=_CLOSE), "a batch turned round gives its scores turned round"
                )

    def test_a_prefix_is_scored_as_the_whole(self) -> None:
        """What comes later changes no score: the model is causal, and padding is not seen."""
        target = self.target()
        if isinstance(target, ScoringTarget):
            for sequence in self._sequences(target):
                whole = target.token_logprobs([sequence]).logprob[0]
                for cut in range(2, len(sequence), 3):
                    prefix = target.token_logprobs([sequence[:cut]]).logprob[0]
                    expect(np.allclose(prefix, whole[: cut - 1], atol=_CLOSE), "a prefix scores as the whole")

    def test_mean_and_deviation_are_those_of_the_next_token(self) -> None:
        """As a continuation says it: the mean of log P under P, and its standard deviation."""
        target = self.target()
        if isinstance(target, SequenceTarget):
            for sequence in self._sequences(target):
                scores, place = target.token_logprobs([sequence]), len(sequence) // 2
                steps = target.begin(np.array([sequence[: place + 1]], dtype=np.int64), 1)
                logs = steps.logprobs()[0].clip(-1e4)
                mean = (np.exp(logs) * logs).sum()
                deviation = np.sqrt((np.exp(logs) * (logs - mean) ** 2).sum())
                told = (scores.mean[0, place], scores.deviation[0, place])
                expect(np.allclose(told, (mean, deviation), atol=_CLOSE), "mean and deviation are of log P")

    def test_samples_have_the_distribution_that_is_told(self) -> None:
        """The whole one, at temperature 1: a truncated one hides rare codes."""
        target = self.target()
        if isinstance(target, SamplingTarget) and isinstance(target, SteppingTarget):
            prompt = np.array([self._sequences(target)[0][:2]], dtype=np.int64)
            told = np.exp(target.begin(prompt, 1).logprobs()[0])
            drawn = target.sample(prompt, _CHAINS, 1, 1)[:, 0]
            seen = np.bincount(drawn, minlength=target.size) / _CHAINS
            expect(np.abs(seen - told).sum() / 2 < _FAR, "samples are drawn from the next-token distribution")

    def test_another_seed_draws_another_sample(self) -> None:
        """The seed decides, and it alone."""
        target = self.target()
        if isinstance(target, SamplingTarget):
            prompt = np.array([self._sequences(target)[0][:2]], dtype=np.int64)
            first, again, other = (target.sample(prompt, 64, 4, seed) for seed in (1, 1, 2))
            expect(np.array_equal(first, again), "one seed draws one sample")
            expect(not np.array_equal(first, other), "another seed draws another")

    def test_the_cost_is_counted(self) -> None:
        """`tokens_pushed` grows by what was asked, or more."""
        target, people = self.target(), self.patients()
        before = target.tokens_pushed if isinstance(target, (HasTokens, RecordTarget)) else 0
        asked = 0
        if isinstance(target, RecordTarget):
            target.record_logprobs(people)
            asked = len(people)
        elif isinstance(target, ScoringTarget):
            sequences = self._sequences(target)
            target.token_logprobs(sequences)
            asked = sum(len(sequence) - 1 for sequence in sequences)
        expect(target.tokens_pushed - before >= asked, "tokens_pushed counts what went through the model")

    def test_scores_of_records_are_logarithms_of_probabilities(self) -> None:
        """At most 0, or NaN where there is nothing to predict; and somebody has something."""
        target = self.target()
        if isinstance(target, RecordTarget):
            scores = target.record_logprobs(self.patients())
            expect(scores.shape == (len(self.patients()),), "there is one score a record")
            known = scores[~np.isnan(scores)]
            expect(known.size > 0 and bool((known <= 0).all()), "scores are logarithms of probabilities")
            unknown = target.record_logprobs([Patient(1, (Event(None, "NO//SUCH//CODE", None),))])
            expect(unknown.shape == (1,), "a record of unknown codes has a score, or NaN")

    def _sequences(self, target: HasTokens) -> list[tuple[int, ...]]:
        return list(self._distinct(target))[:_PROBES]

    def _distinct(self, target: HasTokens) -> Iterator[tuple[int, ...]]:
        """Yield token sequences of three tokens at least, no two of one length."""
        lengths = set()
        for patient in self.patients():
            tokens = target.tokenize(patient)
            if len(tokens) > 2 and len(tokens) not in lengths:  # noqa: PLR2004 - a prompt of two, and one more
                lengths.add(len(tokens))
                yield tokens
