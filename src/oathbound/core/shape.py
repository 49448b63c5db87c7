"""What a model sees of a patient, and what it is: public constants of a policy, equal at every site.

A sequence model sees dated events as tokens of a `Vocabulary`; a classifier sees one row of `Features`, or
the `Recordings` of a patient, such as scans or heart beats.
Everything here is from public knowledge, never from the records: what is learnt from records costs privacy.
"""

from itertools import pairwise
from math import prod
from typing import Annotated, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from oathbound.core.record import Exact, Name, Record, Text

Code = Annotated[Text, Field(max_length=200)]

Positive = Annotated[int, Field(ge=1, le=10_000_000)]

Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Fixes the first weights, which are public."""


class Vocabulary(Record):
    """What a model can see, from public knowledge alone; a code that is not listed becomes UNK."""

    codes: tuple[Code, ...] = Field(
        min_length=1,
        max_length=100_000,
        description="Every code that the model can see, in the order of its tokens; others become UNK.",
    )
    edges: dict[Code, tuple[Exact, ...]] = Field(
        description=(
            "Of a code, the inner edges of its value bins, ascending, from published reference ranges."
        )
    )
    ages: tuple[Exact, ...] = Field(description="The inner edges of the age bands, in years.")
    gaps: tuple[Exact, ...] = Field(
        description="The inner edges of the bands of time since the event before, in days."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.codes)) != len(self.codes):
            raise ValueError("codes holds a code twice")
        unknown = sorted(set(self.edges) - set(self.codes))
        if unknown:
            raise ValueError(f"edges names a code that codes does not list: {unknown[0]}")
        for edges in (self.ages, self.gaps, *self.edges.values()):
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError("edges must ascend")
        return self

    @property
    def size(self) -> int:
        """The tokens: PAD, BOS, EOS, UNK, age and gap bands, and of each code its bins, or one."""
        bands = len(self.ages) + 1 + len(self.gaps) + 1
        return 4 + bands + sum(len(self.edges[code]) + 2 if code in self.edges else 1 for code in self.codes)


class Number(Record):
    """A number as an input: (value - centre) / scale, cut at +-4, and whether it is there at all."""

    code: Code = Field(description="The code whose value is the input.")
    centre: Exact = Field(description="What is taken from the value, from public knowledge.")
    scale: Exact = Field(gt=0, description="What the rest is divided by; the result is cut at +-4.")
    missing: tuple[Exact, ...] = Field(
        description="Values that were written down where nothing was measured: they count as absent."
    )


class Label(Record):
    """What a classifier predicts: that the value of `code` is `at_least`, or that the code occurs at all."""

    code: Code = Field(description="The code that is predicted.")
    at_least: Exact | None = Field(
        default=None, description="The value from which on it counts; if left out, that the code occurs."
    )


class Features(Record):
    """What a classifier sees of a patient, one row each: codes that occur or not, and numbers.

    Where a code has several values, the last one counts.
    """

    present: tuple[Code, ...] = Field(
        max_length=10_000, description="Codes that occur in the record, or do not: one input each."
    )
    numbers: tuple[Number, ...] = Field(
        max_length=10_000,
        description=(
            "Codes whose last value is an input: two inputs each, the number and whether it is there."
        ),
    )
    label: Label = Field(description="What is predicted.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        codes = [*self.present, *(number.code for number in self.numbers)]
        if not codes:
            raise ValueError("features must name a code in present or in numbers")
        if len(set(codes)) != len(codes):
            raise ValueError("features names a code twice")
        if self.label.code in codes:
            raise ValueError("the label is among the features")
        return self

    @property
    def width(self) -> int:
        """The inputs of a row: one for each code, two for each number."""
        return len(self.present) + 2 * len(self.numbers)


Side = Annotated[int, Field(ge=1, le=65_536)]

MOST_NUMBERS: Final = 16_777_216
"""Of all recordings of one patient together."""


class Recordings(Record):
    """What a model sees of a patient's recordings: events that carry a scan or a signal, one class each."""

    shape: tuple[Side, ...] = Field(
        min_length=1,
        max_length=2,
        description="Of a recording: rows and columns of a scan, or the samples of a signal.",
    )
    most: Annotated[int, Field(ge=1, le=65_536)] = Field(
        description=(
            "How many recordings of a patient the model sees; of more, so many that are evenly spaced over "
            "the record."
        )
    )
    centre: Exact = Field(description="What is taken from every value, from public knowledge.")
    scale: Exact = Field(gt=0, description="What the rest is divided by; the result is cut at +-8.")
    classes: tuple[Code, ...] = Field(
        min_length=2,
        max_length=1000,
        description=(
            "The codes that a recording can have, in the order of the model's outputs; one with another code "
            "has no label."
        ),
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a code twice")
        if self.most * self.width > MOST_NUMBERS:
            raise ValueError(
                f"most recordings of this shape are more than {MOST_NUMBERS:,} numbers a patient"
            )
        return self

    @property
    def width(self) -> int:
        """The numbers of one recording."""
        return prod(self.shape)


Seen = Vocabulary | Features | Recordings
"""What a model sees of a patient."""


class EventTransformer(Record):
    """A decoder-only transformer over the tokens of a vocabulary."""

    name: Literal["event-transformer"] = Field(
        description="A decoder-only transformer over the tokens of a vocabulary."
    )
    layers: Annotated[int, Field(ge=1, le=24)] = Field(description="How many blocks.")
    width: Annotated[int, Field(ge=8, le=2048)] = Field(
        description="The width of its stream; a multiple of heads."
    )
    heads: Annotated[int, Field(ge=1, le=32)] = Field(description="The attention heads of a block.")
    length: Annotated[int, Field(ge=8, le=4096)] = Field(description="The tokens of a patient that it sees.")
    seed: Seed = Field(description="Of the first weights, which are public.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self

    def weights(self, tokens: int) -> int:
        """Return how many weights the model has: a table of tokens, the blocks, and the last norm."""
        block = 8 * self.width**2 + 11 * self.width
        return tokens * self.width + self.layers * block + 2 * self.width


class TabularNet(Record):
    """A perceptron over a row of features."""

    name: Literal["tabular-net"] = Field(description="A perceptron over a row of features.")
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        min_length=1, max_length=8, description="The widths of its hidden layers."
    )
    seed: Seed = Field(description="Of the first weights, which are public.")

    def weights(self, inputs: int) -> int:
        """Return how many weights the model has."""
        return sum((wide + 1) * out for wide, out in pairwise((inputs, *self.hidden, 1)))


class LogisticRegression(Record):
    """A linear classifier over a row of features; its first weights are zero."""

    name: Literal["logistic-regression"] = Field(
        description="A linear classifier over a row of features; its first weights are zero."
    )

    def weights(self, inputs: int) -> int:
        """Return how many weights the model has."""
        return inputs + 1


KERNEL: Final = 3
"""The pixels that a convolution of a `ScanNet` spans, in rows and in columns."""

REACH: Final = 5
"""The samples that a convolution of a `BeatNet` spans."""

GROUP: Final = 4
"""The channels of a `ScanNet` that are normalised together."""


class ScanNet(Record):
    """A small residual convolutional network over scans, each channel normalised with others of its scan."""

    name: Literal["scan-net"] = Field(
        description="A small residual convolutional network over scans, with group normalisation."
    )
    widths: tuple[Annotated[int, Field(ge=GROUP, le=512, multiple_of=GROUP)], ...] = Field(
        min_length=1,
        max_length=5,
        description="The channels of its blocks, multiples of 4; each block halves rows and columns.",
    )
    seed: Seed = Field(description="Of the first weights, which are public.")

    def weights(self, recordings: Recordings) -> int:
        """Return how many weights the model has: a first convolution, the blocks, the last norm, the head."""
        area, first, last = KERNEL**2, self.widths[0], self.widths[-1]
        blocks = sum(
            2 * wide + wide * out * area + 2 * out + out * out * area + wide * out
            for wide, out in pairwise((first, *self.widths))
        )
        return first * area + blocks + 2 * last + (last + 1) * len(recordings.classes)


class BeatNet(Record):
    """A convolutional network over a signal: strides in the place of maxima, and no normalisation."""

    name: Literal["beat-net"] = Field(
        description="A convolutional network over a signal, of strided convolutions and one linear layer."
    )
    widths: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(
        min_length=1,
        max_length=8,
        description="The channels of its convolutions; each halves the samples.",
    )
    activation: Literal["gelu", "square"] = Field(
        description="After each convolution: gelu, or the square, which can be computed on encrypted numbers."
    )
    seed: Seed = Field(description="Of the first weights, which are public.")

    def weights(self, recordings: Recordings) -> int:
        """Return how many weights the model has: the convolutions, and one linear layer on all they leave."""
        convolutions = sum((wide * REACH + 1) * out for wide, out in pairwise((1, *self.widths)))
        return convolutions + (self.flattened(recordings) + 1) * len(recordings.classes)

    def flattened(self, recordings: Recordings) -> int:
        """Return how many numbers the convolutions leave of one recording."""
        halvings: int = 2 ** len(self.widths)
        return self.widths[-1] * -(-recordings.width // halvings)


class ExtensionModel(Record):
    """A model that an extension brings."""

    name: Name = Field(description="A model that an extension of the study brings.")
    options: dict[Name, Text] = Field(description="What the extension reads.")
    seed: Seed = Field(description="Of the first weights, which are public.")


Classifier = TabularNet | LogisticRegression
"""The models that see a row of features."""

Recogniser = ScanNet | BeatNet
"""The models that see recordings."""


_BUILT_IN = ("event-transformer", "tabular-net", "logistic-regression", "scan-net", "beat-net")


def _kind(value: object) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if isinstance(name, str) and name in _BUILT_IN else "extension"


Architecture = Annotated[
    Annotated[EventTransformer, Tag("event-transformer")]
    | Annotated[TabularNet, Tag("tabular-net")]
    | Annotated[LogisticRegression, Tag("logistic-regression")]
    | Annotated[ScanNet, Tag("scan-net")]
    | Annotated[BeatNet, Tag("beat-net")]
    | Annotated[ExtensionModel, Tag("extension")],
    Discriminator(_kind),
]
"""A model's shape: one that oathbound has, or one that an extension of the study brings."""


def sees(model: Architecture) -> str:
    """Return what a model can see, in words."""
    match model:
        case EventTransformer():
            return "a vocabulary"
        case TabularNet() | LogisticRegression():
            return "features"
        case ScanNet():
            return "recordings of rows and columns"
        case BeatNet():
            return "recordings of samples"
    return "one of a vocabulary, features and recordings"


def fits(model: Architecture, seen: Seen) -> bool:
    """Return whether a model can see that; what an extension's can, its own code says."""
    match model, seen:
        case (EventTransformer(), Vocabulary()) | (TabularNet() | LogisticRegression(), Features()):
            return True
        case (ScanNet(), Recordings(shape=(_, _))) | (BeatNet(), Recordings(shape=(_,))):
            return True
    return isinstance(model, ExtensionModel)


def weights_of(model: Architecture, seen: Seen) -> int | None:
    """Return how many weights a model has that sees that; None for an extension's."""
    match model, seen:
        case EventTransformer(), Vocabulary():
            return model.weights(seen.size)
        case TabularNet() | LogisticRegression(), Features():
            return model.weights(seen.width)
        case ScanNet() | BeatNet(), Recordings():
            return model.weights(seen)
    return None
