"""Rare subgroups: whether a small group is exposed more than the average shows.

`docs/audits/rare-subgroup.md` has the estimand, the estimator and its calibration.

The plan fixes one partition of the patients before there is a model. Of each group, its members are held
against its held-out patients: who is in a group follows from records alone, so within it members are still a
uniform random draw, and what the model finds likely of anybody in the group cancels.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

from oathbound.audit.baseline import record_scores
from oathbound.audit.catalog.membership import examined
from oathbound.audit.catalog.sensitive_disclosure import Carrier, carriers
from oathbound.audit.emission import Prompt
from oathbound.audit.partition import hidden, partition
from oathbound.audit.pilot import emission
from oathbound.audit.references import RefersTo
from oathbound.audit.statistics import Group, Scores, auc, baseline, excess, published_cost
from oathbound.audit.target import AuditedPatients, AuditTest, Floats, HasTokens, RecordTarget, Target
from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.catalogue import SUBGROUP_REFERENCE_THREAT, SUBGROUP_THREAT
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Measure, Measured, NotMeasurable
from oathbound.core.groups import SUPPRESSED
from oathbound.core.patient import Patient
from oathbound.core.usable import LEAST_FOR_AUC, LEAST_FOR_EXCESS

_STRATA: Final = "of the group: static facts, age band, prompt length; values with few carriers merged"

Two = tuple[Sequence[Patient], Sequence[Patient]]
"""The members and the held-out patients of a group."""


class RareSubgroup:
    """The AUC of one score in every group; of sequence models with [sensitive], each group's excess as well.

    The score is `reference-difference` with `refers_to`, and `loss` without: the study decides, before
    anybody looks. Blind baselines are of all patients together.
    """

    id = "rare-subgroup"
    version = 1

    def __init__(self, refers_to: RefersTo | None = None) -> None:
        self._refers_to = refers_to
        self.threat = SUBGROUP_THREAT if refers_to is None else SUBGROUP_REFERENCE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Score every patient once, and ask what follows the prompts of the carriers in groups shown.

        Raises `Unavailable` where there are too few reference patients: another score would be another
        attack.
        """
        if plan.groups is None:
            raise NothingExamined("the plan names no groups")
        before, least = target.tokens_pushed, plan.minimum_patients
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        people, boundary = patients.evaluated, len(patients.members)
        blind = {"records": record_scores(people, boundary, rng)}
        scores, alone = self._scores(target, patients, people, rng)
        if alone is not None:
            blind["references"] = _known(alone[:boundary]), _known(alone[boundary:])
        everybody = boundary, len(people) - boundary
        measures: list[Measure] = [
            baseline(name, *both, minimum=least, halves_of=everybody if name == "records" else None)
            for name, both in blind.items()
        ]
        group_of, told = np.array(partition(people, plan.groups)), ~np.isnan(scores)
        sides = np.arange(len(people)) < boundary, np.arange(len(people)) >= boundary
        own, others = (
            {name: np.flatnonzero(side & told & (group_of == name)).tolist() for name in plan.groups.names}
            for side in sides
        )
        unsaid = hidden(
            {name: (len(own[name]), len(others[name])) for name in own},
            measurable=max(least, LEAST_FOR_AUC),
            minimum=least,
        )
        measures += [
            _suppressed("auc", name)
            if name in unsaid
            else auc(name, scores[own[name]], scores[others[name]], minimum=least)
            for name in own
        ]
        if plan.sensitive is not None and not isinstance(target, RecordTarget):
            parts = {
                name: ([people[i] for i in own[name]], [people[i] for i in others[name]]) for name in own
            }
            measures += disclosed(target, parts, plan.sensitive, minimum=least, already=unsaid, rng=rng)
        cost = published_cost(target.tokens_pushed - before, measures)
        return Measured(kind="measured", measures=tuple(measures), tokens=cost)

    def _scores(
        self, target: Target, patients: AuditedPatients, people: Sequence[Patient], rng: np.random.Generator
    ) -> tuple[Scores, Scores | None]:
        """Return the score of each of `people`, and the reference models' own; NaN where untold."""
        own = examined(target, people)[1].logprob
        alone: Scores | None = None
        if self._refers_to is not None:
            found = self._refers_to.references(patients.reference, rng)
            alone = np.mean([examined(model, people)[1].logprob for model in found.targets], axis=0)
            own = own - alone
        if np.isnan(own).all():
            raise NothingExamined("the model tells too little of its probabilities")
        return own, alone


def disclosed(
    target: HasTokens,
    groups: Mapping[str, Two],
    sensitive: SensitiveSet,
    *,
    minimum: int,
    already: frozenset[str],
    rng: np.random.Generator,
) -> list[Measure]:
    """Return the excess of P(S) after the whole prompt, of the carriers of each group.

    That of `sensitive-disclosure`, which tells how many carriers there are in all: groups with few of them
    are hidden as groups with few patients are, and so is who is hidden `already`.
    """
    found = {
        name: (carriers(target, members, sensitive), carriers(target, held_out, sensitive))
        for name, (members, held_out) in groups.items()
    }
    unsaid = hidden(
        {name: (len(own), len(others)) for name, (own, others) in found.items()},
        measurable=max(minimum, LEAST_FOR_EXCESS),
        minimum=minimum,
        already=already,
    )
    asked = {name: both for name, both in found.items() if name not in unsaid}
    everybody = [carrier for both in asked.values() for group in both for carrier in group]
    probabilities, way = _emission(target, everybody, sensitive, rng)
    said = iter(probabilities)
    measures: list[Measure] = [_suppressed("excess", name) for name in found if name in unsaid]
    for name, both in asked.items():
        own, others = (
            Group(np.fromiter(islice(said, len(group)), float), [carrier.stratum for carrier in group])
            for group in both
        )
        measures.append(excess(name, own, others, minimum=minimum, strata=_STRATA, estimator=way))
    return measures


def _emission(
    target: HasTokens, everybody: Sequence[Carrier], sensitive: SensitiveSet, rng: np.random.Generator
) -> tuple[Floats, str | None]:
    """Return P(S) after each carrier's prompt, shape (carriers,), and how, as a finding says it."""
    if not everybody:
        return np.zeros(0), None
    prompts = [Prompt(carrier.prompt, carrier.continuation) for carrier in everybody]
    probabilities, way = emission(target, prompts, sensitive, horizon=sensitive.horizon, rng=rng)
    return probabilities, f"{way}, {sensitive.chains} a patient"


def _known(scores: Scores) -> Scores:
    return scores[~np.isnan(scores)]


def _suppressed(metric: str, name: str) -> NotMeasurable:
    return NotMeasurable(kind="not-measurable", metric=metric, score=name, reason=SUPPRESSED)


TEST: Final[AuditTest] = RareSubgroup()
