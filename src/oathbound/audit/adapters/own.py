"""Our own models as audit targets: batched scoring, and continuations with cached keys and values."""

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from oathbound.audit.adapters.tokens import TokenTarget
from oathbound.audit.target import Floats, Target, Tokens
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Patient
from oathbound.models.convolutional import Recogniser
from oathbound.models.family import Encoder, Sequences
from oathbound.models.model import Model
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import Block, EventTransformer

_AT_ONCE: Final = 2**20
"""Numbers that go through a model of rows together; a convolution makes many times as many of them."""


def target_of(model: Model, encoder: Encoder) -> Target:
    """Return a model with its encoder as what the tests attack."""
    if isinstance(model, EventTransformer) and isinstance(encoder, Sequences):
        return EventTarget(model, encoder.tokenizer)
    if isinstance(model, Recogniser):
        return ScanTarget(model, encoder)
    return RowTarget(model, encoder)


class RowTarget:
    """A model that sees a row of a patient, or a row a recording, and its encoder: a `RecordTarget`."""

    def __init__(self, model: Model, encoder: Encoder) -> None:
        self._model = model.eval()
        self._encoder = encoder
        self.tokens_pushed = 0

    @torch.inference_mode()
    def record_logprobs(self, patients: Sequence[Patient]) -> Floats:
        """Return the log-probability of each patient's label, from one forward pass; NaN without a label.

        Of a patient with labels of several recordings, the mean. Raises `WrongInput` where the model's answer
        to a patient with a label is not a number.
        """
        self.tokens_pushed += len(patients)
        step = max(_AT_ONCE // self._encoder.size, 1)
        pieces = [patients[start : start + step] for start in range(0, len(patients), step)]
        return np.concatenate([np.zeros(0), *map(self._scored, pieces)])

    def _scored(self, patients: Sequence[Patient]) -> Floats:
        rows = self._encoder.encode_all(patients)
        logprobs: Floats = -self._model.losses(torch.from_numpy(rows)).double().numpy()
        labelled = ~np.isnan(rows[..., -1]).all(axis=tuple(range(1, rows.ndim - 1)))
        if not np.isfinite(logprobs[labelled]).all():
            raise WrongInput("a score of the model is not a finite number", hint="the training diverged")
        return np.where(labelled, logprobs, np.nan)


class ScanTarget(RowTarget):
    """A model of scans or signals and its encoder: a `RecordingTarget`."""

    def __init__(self, model: Recogniser, encoder: Encoder) -> None:
        super().__init__(model, encoder)
        self._recogniser = model

    def recordings(self, patient: Patient) -> Floats:
        """Return the patient's labelled recordings, (recordings, numbers)."""
        (row,) = self._encoder.encode_all([patient])
        found: Floats = row[~np.isnan(row[:, -1]), :-1].astype(np.float64)
        return found

    @torch.inference_mode()
    def represent(self, recordings: Floats) -> Floats:
        """Return what the last layer sees of recordings (n, numbers), from one forward pass."""
        self.tokens_pushed += len(recordings)
        step = max(_AT_ONCE // recordings.shape[1], 1)
        starts = range(0, len(recordings), step)
        pieces = [torch.from_numpy(recordings[start : start + step]).float() for start in starts]
        found: Floats = torch.cat([self._recogniser.features(piece) for piece in pieces]).double().numpy()
        return found


class EventTarget(TokenTarget):
    """An `EventTransformer` and its tokenizer, black box, but for `embed`."""

    def __init__(self, model: EventTransformer, tokenizer: Tokenizer) -> None:
        architecture = model.architecture
        super().__init__(tokenizer, size=tokenizer.size, length=architecture.length, width=architecture.width)
        self._model = model.eval()
        self._tokenizer = tokenizer

    def begin(self, prompts: Tokens, chains: int) -> "CachedSteps":
        """Read each prompt once, then share its keys and values among its chains."""
        steps = CachedSteps(self, self._model, torch.from_numpy(prompts).to(self._device), chains)
        self.tokens_pushed += prompts.size
        return steps

    @torch.inference_mode()
    def embed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Return what the head sees after each sequence's last token, shape (sequences, width)."""
        return self._embedded(sequences, self._hidden)

    def _move(self, device: torch.device) -> None:
        self._model.to(device)

    def _hidden(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002 - the end is not seen
        """Restate `EventTransformer.forward` before its head; a test compares the two."""
        x = functional.embedding(tokens, self._model.tokens)
        for block in self._model.blocks:
            x, _ = _through(cast("Block", block), x, None)
        hidden: Tensor = self._model.norm(x)
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        return hidden @ self._model.tokens.T


class CachedSteps:
    """Continuations of an `EventTransformer`: every token is computed once.

    `check_coherent` compares them with one pass at every audit.
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
        logprobs: Floats = self._logits.double().log_softmax(dim=-1).cpu().numpy()
        return logprobs

    @torch.inference_mode()
    def append(self, tokens: Tokens) -> None:
        """Append one token to every continuation; the last that the context holds is not computed further."""
        self._target.tokens_pushed += tokens.size
        if self._position < self._target.length:
            self._logits = self._advance(torch.from_numpy(tokens).to(self._logits.device)[:, None])

    def _advance(self, tokens: Tensor) -> Tensor:
        """Push tokens (n, T) at the next positions and return the logits after the last, (n, size).

        Either the first ones, or one token a chain.
        """
        x = functional.embedding(tokens, self._model.tokens)
        past, self._past = self._past, []
        for layer, block in enumerate(self._model.blocks):
            x, kept = _through(cast("Block", block), x, past[layer] if past else None)
            self._past.append(kept)
        self._position += tokens.shape[1]
        logits: Tensor = self._model.norm(x[:, -1]) @ self._model.tokens.T
        return logits


def _through(
    block: Block, x: Tensor, past: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Restate `Block.forward`, whole or for one token after many, with attention that training cannot use.

    Returns what follows, and the keys and values so far.
    """
    q, k, v = (
        part.unflatten(-1, (block.heads, -1)).transpose(-3, -2)
        for part in block.qkv(block.norm1(x)).chunk(3, dim=-1)
    )
    if past is not None:
        k, v = torch.cat([past[0], k], dim=-2), torch.cat([past[1], v], dim=-2)
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=past is None)
    x = x + block.out(attended.transpose(-3, -2).flatten(-2))
    hidden = functional.gelu(block.up(block.norm2(x)), approximate="tanh")
    return x + block.down(hidden), (k, v)
