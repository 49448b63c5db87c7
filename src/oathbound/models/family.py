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
    BeatNet,
    Classifier,
    EventTransformer,
    ExtensionModel,
    Features,
    LogisticRegression,
    Recordings,
    ScanNet,
    Seen,
    TabularNet,
    Vocabulary,
    fits,
    sees,
)
from oathbound.core.study import Policy
from oathbound.models import convolutional, tabular, transformer
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import Model, Rows
from oathbound.models.recordings import RecordingEncoder
from oathbound.models.tokenizer import Tokenizer


class Encoder(Protocol):
    """Turns records into what a model sees, one row a patient, by public rules."""

    @property
    def seen(self) -> Seen:
        """What it makes rows of, as the policy lists it."""
        ...

    @property
    def size(self) -> int:
        """The tokens of the vocabulary, or the numbers that the model sees of a patient."""
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


Maker = Callable[[ExtensionModel, Seen], Family]
"""How an extension makes its model, with its first weights, and the encoder of what the policy lists."""


def family_of(policy: Policy) -> Family:
    """Return a new model of the policy, with its first weights, and its encoder.

    Not one that an extension brings: see `workflow.families`.
    """
    return Family(_built(policy.model, policy.seen), encoder_of(policy.model, policy.seen))


def encoder_of(architecture: Architecture, seen: Seen | None) -> Encoder:
    """Return the encoder of an architecture; `WrongInput` where it sees something else."""
    if isinstance(architecture, EventTransformer) and isinstance(seen, Vocabulary):
        return Sequences(Tokenizer(seen), architecture.length)
    if isinstance(architecture, Classifier) and isinstance(seen, Features):
        return FeatureEncoder(seen)
    if isinstance(seen, Recordings) and fits(architecture, seen):
        return RecordingEncoder(seen)
    raise WrongInput(f"{architecture.name} does not see what is listed", hint=f"it sees {sees(architecture)}")


def _built(architecture: Architecture, seen: Seen) -> Model:
    match architecture, seen:
        case EventTransformer(), Vocabulary():
            return transformer.build(architecture, seen.size)
        case TabularNet() | LogisticRegression(), Features():
            return tabular.build(architecture, seen.width)
        case ScanNet() | BeatNet(), Recordings():
            return convolutional.build(architecture, seen)
    raise _unknown(architecture)


def unfilled(architecture: Architecture, seen: Seen) -> Model:
    """Return a model of that architecture whose weights are still to be loaded."""
    match architecture, seen:
        case EventTransformer(), Vocabulary():
            return transformer.EventTransformer(architecture, seen.size)
        case TabularNet() | LogisticRegression(), Features():
            return tabular.Classifier(architecture, seen.width)
        case ScanNet() | BeatNet(), Recordings():
            return convolutional.unfilled(architecture, seen)
    raise _unknown(architecture)


def _unknown(architecture: Architecture) -> Unavailable:
    return Unavailable(f"this version of oathbound has no model {architecture.name}")
