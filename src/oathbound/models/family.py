"""A model and the encoder that shows it patients, for every kind of model that a policy can name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.core.shape import (
    Architecture,
    Classifier,
    EventTransformer,
    ExtensionModel,
    Features,
    Vocabulary,
)
from oathbound.core.study import Policy
from oathbound.models import tabular, transformer
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import Model, Rows
from oathbound.models.tokenizer import Tokenizer


class Encoder(Protocol):
    """Turns records into what a model sees, one row a patient, by public rules."""

    @property
    def seen(self) -> Vocabulary | Features:
        """What it makes rows of, as the policy lists it."""
        ...

    @property
    def size(self) -> int:
        """The tokens of the vocabulary, or the features of a row."""
        ...

    def encode_all(self, patients: Sequence[Patient]) -> Rows:
        """Return the rows of all patients, in order."""
        ...

    def encode_columns(self, columns: Columns) -> tuple[NDArray[np.int64], Rows]:
        """Return the ids of the patients, ascending, and their rows."""
        ...


@dataclass(frozen=True, slots=True)
class Sequences:
    """The encoder of a sequence model: int64 tokens, padded with PAD to `length`."""

    tokenizer: Tokenizer
    length: int

    @property
    def seen(self) -> Vocabulary:
        """The vocabulary."""
        return self.tokenizer.vocabulary

    @property
    def size(self) -> int:
        """The tokens of the vocabulary."""
        return self.tokenizer.size

    def encode_all(self, patients: Sequence[Patient]) -> Rows:
        """Return the tokens of all patients: int64 (patients, length)."""
        rows = np.full((len(patients), self.length), self.tokenizer.pad, dtype=np.int64)
        for row, patient in zip(rows, patients, strict=True):
            tokens = self.tokenizer.encode(patient, self.length)
            row[: len(tokens)] = tokens
        return rows

    def encode_columns(self, columns: Columns) -> tuple[NDArray[np.int64], Rows]:
        """Return the ids of the patients, ascending, and their tokens: int64 (patients, length)."""
        return self.tokenizer.encode_columns(columns, self.length)


@dataclass(frozen=True, slots=True)
class Family:
    """A model with its encoder."""

    model: Model
    encoder: Encoder


Maker = Callable[[ExtensionModel, Vocabulary | Features], Family]
"""How an extension makes its model, with its first weights, and the encoder of what the policy lists."""


def family_of(policy: Policy) -> Family:
    """Return a new model of the policy, with its first weights, and its encoder.

    Not one that an extension brings: see `workflow.families`.
    """
    architecture = policy.model
    encoder = encoder_of(architecture, policy.vocabulary or policy.features)
    if isinstance(architecture, EventTransformer):
        return Family(transformer.build(architecture, encoder.size), encoder)
    return Family(tabular.build(_built_in(architecture), encoder.size), encoder)


def encoder_of(architecture: Architecture, seen: Vocabulary | Features | None) -> Encoder:
    """Return the encoder of an architecture; `WrongInput` where it sees something else."""
    if isinstance(architecture, EventTransformer) and isinstance(seen, Vocabulary):
        return Sequences(Tokenizer(seen), architecture.length)
    if isinstance(architecture, Classifier) and isinstance(seen, Features):
        return FeatureEncoder(seen)
    raise WrongInput(
        f"{architecture.name} does not see what is listed",
        hint="event-transformer sees a vocabulary; tabular-net and logistic-regression see features",
    )


def unfilled(architecture: Architecture, size: int) -> Model:
    """Return a model of that architecture whose weights are still to be loaded."""
    if isinstance(architecture, EventTransformer):
        return transformer.EventTransformer(architecture, size)
    return tabular.Classifier(_built_in(architecture), size)


def _built_in(architecture: Classifier | ExtensionModel) -> Classifier:
    if isinstance(architecture, ExtensionModel):
        raise Unavailable(f"this version of oathbound has no model {architecture.name}")
    return architecture
