"""What an audit test may ask of a model, as small capabilities, and a check that its answers are coherent.

A test sees a model through these alone, so a test written for our models runs on any other that an adapter
makes answer. Token arrays are int64 and hold no padding; probabilities are natural logarithms in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import DidNotRun, Measured, Threat
from oathbound.core.patient import Patient
from oathbound.core.study import AuditPlan

Tokens = NDArray[np.int64]
Floats = NDArray[np.float64]

_TOLERANCE: Final = 1e-2
"""Far above what single precision does to a log-probability, far below what a wrong mask does."""

_PROBES: Final = 8


class HasTokens(Protocol):
    """A vocabulary: `size` tokens, of which `eos` ends a record, and a context of at most `length` tokens."""

    eos: int
    size: int
    length: int

    def tokenize(self, patient: Patient) -> tuple[int, ...]:
        """Return the record as at most `length` tokens; its first events give the first tokens, then EOS."""
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


class StepsTokens(Protocol):
    """A model that says what could come next."""

    def begin(self, prompts: Tokens, chains: int) -> Steps:
        """Begin `chains` adjacent continuations of each prompt; `prompts` has shape (prompts, tokens)."""
        ...


class SequenceTarget(HasTokens, ScoresTokens, StepsTokens, Protocol):
    """A model of sequences under audit. `tokens_pushed` counts the tokens that went through it: the cost."""

    tokens_pushed: int


@runtime_checkable
class RecordTarget(Protocol):
    """A model under audit that sees a record as a whole, such as a classifier.

    `tokens_pushed` counts the records that have gone through it: the cost.
    """

    tokens_pushed: int

    def record_logprobs(self, patients: Sequence[Patient]) -> Floats:
        """Return how likely the model finds what it predicts of each record, shape (patients,)."""
        ...


Target = SequenceTarget | RecordTarget


@dataclass(frozen=True, slots=True)
class AuditedPatients:
    """The patients of one site that allow an audit: members of the training set, and a random draw held out.

    Raises `NothingExamined` if either group is empty, `WrongInput` if they share a person.
    """

    members: tuple[Patient, ...]
    held_out: tuple[Patient, ...]

    def __post_init__(self) -> None:
        if not (self.members and self.held_out):
            raise NothingExamined(
                "there are no members or no held-out patients to audit",
                hint="admit patients whose consent covers the audit",
            )
        people = {patient.subject_id for patient in (*self.members, *self.held_out)}
        if len(people) != len(self.members) + len(self.held_out):
            raise WrongInput(
                "a person is in the audit twice",
                hint="members and held-out patients must be different people",
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


def check_coherent(target: Target, patients: Sequence[Patient]) -> None:
    """Ask about a few of `patients` in several ways, and raise `WrongInput` where the answers differ."""
    if isinstance(target, RecordTarget):
        _check_records(target, patients[:: max(len(patients) // _PROBES, 1)])
    else:
        check_sequences(target, [target.tokenize(patient) for patient in patients])


def _check_records(target: RecordTarget, probes: Sequence[Patient]) -> None:
    """Scores are finite logarithms of probabilities, and a record scored alone and in a batch agree."""
    together = target.record_logprobs(probes)
    known = together[~np.isnan(together)]
    _refuse_unless(bool(np.isfinite(known).all()), "a score is not a finite number")
    _refuse_unless(bool((known <= _TOLERANCE).all()), "a probability is above 1")
    alone = np.concatenate([target.record_logprobs([probe]) for probe in probes])
    same = np.allclose(together, alone, atol=_TOLERANCE, equal_nan=True)
    _refuse_unless(same, "a record is scored differently in a batch")


def check_sequences(target: SequenceTarget, sequences: Sequence[Sequence[int]]) -> None:
    """Ask about a few of `sequences` in several ways, and raise `WrongInput` where the answers differ.

    1. Probabilities are finite and sum to 1. 2. Padding changes nothing: a record scored alone and in a
    batch agree.
    3. A prefix is scored as the whole: stepping along a record gives the scores of one pass.
    """
    probes = sorted({tuple(sequence) for sequence in sequences}, key=lambda probe: (len(probe), probe))
    probes = [probe for probe in probes[:: max(len(probes) // _PROBES, 1)] if len(probe) > 1]
    if not probes:
        raise NothingExamined("there is no record of two tokens to try the model on")
    together = target.token_logprobs(probes)
    for row, probe in enumerate(probes):
        known = together.logprob[row, : len(probe) - 1]
        _refuse_unless(bool(np.isfinite(known).all()), "a score is not a finite number")
        alone = target.token_logprobs([probe]).logprob[0, : len(probe) - 1]
        _refuse_unless(
            np.allclose(known, alone, atol=_TOLERANCE), "a record is scored differently in a batch"
        )
        stepped = _stepped(target, probe)
        _refuse_unless(
            np.allclose(known, stepped, atol=_TOLERANCE), "a prefix is scored unlike the whole record"
        )


def _stepped(target: SequenceTarget, probe: tuple[int, ...]) -> Floats:
    steps = target.begin(np.array([probe[:1]], dtype=np.int64), 1)
    scores = []
    for token in probe[1:]:
        nexts = steps.logprobs()
        _refuse_unless(nexts.shape == (1, target.size), "there is not one probability for every token")
        total = np.exp(nexts).sum()
        _refuse_unless(
            bool(abs(total - 1) <= _TOLERANCE), "the probabilities of the next token do not sum to 1"
        )
        scores.append(nexts[0, token])
        steps.append(np.array([token], dtype=np.int64))
    return np.array(scores)


def _refuse_unless(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads as a sentence at every call
    if not holds:
        raise WrongInput(
            f"the model's answers are not coherent: {problem}",
            hint="its weights or its adapter are wrong; scores from them would mean nothing",
        )
