"""Our own models as audit targets: batched scoring, and continuations with cached keys and values."""

from collections.abc import Iterator, Sequence
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from oathbound.audit.target import Floats, Target, Tokens, TokenScores
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Patient
from oathbound.models.family import Encoder, Sequences
from oathbound.models.model import Model
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import Block, EventTransformer

_LOGITS: Final = 2**22
"""The most logits held at once; 16 MiB in float32."""


def target_of(model: Model, encoder: Encoder) -> Target:
    """Return a model with its encoder as what the tests attack."""
    if isinstance(model, EventTransformer) and isinstance(encoder, Sequences):
        return EventTarget(model, encoder.tokenizer)
    return RowTarget(model, encoder)


class RowTarget:
    """A model that sees one row of a patient, and its encoder, black box: a `RecordTarget`."""

    def __init__(self, model: Model, encoder: Encoder) -> None:
        self._model = model.eval()
        self._encoder = encoder
        self.tokens_pushed = 0

    @torch.inference_mode()
    def record_logprobs(self, patients: Sequence[Patient]) -> Floats:
        """Return the log-probability of each patient's label, from one forward pass; NaN without a label.

        Raises `WrongInput` where the model's answer to a patient with a label is not a number.
        """
        self.tokens_pushed += len(patients)
        rows = self._encoder.encode_all(patients)
        logprobs: Floats = -self._model.losses(torch.from_numpy(rows)).double().numpy()
        labelled = ~np.isnan(rows[:, -1])
        if not np.isfinite(logprobs[labelled]).all():
            raise WrongInput("a score of the model is not a finite number", hint="the training diverged")
        return np.where(labelled, logprobs, np.nan)


class EventTarget:
    """An `EventTransformer` and its tokenizer, black box: a `SequenceTarget`."""

    def __init__(self, model: EventTransformer, tokenizer: Tokenizer) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self.eos = tokenizer.eos
        self.size = tokenizer.size
        self.length = model.architecture.length
        self.tokens_pushed = 0

    def tokenize(self, patient: Patient) -> tuple[int, ...]:
        """Return the patient's tokens, cut at the model's context."""
        return self._tokenizer.encode(patient, self.length)

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return every token that states `code`, of any value."""
        return self._tokenizer.tokens_of(code)

    @torch.inference_mode()
    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> TokenScores:
        """Score every sequence: batches of like length, one forward each, reduced before the next."""
        counts = np.array([len(sequence) - 1 for sequence in sequences], dtype=np.int64)
        shape = (len(sequences), int(counts.max()))
        scores = TokenScores(np.zeros(shape), np.zeros(shape), np.zeros(shape), counts)
        for batch in self._batches(counts):
            longest = counts[batch[-1]]
            tokens = torch.full((len(batch), longest + 1), self._tokenizer.pad)
            for row, i in enumerate(batch):
                tokens[row, : counts[i] + 1] = torch.tensor(sequences[i])
            self.tokens_pushed += int(counts[batch].sum())
            logprobs = self._model(tokens[:, :-1]).log_softmax(dim=-1)
            probabilities = logprobs.exp()
            mean = (probabilities * logprobs).sum(dim=-1)
            variance = (probabilities * (logprobs - mean.unsqueeze(-1)).square()).sum(dim=-1)
            scores.logprob[batch, :longest] = logprobs.gather(-1, tokens[:, 1:, None]).squeeze(-1).numpy()
            scores.mean[batch, :longest] = mean.numpy()
            scores.deviation[batch, :longest] = variance.sqrt().numpy()
        return scores

    def _batches(self, counts: Tokens) -> Iterator[Tokens]:
        """Yield positions in ascending order of length, as many at once as `_LOGITS` allows."""
        order = np.argsort(counts, kind="stable")
        while order.size:
            rows = np.arange(1, order.size + 1)
            fitting = int((rows * counts[order] * self.size <= _LOGITS).sum())
            yield order[: max(fitting, 1)]
            order = order[max(fitting, 1) :]

    def begin(self, prompts: Tokens, chains: int) -> "CachedSteps":
        """Read each prompt once, then share its keys and values among its chains."""
        steps = CachedSteps(self, self._model, torch.from_numpy(prompts), chains)
        self.tokens_pushed += prompts.size
        return steps


class CachedSteps:
    """Continuations of an `EventTransformer`: every token is computed once.

    This restates `Block.forward` for one token after many; `check_coherent` compares the two at every audit.
    """

    @torch.inference_mode()
    def __init__(self, target: EventTarget, model: EventTransformer, prompts: Tensor, chains: int) -> None:
        self._target = target
        self._model = model
        self._past: list[tuple[Tensor, Tensor]] = []
        self._position = 0
        self._logits = self._advance(prompts).repeat_interleave(chains, dim=0)
        self._past = [
            (keys.repeat_interleave(chains, dim=0), values.repeat_interleave(chains, dim=0))
            for keys, values in self._past
        ]

    @torch.inference_mode()
    def logprobs(self) -> Floats:
        """Return the log-probability of every next token, shape (continuations, size)."""
        logprobs: Floats = self._logits.double().log_softmax(dim=-1).numpy()
        return logprobs

    @torch.inference_mode()
    def append(self, tokens: Tokens) -> None:
        """Append one token to every continuation; the last that the context holds is not computed further."""
        self._target.tokens_pushed += tokens.size
        if self._position < self._target.length:
            self._logits = self._advance(torch.from_numpy(tokens)[:, None])

    def _advance(self, tokens: Tensor) -> Tensor:
        """Push tokens (n, T) at the next positions and return the logits after the last, (n, size)."""
        end = self._position + tokens.shape[1]
        mask = torch.full((tokens.shape[1], end), -torch.inf).triu(1 + self._position)
        x = functional.embedding(tokens, self._model.tokens)
        past, self._past = self._past, []
        for layer, block in enumerate(self._model.blocks):
            x = self._attend(cast("Block", block), x, mask, past[layer] if past else None)
        self._position = end
        logits: Tensor = self._model.norm(x[:, -1]) @ self._model.tokens.T
        return logits

    def _attend(self, block: Block, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (block.heads, -1)).transpose(-3, -2)
            for part in block.qkv(block.norm1(x)).chunk(3, dim=-1)
        )
        if past is not None:
            k, v = torch.cat([past[0], k], dim=-2), torch.cat([past[1], v], dim=-2)
        self._past.append((k, v))
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + mask
        attended = (scores.softmax(dim=-1) @ v).transpose(-3, -2).flatten(-2)
        x = x + block.out(attended)
        hidden = functional.gelu(block.up(block.norm2(x)), approximate="tanh")
        following: Tensor = x + block.down(hidden)
        return following
