"""Sensitive disclosure: whether a harmless prompt makes the model state a sensitive code.

`docs/audits/sensitive-disclosure.md` has the estimand, the estimator and its calibration.

A *carrier* is a patient whose record states a code of the sensitive set S within `horizon` tokens after the
prompt. The prompt is the beginning of the record without S and without what implies it. The test compares
how probable S is after the prompts of member carriers and of held-out carriers; held-out patients were set
aside by a uniform random draw before training, so what the model predicts of anybody cancels, and what it
remembers of members stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np

from oathbound.audit.statistics import Group, Stratum, excess, published_cost
from oathbound.audit.target import (
    AuditedPatients,
    AuditTest,
    Floats,
    RecordTarget,
    SequenceTarget,
    Steps,
    Target,
    Tokens,
)
from oathbound.core.catalogue import DISCLOSURE_THREAT
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Measured
from oathbound.core.patient import Event, Patient
from oathbound.core.study import AuditPlan, SensitiveSet
from oathbound.models.tokenizer import BIRTH

_LENGTH_BAND: Final = 8
_PROBABILITIES: Final = 2**20
"""The most next-token probabilities held at once; 8 MiB in float64."""


class SensitiveDisclosure:
    """The excess, over held-out carriers, of P(any code of S within `horizon` tokens, before EOS)."""

    id = "sensitive-disclosure"
    version = 1
    threat = DISCLOSURE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Estimate every carrier's probability from `plan.sensitive.chains` set-avoiding continuations."""
        sensitive = plan.sensitive
        if isinstance(target, RecordTarget):
            raise NothingExamined("the model sees a record as a whole and says no codes")
        if sensitive is None:
            raise NothingExamined("the policy names no sensitive codes")
        before = target.tokens_pushed
        members = carriers(target, patients.members, sensitive)
        held_out = carriers(target, patients.held_out, sensitive)
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        probabilities = emission(target, [c.prompt for c in (*members, *held_out)], sensitive, rng)
        measure = excess(
            "emission",
            Group(probabilities[: len(members)], [carrier.stratum for carrier in members]),
            Group(probabilities[len(members) :], [carrier.stratum for carrier in held_out]),
            minimum=plan.minimum_patients,
            strata="static facts, age band, prompt length; values with few carriers merged",
        )
        cost = published_cost(target.tokens_pushed - before, [measure])
        return Measured(kind="measured", measures=(measure,), tokens=cost)


@dataclass(frozen=True, slots=True)
class Carrier:
    """What the attacker starts from, and whom to compare this carrier with."""

    prompt: tuple[int, ...]
    stratum: Stratum


def carriers(target: SequenceTarget, patients: Iterable[Patient], sensitive: SensitiveSet) -> list[Carrier]:
    """Return the carriers among `patients`."""
    states = states_of(target, sensitive)
    stripped = {*sensitive.codes, *sensitive.implied_by}
    found = []
    for patient in patients:
        cut = _cut(target, patient, stripped, sensitive.prompt_events)
        if states.intersection(cut.continuation[: sensitive.horizon]):
            length = len(cut.prompt) // _LENGTH_BAND
            found.append(Carrier(cut.prompt, (cut.static, cut.age, (length,))))
    return found


def states_of(target: SequenceTarget, sensitive: SensitiveSet) -> frozenset[int]:
    """Return every token that states a code of S; `WrongInput` if the model does not know one."""
    return frozenset[int]().union(*(target.tokens_of(code) for code in sensitive.codes))


@dataclass(frozen=True, slots=True)
class _Cut:
    """A record in two: the prompt, of which `static` and `age` are the first tokens, and what follows it."""

    static: tuple[int, ...]
    age: tuple[int, ...]
    prompt: tuple[int, ...]
    continuation: tuple[int, ...]


def _cut(target: SequenceTarget, patient: Patient, stripped: set[str], prompt_events: int) -> _Cut:
    """Cut a record after its first `prompt_events` harmless events; with fewer, nothing follows the prompt.

    Codes in `stripped` are taken out of the static facts, and out of the events up to the last of the prompt,
    before they become tokens, so that no gap betrays them. The birth is a fact, not an event.
    """
    facts = [e for e in patient.events if _is_fact(e) and e.code not in stripped]
    events = [e for e in patient.events if not _is_fact(e)]
    kept = [i for i, event in enumerate(events) if event.code not in stripped][:prompt_events]
    known = [events[i] for i in kept]
    later = events[kept[-1] + 1 :] if kept else events

    static = _opening(target, patient, facts)
    record = target.tokenize(replace(patient, events=(*facts, *known, *later)))
    aged = len(static) + any(event.code == BIRTH for event in facts)
    if len(kept) < prompt_events:
        prompt = record
    elif known:
        prompt = _opening(target, patient, [*facts, *known])
    else:
        prompt = record[:aged]
    return _Cut(static, record[len(static) : aged], prompt, record[len(prompt) :])


def _is_fact(event: Event) -> bool:
    return event.time is None or event.code == BIRTH


def _opening(target: SequenceTarget, patient: Patient, events: Sequence[Event]) -> tuple[int, ...]:
    """Return the tokens of the first events of a record that goes on."""
    tokens = target.tokenize(replace(patient, events=tuple(events)))
    return tokens[:-1] if tokens[-1] == target.eos else tokens


def emission(
    target: SequenceTarget,
    prompts: Sequence[tuple[int, ...]],
    sensitive: SensitiveSet,
    rng: np.random.Generator,
) -> Floats:
    """Return the probability that S is stated after each prompt, the mean of its chains, shape (prompts,).

    Prompts of one length grow together. What does not fit in the model's context is not asked for.
    """
    avoid = np.array(sorted(states_of(target, sensitive)), dtype=np.int64)
    probabilities = np.zeros(len(prompts))
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for length, same in groupby(by_length, key=lambda i: len(prompts[i])):
        reach = min(sensitive.horizon, target.length - length)
        group = list(same)
        size = max(_PROBABILITIES // (target.size * sensitive.chains), 1)
        for batch in (group[start : start + size] for start in range(0, len(group), size)):
            steps = target.begin(np.array([prompts[i] for i in batch], dtype=np.int64), sensitive.chains)
            each = set_avoiding(
                steps,
                len(batch) * sensitive.chains,
                avoid=avoid,
                eos=target.eos,
                horizon=reach,
                rng=rng,
            )
            probabilities[batch] = each.reshape(len(batch), sensitive.chains).mean(axis=1)
    return probabilities


def set_avoiding(
    steps: Steps, chains: int, *, avoid: Tokens, eos: int, horizon: int, rng: np.random.Generator
) -> Floats:
    """Return an unbiased estimate of P(a token of `avoid` within `horizon`, before `eos`) from each chain.

    Tokens are drawn from the model's distribution without `avoid`, and W is multiplied by the probability
    of having avoided it; the estimate is 1 - W. `eos` is never avoided, and freezes W. Its variance is
    never above that of counting hits: E[1 - W] is the probability, and 1 - W lies in [0, 1].
    """
    weight, alive = np.ones(chains), np.ones(chains, dtype=bool)
    drawn = np.zeros(chains, dtype=np.int64)
    for step in range(horizon):
        if step:
            steps.append(drawn)
        probabilities = np.exp(steps.logprobs())
        states = probabilities[:, avoid].sum(axis=1).clip(0, 1)
        weight = np.where(alive, weight * (1 - states), weight)
        probabilities[:, avoid] = 0
        cumulative = probabilities.cumsum(axis=1)
        total = cumulative[:, -1:]
        drawn = (cumulative > rng.random((chains, 1)) * total).argmax(axis=1)
        alive &= (drawn != eos) & (total[:, 0] > 0)
        if not alive.any():
            break
    return 1 - weight


TEST: Final[AuditTest] = SensitiveDisclosure()
