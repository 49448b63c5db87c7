"""Identifier perturbation: whether a sensitive answer collapses when age, sex or dates change a little.

`docs/audits/identifier-perturbation.md` has the estimand, the estimator and its calibration.

What medicine foresees of a woman of 61 it foresees of one of 60, and of both less of a man; a record that is
remembered answers to its own identifiers alone. The test compares by how much P(S) falls, on average over the
changes, in members and in held-out carriers; an answer that rises has a fall of 0. Both prompts are asked
with the same random numbers, so that their difference is of the model and seldom of chance.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from oathbound.audit.catalog.sensitive_disclosure import Carrier, carriers, prompt_at
from oathbound.audit.chains import CodeSet
from oathbound.audit.emission import Counting, Estimator, Prompt, SetAvoiding, states_of
from oathbound.audit.openings import is_sex
from oathbound.audit.statistics import Group, excess, published_cost
from oathbound.audit.target import (
    AuditedPatients,
    AuditTest,
    Floats,
    HasTokens,
    RecordTarget,
    SteppingTarget,
    Target,
    Tokens,
    knows,
    sampling,
)
from oathbound.core.audit_plan import AuditPlan, PerturbationPlan, SensitiveSet
from oathbound.core.catalogue import PERTURBATION_THREAT
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Measure, Measured, NotMeasurable
from oathbound.core.patient import Event
from oathbound.core.rungs import Rung
from oathbound.models.tokenizer import BIRTH

NOT_EXPRESSIBLE: Final = "the model's vocabulary cannot express this change"

_YEAR: Final = dt.timedelta(days=365.25)

Variant = tuple[tuple[Event, ...], tuple[Event, ...]]
"""The facts and the known events of a carrier, with an identifier changed."""


class IdentifierPerturbation:
    """The excess, over held-out carriers, of the fall of P(S) when one identifier is changed."""

    id = "identifier-perturbation"
    version = 1
    threat = PERTURBATION_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Estimate P(S) from every carrier's prompt, and from the same prompt with other identifiers."""
        sensitive, asked = plan.sensitive, plan.perturbation
        if isinstance(target, RecordTarget):
            raise NothingExamined("the model sees a record as a whole and says no codes")
        if sensitive is None or asked is None:
            raise NothingExamined("the plan names no sensitive codes, or no changes of identifiers")
        if not sensitive.prompt_events:
            raise NothingExamined("prompts of no events have no dates, and no age at one")
        estimator: Estimator = (
            SetAvoiding(target) if isinstance(target, SteppingTarget) else Counting(sampling(target))
        )
        before = target.tokens_pushed
        members, held_out = (
            carriers(target, group, sensitive) for group in (patients.members, patients.held_out)
        )
        everybody = [*members, *held_out]
        enough = min(len(members), len(held_out)) >= plan.minimum_patients
        measures: list[Measure] = []
        for score, vary in _changes(target, patients, asked).items():
            owner, prompts = _varied(target, everybody, vary)
            if enough and not prompts:
                measures.append(
                    NotMeasurable(kind="not-measurable", metric="excess", score=score, reason=NOT_EXPRESSIBLE)
                )
                continue
            true = [everybody[i].prompt for i in owner]
            own, changed = (
                _emission(target, estimator, each, sensitive=sensitive, seed=seed) for each in (true, prompts)
            )
            falls = own - changed
            who, place = np.unique(owner, return_inverse=True)
            mean = np.bincount(place, falls, len(who)) / np.bincount(place, minlength=len(who))
            mean = mean.clip(0, 1)  # an answer that rises is no collapse; limits are for values in [0, 1]
            strata = [everybody[i].stratum for i in who]
            boundary = int(np.searchsorted(who, len(members)))
            measures.append(
                excess(
                    score,
                    Group(mean[:boundary], strata[:boundary]),
                    Group(mean[boundary:], strata[boundary:]),
                    minimum=plan.minimum_patients,
                    strata="static facts, age band, prompt length; values with few carriers merged",
                    estimator=f"{estimator.name}, {sensitive.chains} a prompt",
                )
            )
        cost = published_cost(target.tokens_pushed - before, measures)
        return Measured(kind="measured", measures=tuple(measures), tokens=cost)


def _emission(
    target: HasTokens,
    estimator: Estimator,
    prompts: Sequence[tuple[int, ...]],
    *,
    sensitive: SensitiveSet,
    seed: bytes,
) -> Floats:
    """Return the estimate of P(S) after each prompt, shape (prompts,), always by the same random numbers."""
    if not prompts:
        return np.zeros(0)
    codes = CodeSet.of(target, ((token,) for token in states_of(target, sensitive)))
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
    (estimates,) = estimator.estimate(
        [Prompt(tokens) for tokens in prompts],
        [codes],
        horizon=sensitive.horizon,
        chains=sensitive.chains,
        rng=rng,
    )
    return np.asarray(estimates.mean(axis=1))


def _varied(
    target: HasTokens, everybody: Sequence[Carrier], vary: Callable[[Carrier], Iterable[Variant]]
) -> tuple[Tokens, list[tuple[int, ...]]]:
    """Return the other prompts that the changes lead to, each once a carrier, and whose they are.

    Whom no change concerns, in the model's vocabulary, has none: an age may stay in its band.
    """
    owner: list[int] = []
    prompts: list[tuple[int, ...]] = []
    for i, carrier in enumerate(everybody):
        whole = Rung(person=True, codes=max(len(carrier.known), 1), dates=True, values=True)
        said = (
            prompt_at(target, replace(carrier, facts=facts, known=known), whole)
            for facts, known in vary(carrier)
        )
        others = [prompt for prompt in dict.fromkeys(said) if prompt != carrier.prompt]
        owner += [i] * len(others)
        prompts += others
    return np.array(owner, dtype=np.int64), prompts


def _changes(
    target: HasTokens, patients: AuditedPatients, asked: PerturbationPlan
) -> dict[str, Callable[[Carrier], Iterable[Variant]]]:
    """Return, by the score that reports it, what each change makes of a carrier.

    `age` moves the birth; `sex` says another sex that somebody under audit has; `dates` moves all dates
    together, which only a vocabulary of calendar dates can say, and all but the first event's, which changes
    the time after that one.
    """
    sexes = sorted({e.code for patient in patients.evaluated for e in patient.events if is_sex(e)})
    known = [code for code in sexes if knows(target, code)]
    years = [sign * year for year in range(1, asked.years + 1) for sign in (-1, 1)]

    def age(carrier: Carrier) -> Iterator[Variant]:
        for older in years:
            facts = (_moved(e, -older * _YEAR) if e.code == BIRTH else e for e in carrier.facts)
            yield tuple(facts), carrier.known

    def sex(carrier: Carrier) -> Iterator[Variant]:
        for code in known:
            facts = (replace(e, code=code) if is_sex(e) else e for e in carrier.facts)
            yield tuple(facts), carrier.known

    def dates(carrier: Carrier) -> Iterator[Variant]:
        later = dt.timedelta(days=asked.days)
        for moved in (-later, later):
            facts, known = (tuple(_moved(e, moved) for e in each) for each in (carrier.facts, carrier.known))
            yield facts, known
        yield carrier.facts, (*carrier.known[:1], *(_moved(e, later) for e in carrier.known[1:]))

    return {"age": age, "dates": dates, "sex": sex}


def _moved(event: Event, later: dt.timedelta) -> Event:
    return event if event.time is None else replace(event, time=event.time + later)


TEST: Final[AuditTest] = IdentifierPerturbation()
