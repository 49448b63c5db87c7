"""What an audit test may ask of a model, as small capabilities, and a check that its answers are coherent.

A test sees a model through these alone, so a test written for our models runs on any other that an adapter
makes answer. Token arrays are int64 and hold no padding; probabilities are natural logarithms in float64.
A test asks for what it needs with `scoring`, `stepping`, `sampling` or `embedding`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import DidNotRun, Measured, Threat
from oathbound.core.patient import Patient

Tokens = NDArray[np.int64]
Floats = NDArray[np.float64]


@runtime_checkable
class HasTokens(Protocol):
    """A vocabulary: `size` tokens, of which `eos` ends a record, and a context of at most `length` tokens.

    `tokens_pushed` counts the tokens that went through the model: the cost.
    """

    eos: int
    size: int
    length: int
    tokens_pushed: int

    def tokenize(self, patient: Patient) -> tuple[int, ...]:
        """Return the record as at most `length` tokens; its first events give the first tokens, then EOS.

        Never empty: the first token stands for the beginning.
        """
        ...

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return every token that states `code`; `WrongInput` if the model does not know it."""
        ...


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Of every token after a sequence's first: how likely it was, among what was likely.

    All arrays have shape (sequences, longest - 1); entries at and beyond `counts`, shape (sequences,), are
    not defined. `mean` and `deviation` are those of the log-probability of a token drawn from the model
    there.
    """

    logprob: Floats
    mean: Floats
    deviation: Floats
    counts: Tokens


@runtime_checkable
class ScoresTokens(Protocol):
    """A model that says how likely given records are."""

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> TokenScores:
        """Return the scores of every sequence, in order, from one forward pass of each."""
        ...


class Steps(Protocol):
    """Continuations that grow by one token at a time."""

    def logprobs(self) -> Floats:
        """Return the log-probability of every next token, shape (continuations, size)."""
        ...

    def append(self, tokens: Tokens) -> None:
        """Append one token to every continuation."""
        ...


@runtime_checkable
class StepsTokens(Protocol):
    """A model that says what could come next."""

    def begin(self, prompts: Tokens, chains: int) -> Steps:
        """Begin `chains` adjacent continuations of each prompt; `prompts` has shape (prompts, tokens)."""
        ...


@runtime_checkable
class Samples(Protocol):
    """A model of which continuations are seen, and no probability."""

    def sample(self, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
        """Return `chains` adjacent continuations of each prompt, shape (prompts x chains, horizon).

        Drawn at temperature 1 from the whole distribution. After EOS, and beyond the context, every entry is
        EOS.
        """
        ...


@runtime_checkable
class Embeds(Protocol):
    """A model whose inner representation of a record is seen."""

    def embed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Return the representation after each sequence's last token, shape (sequences, width)."""
        ...


@runtime_checkable
class ScoringTarget(HasTokens, ScoresTokens, Protocol):
    """A model of sequences that says how likely records are."""


@runtime_checkable
class SteppingTarget(HasTokens, StepsTokens, Protocol):
    """A model of sequences that says what could come next."""


@runtime_checkable
class SamplingTarget(HasTokens, Samples, Protocol):
    """A model of sequences that shows continuations."""


@runtime_checkable
class EmbeddingTarget(HasTokens, Embeds, Protocol):
    """A model of sequences that shows its inner representation."""


@runtime_checkable
class SequenceTarget(ScoringTarget, SteppingTarget, Protocol):
    """A model of sequences that says every probability, as all that oathbound brings an adapter for do."""


@runtime_checkable
class RecordTarget(Protocol):
    """A model under audit that sees a record as a whole, such as a classifier.

    `tokens_pushed` counts the records that have gone through it: the cost.
    """

    tokens_pushed: int

    def record_logprobs(self, patients: Sequence[Patient]) -> Floats:
        """Return how likely the model finds what it predicts of each record, shape (patients,)."""
        ...


@runtime_checkable
class RecordingTarget(RecordTarget, Protocol):
    """A model of scans or signals, of which the inner representation of a recording is seen."""

    def recordings(self, patient: Patient) -> Floats:
        """Return a patient's labelled recordings as the model sees them, shape (recordings, numbers)."""
        ...

    def represent(self, recordings: Floats) -> Floats:
        """Return what the last layer sees of recordings (n, numbers), shape (n, features)."""
        ...


Target = HasTokens | RecordTarget
"""A model under audit. What else it can do is asked with `isinstance`, or with the functions below."""


def knows(target: HasTokens, code: str) -> bool:
    """Return whether the model's vocabulary lists a code."""
    try:
        return bool(target.tokens_of(code))
    except WrongInput:
        return False


def scoring(target: Target) -> ScoringTarget:
    """Return a target that scores records; `NothingExamined` unless this one does."""
    if isinstance(target, ScoringTarget):
        return target
    raise _cannot(target, "say how likely the tokens of a record are")


def stepping(target: Target) -> SteppingTarget:
    """Return a target that says what could come next; `NothingExamined` unless this one does."""
    if isinstance(target, SteppingTarget):
        return target
    raise _cannot(target, "say how likely the next token is")


def sampling(target: Target) -> SamplingTarget:
    """Return a target that shows continuations; `NothingExamined` unless this one does."""
    if isinstance(target, SamplingTarget):
        return target
    raise _cannot(target, "show continuations")


def embedding(target: Target) -> EmbeddingTarget:
    """Return a target that shows representations; `NothingExamined` unless this one does."""
    if isinstance(target, EmbeddingTarget):
        return target
    raise _cannot(target, "show its inner representation")


def _cannot(target: Target, what: str) -> NothingExamined:
    if isinstance(target, RecordTarget):
        return NothingExamined("the model sees a record as a whole and says no codes")
    return NothingExamined(f"the model does not {what}", hint="its adapter lacks what this test attacks")


@dataclass(frozen=True, slots=True, eq=False)
class Joined(Sequence[Patient]):
    """Two sequences of patients as one; neither is copied."""

    first: Sequence[Patient]
    second: Sequence[Patient]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @overload
    def __getitem__(self, index: int) -> Patient: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Patient]: ...
    def __getitem__(self, index: int | slice) -> Patient | Sequence[Patient]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        boundary = len(self.first)
        return self.first[places] if places < boundary else self.second[places - boundary]

    def __iter__(self) -> Iterator[Patient]:
        return chain(self.first, self.second)


@dataclass(frozen=True, slots=True)
class AuditedPatients:
    """The patients of one site that allow an audit: members of the training set, and a random draw held out.

    `reference` is a third draw, of nobody that is evaluated: what an attacker fits is fitted on them. They
    may be too many for memory: a test reads them in blocks. Raises `NothingExamined` if members or held-out
    are empty, `WrongInput` if two parts share a person.
    """

    members: Sequence[Patient]
    held_out: Sequence[Patient]
    reference: Sequence[Patient] = ()

    @property
    def evaluated(self) -> Joined:
        """Members, and after them held-out patients."""
        return Joined(self.members, self.held_out)

    def __post_init__(self) -> None:
        if not (self.members and self.held_out):
            raise NothingExamined(
                "there are no members or no held-out patients to audit",
                hint="admit patients whose consent covers the audit",
            )
        everybody = Joined(self.evaluated, self.reference)
        if len({patient.subject_id for patient in everybody}) != len(everybody):
            raise WrongInput(
                "a person is in the audit twice",
                hint="members, held-out and reference patients must be different people",
            )


@runtime_checkable
class AuditTest(Protocol):
    """One test of the catalogue, or of an extension. `version` changes whenever its numbers may.

    An extension's is 1, since the policy pins its code.
    """

    id: str
    version: int
    threat: Threat

    def run(
        self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes
    ) -> Measured | DidNotRun:
        """Attack `target`. Everything random is drawn from `seed`, 32 bytes."""
        ...
