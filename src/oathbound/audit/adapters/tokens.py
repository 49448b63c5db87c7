"""What the adapters of sequence models share: batches, a head in chunks, continuations without a cache.

A model is split in two: `_hidden` gives a vector for every position, `_head` turns vectors into logits.
The head runs on some positions at a time, so that the logits of a batch are never held together. Sequences
are padded at their end, which no position before can see in a causal model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from oathbound.audit.chains import drawn
from oathbound.audit.target import Floats, Steps, Tokens, TokenScores
from oathbound.audit.work import HERE, Work
from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Patient

_HIDDEN: Final = 2**22
"""The most hidden numbers of a batch; 16 MiB in float32."""

_LOGITS: Final = 2**18
"""The most logits held at once; 1 MiB in float32, which stays in a processor's cache while it is reduced."""

_NEVER: Final = -1e4
"""A finite log-probability of probability 0: what a model forbids adds nothing to a mean."""


class Codebook(Protocol):
    """How records become tokens. Our `Tokenizer` is one."""

    @property
    def pad(self) -> int:
        """What fills the end of shorter sequences."""
        ...

    @property
    def eos(self) -> int:
        """What ends a record."""
        ...

    @property
    def size(self) -> int:
        """One more than the largest token."""
        ...

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes that it knows."""
        ...

    def encode(self, patient: Patient, length: int) -> tuple[int, ...]:
        """Return the record as at most `length` tokens, EOS last if it fits."""
        ...

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return every token that states `code`; `WrongInput` if there is none."""
        ...


class TokenTarget(ABC):
    """A causal model over the tokens of a codebook: a `SequenceTarget` that also `Samples`.

    `size` is the number of logits, which may exceed the codebook's tokens; `width` that of a hidden vector.
    `work` says where pieces of an audit are done.
    """

    work: Work = HERE

    def __init__(self, codebook: Codebook, *, size: int, length: int, width: int) -> None:
        self.eos = codebook.eos
        self.codes = codebook.codes
        self.size = size
        self.length = length
        self.tokens_pushed = 0
        self._codebook = codebook
        self._width = width
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Compute on `device` from now on; answers come back as arrays all the same."""
        self._move(device)
        self._device = device

    def _move(self, device: torch.device) -> None:
        """Move the weights; `Unavailable` for a model that cannot be moved."""
        raise Unavailable(f"this model cannot be moved to {device}", hint="leave out --device")

    def tokenize(self, patient: Patient) -> tuple[int, ...]:
        """Return the patient's tokens, cut at the model's context."""
        return self._codebook.encode(patient, self.length)

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return every token that states `code`, of any value."""
        return self._codebook.tokens_of(code)

    @abstractmethod
    def _hidden(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Map tokens (n, T), of which the first `lengths` (n,) of a row count, to vectors (n, T, width)."""

    @abstractmethod
    def _head(self, hidden: Tensor) -> Tensor:
        """Map vectors (..., width) to logits (..., size)."""

    @torch.inference_mode()
    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> TokenScores:
        """Score every sequence: batches of like length, one forward each, reduced before the next."""
        counts = np.array([len(sequence) - 1 for sequence in sequences], dtype=np.int64)
        shape = (len(sequences), int(counts.max()))
        scores = TokenScores(np.zeros(shape), np.zeros(shape), np.zeros(shape), counts)
        for batch in self._batches(counts):
            tokens, lengths = self._padded([sequences[i] for i in batch])
            hidden = self._pushed(tokens[:, :-1], lengths - 1)
            counted = torch.arange(hidden.shape[1]) < (lengths - 1)[:, None]
            rows, columns = counted.nonzero(as_tuple=True)
            places = (batch[rows.numpy()], columns.numpy())
            for array, values in zip(
                (scores.logprob, scores.mean, scores.deviation),
                self._reduced(hidden[counted], tokens[:, 1:][counted]),
                strict=True,
            ):
                array[places] = values.numpy()
        return scores

    def _reduced(self, hidden: Tensor, following: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log P of the following tokens, and mean and deviation of log P there, each (positions,)."""
        logprob, mean, deviation = (torch.empty(len(hidden)) for _ in range(3))
        size = max(_LOGITS // self.size, 1)
        for start in range(0, len(hidden), size):
            piece = slice(start, start + size)
            logs = self._head(hidden[piece]).log_softmax(dim=-1)
            logprob[piece] = logs.gather(-1, following[piece, None]).squeeze(-1)
            probabilities = logs.exp()
            logs.clamp_(min=_NEVER)
            expected = torch.linalg.vecdot(probabilities, logs)
            mean[piece] = expected
            logs.sub_(expected[:, None]).square_()
            deviation[piece] = torch.linalg.vecdot(probabilities, logs).sqrt()
        if mean.isnan().any():  # a patient left out for it would be no random one
            raise WrongInput("a score of the model is not a finite number", hint="the training diverged")
        return logprob, mean, deviation

    def begin(self, prompts: Tokens, chains: int) -> Steps:
        """Begin continuations that are computed anew at every step; an adapter with a cache does better."""
        return RecomputedSteps(self.next_logits, prompts, chains)

    @torch.inference_mode()
    def next_logits(self, tokens: Tensor) -> Tensor:
        """Return the logits after the last token of every row, (n, size), of tokens (n, T)."""
        tokens = tokens.to(self._device)
        rows = max(_HIDDEN // (self._width * tokens.shape[1]), 1)
        return torch.cat(
            [
                self._head(self._pushed(piece, torch.full((len(piece),), piece.shape[1]))[:, -1]).cpu()
                for piece in torch.split(tokens, rows)
            ]
        )

    def sample(self, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
        """Draw `chains` adjacent continuations of each prompt, shape (prompts x chains, horizon).

        From the whole distribution, at temperature 1. After EOS, and beyond the context, every entry is EOS.
        """
        return drawn(self, prompts, chains, horizon, seed)

    def _embedded(
        self, sequences: Sequence[Sequence[int]], vectors: Callable[[Tensor, Tensor], Tensor]
    ) -> Floats:
        """Return the vector at each sequence's last token, float64 (sequences, width)."""
        counts = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        embedded: list[tuple[Tokens, Floats]] = []
        for batch in self._batches(counts):
            tokens, lengths = self._padded([sequences[i] for i in batch])
            self.tokens_pushed += int(lengths.sum())
            last = vectors(tokens, lengths)[torch.arange(len(batch)), lengths - 1]
            embedded.append((batch, last.double().cpu().numpy()))
        order = np.argsort(np.concatenate([batch for batch, _ in embedded]))
        ordered: Floats = np.concatenate([each for _, each in embedded])[order]
        return ordered

    def _pushed(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.tokens_pushed += int(lengths.sum())
        return self._hidden(tokens, lengths)

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        tokens = torch.full((len(sequences), int(lengths.max())), self._codebook.pad)
        for row, sequence in zip(tokens, sequences, strict=True):
            row[: len(sequence)] = torch.tensor(sequence)
        return tokens.to(self._device), lengths

    def _batches(self, counts: Tokens) -> Iterator[Tokens]:
        """Yield positions in ascending order of length, as many at once as `_HIDDEN` allows."""
        order = np.argsort(counts, kind="stable")
        while order.size:
            rows = np.arange(1, order.size + 1)
            fitting = int((rows * counts[order] * self._width <= _HIDDEN).sum())
            yield order[: max(fitting, 1)]
            order = order[max(fitting, 1) :]


class RecomputedSteps:
    """Continuations of a model that keeps no state: every step computes them from their first token."""

    def __init__(self, next_logits: Callable[[Tensor], Tensor], prompts: Tokens, chains: int) -> None:
        self._next_logits = next_logits
        self._prompts = torch.from_numpy(prompts)
        self._chains = chains
        self._tokens: Tensor | None = None

    def logprobs(self) -> Floats:
        """Return the log-probability of every next token, shape (continuations, size)."""
        if self._tokens is None:  # chains of one prompt do not differ yet
            logits = self._next_logits(self._prompts).repeat_interleave(self._chains, dim=0)
        else:
            logits = self._next_logits(self._tokens)
        logprobs: Floats = logits.double().log_softmax(dim=-1).numpy()
        return logprobs

    def append(self, tokens: Tokens) -> None:
        """Append one token to every continuation."""
        before = self._tokens
        if before is None:
            before = self._prompts.repeat_interleave(self._chains, dim=0)
        self._tokens = torch.cat([before, torch.from_numpy(tokens)[:, None]], dim=1)
