"""A Python function as an audit target: for models that no folder holds, such as ETHOS or Delphi.

Used from Python, not from the command line:

    findings = run_tests(CallableTarget(logits, tokenizer, length=512), patients, plan, ...)
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oathbound.audit.adapters.tokens import Codebook, TokenTarget
from oathbound.audit.target import Tokens
from oathbound.core.errors import WrongInput

Logits = Callable[[Tokens], NDArray[np.floating]]
"""Maps int64 tokens (n, T) to logits, or log-probabilities, (n, T, size); padding stands at the end."""


class CallableTarget(TokenTarget):
    """A function of tokens and its codebook: a `SequenceTarget` that also `Samples`.

    Nothing is kept between calls, so a continuation is computed anew at every token. `size` is the number of
    logits, which may exceed the codebook's tokens.
    """

    def __init__(self, logits: Logits, codebook: Codebook, *, length: int, size: int | None = None) -> None:
        self._logits = logits
        size = codebook.size if size is None else size
        if size < codebook.size:
            raise WrongInput("the codebook has more tokens than the function gives logits for")
        super().__init__(codebook, size=size, length=length, width=size)

    def _hidden(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002 - the end is not seen
        answer = np.asarray(self._logits(tokens.numpy()))
        if answer.shape != (*tokens.shape, self.size) or answer.dtype.kind != "f":
            raise WrongInput(
                "the function does not return floating-point logits of shape (n, T, size)",
                hint="one row of logits for every token of every record",
            )
        if np.isnan(answer).any():
            raise WrongInput("a score of the model is not a finite number", hint="the training diverged")
        return torch.tensor(answer, dtype=torch.float32)

    def _head(self, hidden: Tensor) -> Tensor:
        return hidden
