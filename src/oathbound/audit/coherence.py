"""Whether a target's answers agree with each other: scores of a model that is fed wrongly would mean nothing.

`check_coherent` asks in several ways what a target offers, and compares.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from oathbound.audit.target import (
    EmbeddingTarget,
    Floats,
    HasTokens,
    RecordTarget,
    SamplingTarget,
    ScoringTarget,
    SequenceTarget,
    SteppingTarget,
    Target,
    Tokens,
)
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Patient

_TOLERANCE: Final = 1e-2
"""Far above what single precision does to a log-probability, far below what a wrong mask does."""

_PROBES: Final = 8
_STRIDE: Final = 16
"""Tokens that are stepped through, at either end of a probe: enough to show a wrong position or mask."""

_SEED: Final = 7
_CHAINS: Final = 2

Sequences = Sequence[tuple[int, ...]]


def check_coherent(target: Target, patients: Sequence[Patient]) -> None:
    """Ask about a few of `patients` in several ways, and raise `WrongInput` where the answers differ."""
    if isinstance(target, RecordTarget):
        _check_records(target, patients[:: max(len(patients) // _PROBES, 1)])
    else:
        check_sequences(target, [target.tokenize(patient) for patient in patients])


def check_sequences(target: HasTokens, sequences: Sequence[Sequence[int]]) -> None:
    """Ask about a few of `sequences` in several ways, and raise `WrongInput` where the answers differ.

    Of what the target offers: 1. Probabilities are finite, at most 1, and sum to 1. 2. Padding changes
    nothing: a record alone and in a batch has one score, and one representation. 3. A prefix is scored as the
    whole: stepping along a record gives the scores of one pass. 4. Chains that share a prompt are apart
    after it. 5. One seed draws one sample, of tokens that there are, and EOS stays.
    """
    probes = _probes(target, sequences)
    if isinstance(target, ScoringTarget):
        _check_scores(target, probes)
    if isinstance(target, SequenceTarget):
        for probe in probes:
            _check_steps(target, probe)
    if isinstance(target, SteppingTarget):
        _check_chains(target, probes)
    if isinstance(target, EmbeddingTarget):
        _check_embeddings(target, probes)
    if isinstance(target, SamplingTarget):
        _check_samples(target, probes)


def _probes(target: HasTokens, sequences: Sequence[Sequence[int]]) -> Sequences:
    """Return a few sequences of different lengths."""
    tokens = {token for sequence in sequences for token in sequence}
    known = all(0 <= token < target.size for token in tokens)
    _refuse_unless(known, "a record has a token that the model does not know")
    _refuse_unless(all(len(one) <= target.length for one in sequences), "a record exceeds the context")
    probes = sorted({tuple(sequence) for sequence in sequences}, key=lambda probe: (len(probe), probe))
    probes = [probe for probe in probes if len(probe) > 1]
    if not probes:
        raise NothingExamined("there is no record of two tokens to try the model on")
    few = probes[:: max(len(probes) // _PROBES, 1)][: _PROBES - 1]
    return [*few, *(probes[-1:] if probes[-1] not in few else ())]


def _check_records(target: RecordTarget, probes: Sequence[Patient]) -> None:
    """Scores are finite logarithms of probabilities, and a record scored alone and in a batch agree."""
    together = target.record_logprobs(probes)
    _refuse_unless(together.shape == (len(probes),), "there is not one score for every record")
    known = together[~np.isnan(together)]
    _refuse_unless(bool(np.isfinite(known).all()), "a score is not a finite number")
    _refuse_unless(bool((known <= _TOLERANCE).all()), "a probability is above 1")
    alone = np.concatenate([target.record_logprobs([probe]) for probe in probes])
    same = np.allclose(together, alone, atol=_TOLERANCE, equal_nan=True)
    _refuse_unless(same, "a record is scored differently in a batch")


def _check_scores(target: ScoringTarget, probes: Sequences) -> None:
    together = target.token_logprobs(probes)
    expected = [len(probe) - 1 for probe in probes]
    _refuse_unless(together.counts.tolist() == expected, "there is not one score for every token")
    for row, count in enumerate(expected):
        known = together.logprob[row, :count]
        _refuse_unless(bool(np.isfinite(known).all()), "a score is not a finite number")
        _refuse_unless(bool((known <= _TOLERANCE).all()), "a probability is above 1")
        alone = target.token_logprobs([probes[row]]).logprob[0, :count]
        _refuse_unless(
            np.allclose(known, alone, atol=_TOLERANCE), "a record is scored differently in a batch"
        )


def _check_steps(target: SequenceTarget, probe: tuple[int, ...]) -> None:
    """Step along the beginning of a record, and along its end."""
    whole = target.token_logprobs([probe]).logprob[0]
    for start in {1, max(len(probe) - _STRIDE, 1)}:
        stepped = _stepped(target, probe[: start + _STRIDE], start)
        known = whole[start - 1 : start - 1 + len(stepped)]
        _refuse_unless(
            np.allclose(known, stepped, atol=_TOLERANCE), "a prefix is scored unlike the whole record"
        )


def _stepped(target: SteppingTarget, probe: tuple[int, ...], start: int) -> Floats:
    steps = target.begin(np.array([probe[:start]], dtype=np.int64), 1)
    scores = []
    for token in probe[start:]:
        nexts = _nexts(target, steps.logprobs(), 1)
        scores.append(nexts[0, token])
        steps.append(np.array([token], dtype=np.int64))
    return np.array(scores)


def _nexts(target: SteppingTarget, nexts: Floats, chains: int) -> Floats:
    """Return log-probabilities of next tokens, once they are known to be that."""
    _refuse_unless(nexts.shape == (chains, target.size), "there is not one probability for every token")
    totals = np.exp(nexts).sum(axis=1)
    right = bool((np.abs(totals - 1) <= _TOLERANCE).all())  # false for what is no number
    _refuse_unless(right, "the probabilities of the next token do not sum to 1")
    return nexts


def _check_chains(target: SteppingTarget, probes: Sequences) -> None:
    """Continue each of two prompts by two tokens, together and one by one."""
    cut = max(min(len(probe) for probe in probes) - 1, 1)
    if cut + 1 > target.length:
        return
    prompts = np.array([probe[:cut] for probe in (probes[0], probes[-1])], dtype=np.int64)
    tokens = np.array([probes[0][1], probes[-1][-1], target.eos, probes[0][cut]], dtype=np.int64)
    steps = target.begin(prompts, _CHAINS)
    first = _nexts(target, steps.logprobs(), len(tokens))
    alike = np.allclose(first[0], first[1], atol=_TOLERANCE)
    _refuse_unless(alike, "two continuations of one prompt begin differently")
    if cut + 1 == target.length:
        return
    steps.append(tokens)
    together = _nexts(target, steps.logprobs(), len(tokens))
    for chain, token in enumerate(tokens):
        longer = np.array([[*prompts[chain // _CHAINS], token]], dtype=np.int64)
        alone = _nexts(target, target.begin(longer, 1).logprobs(), 1)[0]
        same = _probabilities_agree(together[chain], alone)
        _refuse_unless(same, "continuations that share a prompt disturb each other")


def _probabilities_agree(one: Floats, other: Floats) -> bool:
    """Return whether two distributions agree, also where a probability is next to nothing."""
    return bool(np.allclose(np.exp(one), np.exp(other), atol=_TOLERANCE / 10))


def _check_embeddings(target: EmbeddingTarget, probes: Sequences) -> None:
    together = target.embed(probes)
    right = together.ndim == 2 and len(together) == len(probes) and together.shape[1] > 0  # noqa: PLR2004 - rows and columns
    _refuse_unless(right, "there is not one representation for every record")
    _refuse_unless(bool(np.isfinite(together).all()), "a representation is not finite")
    alone = np.concatenate([target.embed([probe]) for probe in probes])
    scale = max(float(np.abs(together).max()), 1.0)
    same = np.allclose(together, alone, atol=_TOLERANCE * scale)
    _refuse_unless(same, "a record is represented differently in a batch")


def _check_samples(target: SamplingTarget, probes: Sequences) -> None:
    cut = min(len(probe) for probe in probes) - 1
    prompts = np.array([probe[:cut] for probe in (probes[0], probes[-1])], dtype=np.int64)
    first, again = (target.sample(prompts, _CHAINS, _STRIDE, _SEED) for _ in range(2))
    shape = (len(prompts) * _CHAINS, _STRIDE)
    _refuse_unless(first.shape == shape, "there is not one continuation for every chain")
    _refuse_unless(np.array_equal(first, again), "one seed does not draw one sample")
    known = bool(((first >= 0) & (first < target.size)).all())
    _refuse_unless(known, "a sample has a token that the model does not know")
    _refuse_unless(_ended(first, target.eos), "a sample goes on after its end")


def _ended(samples: Tokens, eos: int) -> bool:
    after = np.maximum.accumulate(samples == eos, axis=1)
    return bool((samples[after] == eos).all())


def _refuse_unless(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads as a sentence at every call
    if not holds:
        raise WrongInput(
            f"the model's answers are not coherent: {problem}",
            hint="its weights or its adapter are wrong; scores from them would mean nothing",
        )
