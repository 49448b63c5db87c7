"""A decoder-only transformer over events.

Vaswani et al. 2017; normalisation before each part as in Xiong et al. 2020; tied output as in Press and Wolf
2017. There is no table of positions: causal attention knows the order without one (Haviv et al. 2022), gap
tokens carry the time, and under privacy noise the table cost more than it gave.

Attention is written as matrix products and a softmax: fused attention has no rule for the gradients of
several patients, or several models, at once (`torch.func.vmap`).
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from oathbound.core.shape import EventTransformer as Architecture
from oathbound.models.model import Model, Rows, fill_uniform

PAD: Final = 0
_MLP_RATIO: Final = 2
_WIDTH: Final = 16


class Block(nn.Module):
    """One layer: causal self-attention, then a two-layer perceptron, each on a normalised residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, _MLP_RATIO * width)
        self.down = nn.Linear(_MLP_RATIO * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (..., T, width) to the same shape; `mask` (T, T) is added to the attention scores."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + mask
        attended = (scores.softmax(dim=-1) @ v).transpose(-3, -2).flatten(-2)
        x = x + self.out(attended)
        hidden: Tensor = functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        result: Tensor = x + self.down(hidden)
        return result


class EventTransformer(Model):
    """Next-token logits for sequences of event tokens."""

    architecture: Architecture

    def __init__(self, architecture: Architecture, vocabulary_size: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = vocabulary_size
        width = architecture.width
        self.tokens = nn.Parameter(torch.empty(vocabulary_size, width))
        self.blocks = nn.ModuleList(Block(width, architecture.heads) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 tokens (..., T) to logits (..., T, vocabulary).

        Logits at a position depend on the tokens at and before it alone, so padding at the end changes
        nothing.
        """
        length = tokens.shape[-1]
        mask = torch.full((length, length), -math.inf, device=tokens.device).triu(1)
        x = functional.embedding(tokens, self.tokens)
        for block in self.blocks:
            x = block(x, mask)
        logits: Tensor = self.norm(x) @ self.tokens.T
        return logits

    def losses(self, rows: Tensor) -> Tensor:
        """Return each patient's mean loss over its tokens, shape (...); 0 if there are none."""
        return loss(self(rows), rows)

    def alike(self, rows: Rows) -> Iterator[Rows]:
        """Yield the rows by width: the patient's number of tokens, rounded up to a multiple of 16.

        A width that fits a group's longest would let one patient's presence move the others' gradients.
        """
        lengths = (rows != PAD).sum(axis=1)
        widths = np.minimum(-(-lengths // _WIDTH) * _WIDTH, rows.shape[1])
        for width in np.unique(widths):
            yield rows[widths == width, :width]


def build(architecture: Architecture, vocabulary_size: int) -> EventTransformer:
    """Return the model with its first weights, fixed by `architecture.seed`."""
    model = EventTransformer(architecture, vocabulary_size)
    matrices = []
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:  # noqa: PLR2004 - matrices; vectors are biases and norms
            deviation = 0.02 if name == "tokens" else parameter.shape[1] ** -0.5
            if name.endswith(("out.weight", "down.weight")):
                deviation /= math.sqrt(2 * architecture.layers)
            matrices.append((parameter, deviation))
        else:
            nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    fill_uniform(matrices, seed=architecture.seed)
    return model


def token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return -log P(token t+1 | tokens to t), in nats, (..., T - 1); 0 where token t+1 is PAD."""
    targets = tokens[..., 1:]
    scores = logits[..., :-1, :].log_softmax(dim=-1)
    losses = -scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return losses * (targets != PAD)


def loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return each patient's mean loss over its tokens, shape (...); 0 if there are none."""
    counted = (tokens[..., 1:] != PAD).sum(dim=-1).clamp(min=1)
    return token_losses(logits, tokens).sum(dim=-1) / counted
