"""Any causal language model of a local Hugging Face folder, over MEDS codes, as an audit target.

What a folder holds is data and never code: weights are safetensors, no remote code is run, nothing is
downloaded, and a weight that is missing is an error, not a random number. `docs/guides/audit-any-model.md`
says what the folder must hold; how it is read stands in `hf_folder.py`.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from oathbound.audit.adapters.tokens import Codebook, RecomputedSteps, TokenTarget
from oathbound.audit.target import Floats, Steps, Tokens
from oathbound.core.errors import WrongInput

_CACHES: Final = ("past_key_values", "cache_params")
"""Where the models of transformers keep what they know of a prefix: attention, and state spaces."""

_CLOSE: Final = 1e-3
"""Above what single precision does to a probability."""


class HuggingFaceTarget(TokenTarget):
    """A causal model of transformers: a `SequenceTarget` that also `Samples` and `Embeds`.

    Its base model and its head are used apart where that gives the model's own logits, and its cache where
    continuations with it are those without: both are tried here, and neither is taken on trust.
    `WrongInput` if the model does not take `length` tokens, or has fewer than the codebook.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, codebook: Codebook, *, length: int) -> None:
        self._model = model.eval().requires_grad_(requires_grad=False)
        embedded = int(model.get_input_embeddings().weight.shape[0])
        if codebook.size > embedded:
            raise WrongInput(
                "vocabulary.json has tokens that the model does not know",
                hint="the two must come from one training",
            )
        probe = _probe(codebook, length)
        logits = self._whole(probe)
        self._split, width = self._splits(probe, logits)
        super().__init__(codebook, size=logits.shape[-1], length=length, width=width)
        self._cache = self._caching(probe, logits)
        self._try_length(length)

    def begin(self, prompts: Tokens, chains: int) -> Steps:
        """Read each prompt once and share its state among its chains, if the model has a cache that works."""
        if not self._cache:
            return RecomputedSteps(self.next_logits, prompts, chains)
        self.tokens_pushed += prompts.size
        return CachedSteps(self, self._model, self._cache, torch.from_numpy(prompts).to(self._device), chains)

    @torch.inference_mode()
    def embed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Return the last hidden state at each sequence's last token, shape (sequences, width)."""
        return self._embedded(sequences, self._states)

    def _move(self, device: torch.device) -> None:
        self._model.to(device)

    def _hidden(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self._states(tokens, lengths) if self._split else self._whole(tokens, lengths)

    def _head(self, hidden: Tensor) -> Tensor:
        if not self._split:
            return hidden  # these are the whole model's logits already
        logits: Tensor = self._model.get_output_embeddings()(hidden)
        return logits.float()

    def _states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = _mask(tokens, lengths)
        if self._split:
            states: Tensor = self._model.base_model(
                input_ids=tokens, attention_mask=mask, use_cache=False
            ).last_hidden_state
        else:
            states = self._model(
                input_ids=tokens, attention_mask=mask, use_cache=False, output_hidden_states=True
            ).hidden_states[-1]
        return states.float()

    def _whole(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(tokens) if lengths is None else _mask(tokens, lengths)
        logits: Tensor = self._model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        return logits.float()

    def _splits(self, probe: Tensor, logits: Tensor) -> tuple[bool, int]:
        """Return whether head(base) is the model, and the width of what `_hidden` then gives."""
        head = self._model.get_output_embeddings()
        if self._model.base_model is self._model or head is None:
            return False, logits.shape[-1]
        answer = self._model.base_model(
            input_ids=probe, attention_mask=torch.ones_like(probe), use_cache=False
        )
        states = getattr(answer, "last_hidden_state", None)
        if states is None or not _agree(head(states).float(), logits):  # some scale or cap their logits
            return False, logits.shape[-1]
        return True, states.shape[-1]

    def _caching(self, probe: Tensor, logits: Tensor) -> str:
        """Return the name of the model's cache if chains that share it are those computed anew, or none."""
        half = probe.shape[1] // 2
        if not half:
            return ""
        answer = self._model(input_ids=probe[:, :half], use_cache=True)
        name = next((each for each in _CACHES if getattr(answer, each, None) is not None), "")
        if not name or not hasattr(getattr(answer, name), "reorder_cache"):
            return ""
        steps = CachedSteps(self, self._model, name, probe[:, :half], 2)
        seen = [torch.from_numpy(steps.logprobs())]
        for column in range(half, probe.shape[1]):
            steps.append(probe[:, column].repeat_interleave(2).numpy())
            seen.append(torch.from_numpy(steps.logprobs()))
        expected = logits[:, half - 1 :].repeat_interleave(2, dim=0)
        self.tokens_pushed = 0
        return name if _agree(torch.stack(seen, dim=1), expected) else ""

    def _try_length(self, length: int) -> None:
        try:
            self._whole(torch.full((1, length), self._codebook.pad))
        except (IndexError, RuntimeError):
            raise WrongInput(
                "the model does not take as many tokens as its config.json says",
                hint="set max_position_embeddings to its true context",
            ) from None


class CachedSteps:
    """Continuations of a model with a cache: every token is computed once."""

    @torch.inference_mode()
    def __init__(
        self, target: HuggingFaceTarget, model: Any, cache: str, prompts: Tensor, chains: int
    ) -> None:
        self._target = target
        self._model = model
        self._name = cache
        self._position = prompts.shape[1]
        answer = model(input_ids=prompts, use_cache=True)
        self._cache = getattr(answer, cache)
        places = torch.arange(len(prompts), device=prompts.device)
        self._cache.reorder_cache(places.repeat_interleave(chains))
        self._logits = answer.logits[:, -1].repeat_interleave(chains, dim=0)

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
            following = torch.from_numpy(tokens).to(self._logits.device)[:, None]
            answer = self._model(input_ids=following, use_cache=True, **{self._name: self._cache})
            self._cache = getattr(answer, self._name)
            self._logits = answer.logits[:, -1]
            self._position += 1


def _mask(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return 1 where a token counts: padding is known by its place, since PAD may be another's token."""
    return (torch.arange(tokens.shape[1]) < lengths[:, None]).long().to(tokens.device)


def _probe(codebook: Codebook, length: int) -> Tensor:
    """Return two sequences of a few tokens that differ, int64 (2, T)."""
    return torch.from_numpy(
        np.random.default_rng(0).integers(codebook.size, size=(2, min(6, length)), dtype=np.int64)
    )


def _agree(one: Tensor, other: Tensor) -> bool:
    """Return whether two sets of logits, or log-probabilities, state one distribution."""
    difference = one.double().softmax(dim=-1) - other.double().softmax(dim=-1)
    return bool(difference.abs().max() <= _CLOSE)
