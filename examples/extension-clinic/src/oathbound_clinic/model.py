"""A Markov chain over the tokens of a vocabulary: the simplest model of a record's course."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from oathbound.core.errors import WrongInput
from oathbound.core.shape import ExtensionModel, Seen, Vocabulary
from oathbound.models.family import Family, Sequences
from oathbound.models.model import Model
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import loss


class CodeChain(Model):
    """The log-odds of each token after each other: one matrix, size by size."""

    def __init__(self, architecture: ExtensionModel, size: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.following = nn.Parameter(torch.zeros(size, size))

    def losses(self, rows: Tensor) -> Tensor:
        """Return each patient's mean loss, in nats, shape (...), of int64 tokens (..., length)."""
        return loss(functional.embedding(rows, self.following), rows)


def make(architecture: ExtensionModel, seen: Seen) -> Family:
    """Return the model, all of whose first weights are zero, and its encoder: the entry point of the model.

    Raises `WrongInput` unless it sees a vocabulary and has the one option `length`, from 8 to 4096 tokens.
    """
    length = architecture.options.get("length", "")
    if not isinstance(seen, Vocabulary) or set(architecture.options) != {"length"}:
        raise WrongInput(f"{architecture.name} sees a vocabulary, and has one option: length")
    if not (length.isascii() and length.isdigit() and 8 <= int(length[:5]) <= 4096):  # noqa: PLR2004 - said above
        raise WrongInput(f"{architecture.name}: length is not a number from 8 to 4096")
    encoder = Sequences(Tokenizer(seen), int(length))
    return Family(CodeChain(architecture, encoder.size), encoder)
