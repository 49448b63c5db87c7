"""Sensitive disclosure: whether a harmless prompt makes the model state a sensitive code.

`docs/audits/sensitive-disclosure.md` has the estimand, the estimator and its calibration.

A *carrier* is a patient whose record states a code of the sensitive set S within `horizon` tokens after the
prompt. The prompt is the beginning of the record without S and without what implies it. The test compares
how probable S is after the prompts of member carriers and of held-out carriers; held-out patients were set
aside by a uniform random draw before training, so what the model predicts of anybody cancels, and what it
remembers of members stays.

On a ladder of attacker knowledge (`docs/audits/ladder.md`) every rung asks the same carriers for the same
thing, S before the end of those `horizon` tokens, from a prompt that says less of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from oathbound.audit.emission import Prompt, states_of
from oathbound.audit.openings import LENGTH_BAND, is_fact, is_sex, opening
from oathbound.audit.pilot import emission
from oathbound.audit.statistics import Group, Stratum, excess, published_cost
from oathbound.audit.target import (
    AuditedPatients,
    AuditTest,
    Floats,
    HasTokens,
    RecordTarget,
    Target,
)
from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.catalogue import DISCLOSURE_THREAT
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Excess, Measured, NotMeasurable
from oathbound.core.ladder import NOT_EXPRESSIBLE
from oathbound.core.patient import Event, Patient
from oathbound.core.rungs import Rung, ladder_of
from oathbound.models.tokenizer import BIRTH


class SensitiveDisclosure:
    """The excess, over held-out carriers, of P(any code of S within `horizon` tokens, before EOS)."""

    id = "sensitive-disclosure"
    version = 2
    threat = DISCLOSURE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Estimate every carrier's probability from `plan.sensitive.chains` continuations."""
        sensitive = plan.sensitive
        if isinstance(target, RecordTarget):
            raise NothingExamined("the model sees a record as a whole and says no codes")
        if sensitive is None:
            raise NothingExamined("the plan names no sensitive codes")
        return disclosed(
            target,
            patients,
            sensitive,
            ladder=ladder_of(sensitive.ladder or (), sensitive.prompt_events),
            minimum=plan.minimum_patients,
            seed=seed,
        )


def disclosed(
    target: HasTokens,
    patients: AuditedPatients,
    sensitive: SensitiveSet,
    *,
    ladder: Sequence[Rung],
    minimum: int,
    seed: bytes,
) -> Measured:
    """Return the excess at every rung, by its name; without a ladder that of the whole prompt, `emission`."""
    before = target.tokens_pushed
    members = carriers(target, patients.members, sensitive)
    held_out = carriers(target, patients.held_out, sensitive)
    everybody = [*members, *held_out]
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
    prompts = {rung.name: [prompt_at(target, each, rung) for each in everybody] for rung in ladder}
    enough = min(len(members), len(held_out)) >= minimum  # of fewer, what they lack is theirs alone
    unsaid = not_expressible(list(prompts.values())) if enough else frozenset()
    measures: list[Excess | NotMeasurable] = []
    for place, (score, said) in enumerate((prompts or {"emission": [c.prompt for c in everybody]}).items()):
        if place in unsaid:
            measures.append(
                NotMeasurable(kind="not-measurable", metric="excess", score=score, reason=NOT_EXPRESSIBLE)
            )
            continue
        probabilities, ways = _emission_until(target, said, everybody, sensitive, rng)
        measures.append(
            excess(
                score,
                Group(probabilities[: len(members)], [carrier.stratum for carrier in members]),
                Group(probabilities[len(members) :], [carrier.stratum for carrier in held_out]),
                minimum=minimum,
                strata="static facts, age band, prompt length; values with few carriers merged",
                estimator=f"{' and '.join(ways)}, {sensitive.chains} a patient" if ways else None,
            )
        )
    cost = published_cost(target.tokens_pushed - before, measures)
    return Measured(kind="measured", measures=tuple(measures), tokens=cost)


@dataclass(frozen=True, slots=True)
class Carrier:
    """What the attacker starts from, and whom to compare this carrier with.

    `continuation` is what follows `prompt` in the record: the auditor alone knows it. `facts` and `known` are
    the harmless facts and events of which `prompt` is made; `age` is its age token.
    """

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]
    stratum: Stratum
    age: tuple[int, ...]
    facts: tuple[Event, ...]
    known: tuple[Event, ...]


def carriers(target: HasTokens, patients: Iterable[Patient], sensitive: SensitiveSet) -> list[Carrier]:
    """Return the carriers among `patients`."""
    states = states_of(target, sensitive)
    stripped = {*sensitive.codes, *sensitive.implied_by}
    found = []
    for patient in patients:
        parts = cut(target, patient, stripped, sensitive.prompt_events)
        if states.intersection(parts.continuation[: sensitive.horizon]):
            length = len(parts.prompt) // LENGTH_BAND
            stratum = (parts.static, parts.age, (length,))
            found.append(
                Carrier(parts.prompt, parts.continuation, stratum, parts.age, parts.facts, parts.known)
            )
    return found


def prompt_at(target: HasTokens, carrier: Carrier, rung: Rung) -> tuple[int, ...]:
    """Return what an attacker at `rung` says of the carrier, in the model's vocabulary.

    What he does not know is left unsaid as far as a record can leave it: without dates all events have one
    time, so that no token tells of time between them; without values a code stands without one. A model that
    was trained on records with both has seldom seen such a beginning: see `docs/audits/ladder.md`.
    """
    if not rung.person:
        return opening(target, ())
    if not rung.codes:
        return opening(target, [fact for fact in carrier.facts if is_sex(fact)]) + carrier.age
    known = carrier.known[: rung.codes]
    if not rung.dates:
        known = tuple(replace(event, time=known[0].time) for event in known)
    said = (*carrier.facts, *known)
    if not rung.values:
        said = tuple(replace(event, value=None) for event in said)
    return opening(target, said)


def not_expressible(prompts: Sequence[Sequence[tuple[int, ...]]]) -> frozenset[int]:
    """Return the rungs that the vocabulary cannot express, by their places; `prompts` has one list a rung.

    Such a rung says nothing of anybody, not even that a record begins, or of everybody what an earlier rung
    says. To measure it again would show as harmless what cannot be asked.
    """
    return frozenset(
        place
        for place, said in enumerate(prompts)
        if said and (not all(said) or any(list(said) == list(other) for other in prompts[:place]))
    )


def _emission_until(
    target: HasTokens,
    prompts: Sequence[tuple[int, ...]],
    everybody: Sequence[Carrier],
    sensitive: SensitiveSet,
    rng: np.random.Generator,
) -> tuple[Floats, list[str]]:
    """Return P(S before the end of each carrier's window, `horizon` tokens after the whole prompt), and how.

    What is known of the true continuation is the record from the place where the prompt ends; a prompt that
    leaves out dates or values is no beginning of it, and any path serves (decision 15).
    """
    starts = [
        Prompt(prompt, (*carrier.prompt, *carrier.continuation)[len(prompt) :])
        for carrier, prompt in zip(everybody, prompts, strict=True)
    ]
    reach = np.array(
        [
            len(carrier.prompt) + sensitive.horizon - len(prompt)
            for carrier, prompt in zip(everybody, prompts, strict=True)
        ],
        dtype=np.int64,
    )
    probabilities, ways = np.zeros(len(prompts)), set[str]()
    for horizon in np.unique(reach).tolist():
        same = np.flatnonzero(reach == horizon).tolist()
        asked = [starts[i] for i in same]
        probabilities[same], way = emission(target, asked, sensitive, horizon=horizon, rng=rng)
        ways.add(way)
    return probabilities, sorted(ways)


@dataclass(frozen=True, slots=True)
class Cut:
    """A record in two: the prompt, of which `static` and `age` are the first tokens, and what follows it.

    The prompt says the harmless `facts` and the `known` events.
    """

    facts: tuple[Event, ...]
    known: tuple[Event, ...]
    static: tuple[int, ...]
    age: tuple[int, ...]
    prompt: tuple[int, ...]
    continuation: tuple[int, ...]


def cut(target: HasTokens, patient: Patient, stripped: set[str], prompt_events: int) -> Cut:
    """Cut a record after its first `prompt_events` harmless events; with fewer, nothing follows the prompt.

    Codes in `stripped` are taken out of the static facts, and out of the events up to the last of the prompt,
    before they become tokens, so that no gap betrays them. The birth is a fact, not an event.
    """
    facts = [e for e in patient.events if is_fact(e) and e.code not in stripped]
    events = [e for e in patient.events if not is_fact(e)]
    kept = [i for i, event in enumerate(events) if event.code not in stripped][:prompt_events]
    known = [events[i] for i in kept]
    later = events[kept[-1] + 1 :] if kept else events

    static = opening(target, facts)
    record = target.tokenize(replace(patient, events=(*facts, *known, *later)))
    aged = len(static) + any(event.code == BIRTH for event in facts)
    if len(kept) < prompt_events:
        prompt = record
    elif known:
        prompt = opening(target, [*facts, *known])
    else:
        prompt = record[:aged]
    age = record[len(static) : aged]
    return Cut(tuple(facts), tuple(known), static, age, prompt, record[len(prompt) :])


TEST: Final[AuditTest] = SensitiveDisclosure()
