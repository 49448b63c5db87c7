"""The three adapters of an endpoint, by what its server tells; `endpoint.py` opens one.

    SamplingEndpoint   nothing but continuations
    ScoringEndpoint    also the log-probability of every token of a given record (`echo`)
    SteppingEndpoint   all of each next token's distribution: as many logprobs as there are tokens

The few likeliest tokens of a distribution bound the others' probabilities and no more, so a `ScoringEndpoint`
has neither mean nor deviation (NaN), and no next-token probabilities: what was not told is not made up.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from oathbound.audit.adapters.endpoint_http import Connection, Question
from oathbound.audit.adapters.endpoint_reading import (
    choices_of,
    continuation,
    distribution,
    head,
    likeliest,
    listed,
    told,
)
from oathbound.audit.adapters.endpoint_words import Wire
from oathbound.audit.adapters.tokens import Codebook, RecomputedSteps
from oathbound.audit.kept import Answers, Numbers
from oathbound.audit.target import Steps, Tokens, TokenScores
from oathbound.core.errors import OathboundError, WrongInput
from oathbound.core.patient import Patient

_CHOICES: Final = 64
"""Continuations asked for at once; servers commonly allow 128."""

_TRIED: Final = 8
_HEADS: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
_SURE: Final = 1e-6
_SURPRISE: Final = math.log(1e-7)
"""Below this log-probability of so many, or so few, unlikely tokens, the server draws from something else."""


class SamplingEndpoint:
    """A model of which continuations are seen: a `SamplingTarget`.

    `size` is the number of the server's tokens. `failure` is the error of the connection, or of an answer
    that is none, once there was one; from then on every question raises it: a test that did not run for such
    a reason says nothing of the model.
    """

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        codebook: Codebook,
        wire: Wire,
        *,
        model: str,
        length: int,
        size: int,
        logprobs: int,
    ) -> None:
        self.eos = codebook.eos
        self.codes = codebook.codes
        self.size = size
        self.length = length
        self.tokens_pushed = 0
        self.failure: OathboundError | None = None
        self._codebook = codebook
        self._connection = connection
        self._answers = answers
        self._model = model
        self._wire = wire
        self._logprobs = logprobs

    def tokenize(self, patient: Patient) -> tuple[int, ...]:
        """Return the patient's tokens, cut at the model's context."""
        return self._codebook.encode(patient, self.length)

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return the token that states `code`; `WrongInput` if the vocabulary does not list it."""
        return self._codebook.tokens_of(code)

    def sample(self, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
        """Ask for `chains` adjacent continuations of each prompt, shape (prompts x chains, horizon).

        At temperature 1, with top_p 1. Every request has a seed of its own that follows from `seed`, so equal
        prompts are continued independently. After EOS, and beyond the context, every entry is EOS.
        """
        drawn = np.full((len(prompts) * chains, horizon), self.eos, dtype=np.int64)
        reach = min(horizon, self.length - prompts.shape[1])
        if reach <= 0:
            return drawn
        asked = [
            (row, start, min(_CHOICES, chains - start))
            for row in range(len(prompts))
            for start in range(0, chains, _CHOICES)
        ]
        bodies = [
            self._drawing(prompts[row].tolist(), n=n, reach=reach, seed=_derived(seed, row, start))
            for row, start, n in asked
        ]
        counts = [n for _, _, n in asked]
        answers = self._ask(
            bodies,
            [n * (prompts.shape[1] + reach) for n in counts],
            lambda place, value: self._continuations(value, counts[place], reach),
        )
        for (row, start, _), answer in zip(asked, answers, strict=True):
            for place, tokens in enumerate(answer, start=row * chains + start):
                drawn[place, : len(tokens)] = tokens
        return drawn

    def _drawing(self, prompt: list[int], *, n: int, reach: int, seed: int) -> dict[str, Any]:
        return self._wire.drawing() | {
            "prompt": self._wire.prompt(prompt),
            "n": n,
            "max_tokens": reach,
            "temperature": 1,
            "top_p": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "seed": seed,
        }

    def _continuations(self, value: Any, n: int, reach: int) -> Numbers:
        return [
            list(map(float, continuation(choice, self._wire, eos=self.eos, reach=reach)))
            for choice in choices_of(value, n)
        ]

    def _ask(
        self,
        bodies: Sequence[dict[str, Any]],
        tokens: Sequence[int],
        read: Callable[[int, Any], Numbers],
    ) -> list[Numbers]:
        """Return what `read` makes of each answer; of those that were kept, what it made."""
        if self.failure is not None:
            raise self.failure
        questions = [
            Question(json.dumps({"model": self._model, **body}, sort_keys=True).encode(), pushed)
            for body, pushed in zip(bodies, tokens, strict=True)
        ]
        names = [self._answers.name(self._connection.url.encode() + b"\n" + q.body) for q in questions]
        found = [self._answers.find(name) for name in names]
        missing = [place for place, answer in enumerate(found) if answer is None]

        def took(place: int, value: Any) -> None:
            answer = read(missing[place], value)
            self._answers.keep(names[missing[place]], answer)
            found[missing[place]] = answer

        try:
            self._connection.ask([questions[place] for place in missing], took)
        except OathboundError as error:
            self.failure = error
            raise
        self.tokens_pushed += sum(tokens)
        return [answer for answer in found if answer is not None]


class ScoringEndpoint(SamplingEndpoint):
    """A model that also says how likely given records are: a `ScoringTarget`; `mean`, `deviation` are NaN."""

    _tried = False

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> TokenScores:
        """Return the scores of every sequence, in order, from one request each."""
        counts = np.array([len(sequence) - 1 for sequence in sequences], dtype=np.int64)
        shape = (len(sequences), int(counts.max()))
        scores = TokenScores(np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan), counts)
        asked = [row for row, n in enumerate(counts.tolist()) if n]
        answers = self._ask(
            [self._scoring(list(map(int, sequences[row]))) for row in asked],
            [len(sequences[row]) for row in asked],
            lambda place, value: self._scores(value, sequences[asked[place]]),
        )
        for row, answer in zip(asked, answers, strict=True):
            for array, values in zip((scores.logprob, scores.mean, scores.deviation), answer, strict=False):
                array[row, : counts[row]] = values
        return scores

    def sample(self, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
        """Sample, after a first trial: `WrongInput` if single tokens are not drawn as probable as told."""
        if not self._tried:
            self._refuse_unlike_told(prompts, seed)
            self._tried = True
        return super().sample(prompts, chains, horizon, seed)

    def _scoring(self, tokens: list[int]) -> dict[str, Any]:
        return self._wire.naming() | {
            "prompt": self._wire.prompt(tokens),
            "echo": True,
            "logprobs": self._logprobs,
            "max_tokens": 0,
            "temperature": 1,
        }

    def _scores(self, value: Any, tokens: Sequence[int]) -> Numbers:
        """Return the log-probabilities of the tokens after the first."""
        (choice,) = choices_of(value, 1)
        for top in likeliest(choice, 1, len(tokens)):
            head(top)  # it sums to 1 at most
        return [told(choice, tokens, self._wire)]

    def _refuse_unlike_told(self, prompts: Tokens, seed: int) -> None:
        """Draw single tokens and raise `WrongInput` if what is likely is drawn too often, or too seldom.

        A head is the fewest likeliest tokens that have a given probability together. Hoeffding (1956): the
        number of draws outside, of different prompts, is spread no more than a binomial of their mean. A
        server that truncates (top_p, top_k) hides what is rare, which is what disclosure is about.
        """
        tried = [row.tolist() for row in np.unique(prompts, axis=0)[:_TRIED]]
        if prompts.shape[1] >= self.length:
            return
        per_prompt = _CHOICES * (_TRIED // len(tried))
        asked = [(row, start) for row in range(len(tried)) for start in range(0, per_prompt, _CHOICES)]
        bodies = [
            self._drawing(tried[row], n=_CHOICES, reach=1, seed=_derived(seed, row, ~start))
            | {"logprobs": self._logprobs}
            for row, start in asked
        ]
        answers = self._ask(
            bodies, [_CHOICES * (prompts.shape[1] + 1)] * len(bodies), lambda _, value: self._outside(value)
        )
        for share, (expected, seen) in zip(_HEADS, np.nansum(answers, axis=0).tolist(), strict=True):
            n = _CHOICES * sum(not math.isnan(answer[_HEADS.index(share)][0]) for answer in answers)
            if n and _log_chance(seen / n, expected / n) * n < _SURPRISE:
                raise WrongInput(
                    "the endpoint does not draw from the distribution that it tells",
                    hint="does it ignore temperature or top_p, or truncate? what is rare would look safe",
                )

    def _outside(self, value: Any) -> Numbers:
        """Return for each head how many draws are expected outside, and seen; NaN where it is not told."""
        choices = choices_of(value, _CHOICES)
        names = [listed(choice, "tokens")[:1] for choice in choices]
        (top,) = likeliest(choices[next((i for i, said in enumerate(names) if said), 0)], 0, 1)
        ranked = head(top)
        drawn = [str(said[0]) if said else self._wire.name(self.eos) for said in names]
        found: Numbers = []
        for share in _HEADS:
            inside: set[str] = set()
            total = 0.0
            for name, p in ranked:
                if total >= share:
                    break
                inside.add(name)
                total += p
            seen = float(sum(name not in inside for name in drawn))
            expected = _CHOICES * max(1 - total, _SURE)
            found.append([expected, seen] if total >= share else [math.nan, math.nan])
        return found


class SteppingEndpoint(ScoringEndpoint):
    """A model that tells all of every distribution: a `SequenceTarget` that also `Samples`.

    A continuation costs a request a token: a server that holds the model's folder is better audited there.
    """

    def begin(self, prompts: Tokens, chains: int) -> Steps:
        """Begin continuations that are asked for anew at every step."""
        return RecomputedSteps(self._next, prompts, chains)

    def _scores(self, value: Any, tokens: Sequence[int]) -> Numbers:
        """Return log-probabilities, and mean and deviation of what else could have stood there."""
        (choice,) = choices_of(value, 1)
        said = told(choice, tokens, self._wire)
        tops = likeliest(choice, 1, len(tokens))
        logs = np.array([distribution(top, self._wire, self.size) for top in tops])
        probabilities = np.exp(logs)
        mean = (probabilities * logs).sum(axis=1)
        deviation = np.sqrt((probabilities * (logs - mean[:, None]) ** 2).sum(axis=1))
        return [said, mean.tolist(), deviation.tolist()]

    def _next(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = tokens.tolist()
        bodies = [
            self._drawing(row, n=1, reach=1, seed=0) | {"logprobs": self._logprobs, "temperature": 1}
            for row in rows
        ]
        answers = self._ask(bodies, [tokens.shape[1]] * len(rows), lambda _, value: [self._after(value)])
        return torch.tensor([answer[0] for answer in answers], dtype=torch.float64)

    def _after(self, value: Any) -> list[float]:
        (choice,) = choices_of(value, 1)
        (top,) = likeliest(choice, 0, 1)
        return distribution(top, self._wire, self.size)


def _derived(seed: int, row: int, start: int) -> int:
    """Return a seed of 31 bits, which every server takes; adjacent ones would share draws in some servers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}/{start}".encode()).digest()[:4]) >> 1


def _log_chance(seen: float, expected: float) -> float:
    """Return the Chernoff bound's exponent: less the divergence of two coins."""
    total = 0.0
    for a, b in ((seen, expected), (1 - seen, 1 - expected)):
        if a > 0:
            total -= a * (math.log(a / b) if b > 0 else math.inf)
    return total
