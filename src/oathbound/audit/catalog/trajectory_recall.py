"""Trajectory recall: whether the model goes on with its members' records as they really went on.

`docs/audits/trajectory-recall.md` has the estimand, the distances and their calibration.

The prompt is the beginning of a record, the truth what the record says next. A good model of medicine comes
near the truth for anybody; held-out patients were set aside by a uniform random draw before training, so what
it foresees of anybody cancels, and what it remembers of members stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.chains import drawn
from oathbound.audit.demd import CodeTable, additive, exact_recall, published, tokens_in
from oathbound.audit.openings import LENGTH_BAND, is_fact, opening
from oathbound.audit.statistics import Group, Stratum, excess, published_cost
from oathbound.audit.target import (
    AuditedPatients,
    AuditTest,
    Floats,
    HasTokens,
    RecordTarget,
    Samples,
    SteppingTarget,
    Target,
    Tokens,
    sampling,
)
from oathbound.audit.timeline import Lexicon, Trajectory, lexicon_of
from oathbound.core.audit_plan import AuditPlan, TrajectoryPlan
from oathbound.core.catalogue import TRAJECTORY_SCORES, TRAJECTORY_THREAT
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import Measured
from oathbound.core.patient import Patient

_BLOCK: Final = 1024
"""Patients whose continuations are in memory at once."""

_TABLE: Final = 4096
"""The most tokens in one table of distances; 64 MiB. With more, patients are compared in two halves."""


class TrajectoryRecall:
    """The excess, over held-out patients, of the closeness of continuations to the truth.

    `embeddings`, shape (target.size, width), gives the distance of codes as that of their cosines; without
    them it is the tree distance of `CodeTable.of_paths`.
    """

    id = "trajectory-recall"
    version = 1
    threat = TRAJECTORY_THREAT

    def __init__(self, embeddings: NDArray[np.floating] | None = None) -> None:
        self._embeddings = embeddings

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Draw `plan.trajectories.chains` continuations of every prompt, and compare each to the truth."""
        asked = plan.trajectories
        if isinstance(target, RecordTarget):
            raise NothingExamined("the model sees a record as a whole and says no codes")
        if asked is None:
            raise NothingExamined("the plan asks for no trajectories")
        if self._embeddings is not None and len(self._embeddings) != target.size:
            raise WrongInput(
                "there is not one embedding for every token", hint="one row a token of the model, in order"
            )
        sampler = _sampler(target)
        before = target.tokens_pushed
        lexicon = lexicon_of(target, patients.evaluated)
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        members, held_out = (
            self._compared(target, sampler, lexicon, group, asked=asked, rng=rng)
            for group in (patients.members, patients.held_out)
        )
        measures = tuple(
            excess(
                score,
                members[score],
                held_out[score],
                minimum=plan.minimum_patients,
                strata="static facts, age band, prompt length; values with few patients merged",
            )
            for score in sorted(TRAJECTORY_SCORES)
        )
        cost = published_cost(target.tokens_pushed - before, measures)
        return Measured(kind="measured", measures=measures, tokens=cost)

    def _compared(
        self,
        target: HasTokens,
        sampler: Samples,
        lexicon: Lexicon,
        patients: Sequence[Patient],
        *,
        asked: TrajectoryPlan,
        rng: np.random.Generator,
    ) -> dict[str, Group]:
        """Return by score how close each patient's continuations come to the truth, and the stratum."""
        near: dict[str, list[Floats]] = {score: [np.zeros(0)] for score in TRAJECTORY_SCORES}
        strata: list[Stratum] = []
        for start in range(0, len(patients), _BLOCK):
            some = begun(target, lexicon, patients[start : start + _BLOCK], asked)
            said = continued(target, sampler, lexicon, some, asked=asked, rng=rng)
            for score, values in self._closeness(lexicon, [each.truth for each in some], said).items():
                near[score].append(values)
            strata += [each.stratum for each in some]
        return {score: Group(np.concatenate(values), strata) for score, values in near.items()}

    def _closeness(
        self, lexicon: Lexicon, truths: Sequence[Trajectory], said: Sequence[Sequence[Trajectory]]
    ) -> dict[str, Floats]:
        """Return of every patient the mean closeness of what was said to the truth, by score, in [0, 1]."""
        if not truths:
            return {score: np.zeros(0) for score in TRAJECTORY_SCORES}
        tokens = tokens_in([*truths, *(one for chains in said for one in chains)])
        if len(tokens) > _TABLE and len(truths) > 1:
            half = len(truths) // 2
            parts = (
                self._closeness(lexicon, truths[at], said[at]) for at in (slice(half), slice(half, None))
            )
            first, second = parts
            return {score: np.concatenate([first[score], second[score]]) for score in first}
        codes = (
            CodeTable.of_paths(tokens, lexicon.paths, len(lexicon.hours))
            if self._embeddings is None
            else CodeTable.of_embeddings(tokens, self._embeddings)
        )
        near = [
            np.mean([closeness(truth, one, codes) for one in chains], axis=0)
            for truth, chains in zip(truths, said, strict=True)
        ]
        return dict(zip(_ORDER, np.array(near).T, strict=True))


_ORDER: Final = ("closeness", "closeness-published", "exact-recall")


def closeness(truth: Trajectory, said: Trajectory, codes: CodeTable) -> tuple[float, float, float]:
    """Return how near one continuation is to the truth, in [0, 1], in the order of `_ORDER`.

    1 less the additive distance over the largest; 1 / (1 + published distance); and exact recall.
    """
    return (
        1 - additive(truth, said, codes) / (codes.farthest + 1),
        1 / (1 + published(truth, said, codes)),
        exact_recall(truth, said),
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """A patient as the attacker starts: the prompt; as the auditor knows on: the truth, in `reach` tokens."""

    prompt: tuple[int, ...]
    truth: Trajectory
    stratum: Stratum


def begun(
    target: HasTokens, lexicon: Lexicon, patients: Iterable[Patient], asked: TrajectoryPlan
) -> list[Begun]:
    """Return the patients of whose record an event follows the prompt, within `asked.horizon` tokens.

    The prompt says the static facts, the age, and the first `asked.prompt_events` events. Whether a patient
    counts is known from the record alone, whatever the model says.
    """
    found = []
    for patient in patients:
        facts = [event for event in patient.events if is_fact(event)]
        events = [event for event in patient.events if not is_fact(event)]
        known = events[: asked.prompt_events]
        ageless = [event for event in facts if event.time is None]
        static = opening(target, ageless)
        prompt = opening(target, [*facts, *known])
        aged = len(prompt) > len(opening(target, [*ageless, *known]))
        age = prompt[len(static) : len(static) + aged]
        record = target.tokenize(patient)
        truth = lexicon.trajectory(record[len(prompt) : len(prompt) + asked.horizon])
        if record[: len(prompt)] == prompt and len(truth):
            found.append(Begun(prompt, truth, (static, age, (len(prompt) // LENGTH_BAND,))))
    return found


def continued(
    target: HasTokens,
    sampler: Samples,
    lexicon: Lexicon,
    everybody: Sequence[Begun],
    *,
    asked: TrajectoryPlan,
    rng: np.random.Generator,
) -> list[list[Trajectory]]:
    """Return `asked.chains` continuations of each prompt, of `asked.horizon` tokens as far as they fit.

    `WrongInput` if the model gives others than it was asked for.
    """
    said: list[list[Trajectory]] = [[] for _ in everybody]
    by_length = sorted(range(len(everybody)), key=lambda i: len(everybody[i].prompt))
    for length, same in groupby(by_length, key=lambda i: len(everybody[i].prompt)):
        group = list(same)
        reach = min(asked.horizon, target.length - length)
        prompts = np.array([everybody[i].prompt for i in group], dtype=np.int64)
        drawn = sampler.sample(prompts, asked.chains, reach, int(rng.integers(2**63)))
        fits = drawn.shape == (len(group) * asked.chains, reach)
        if not fits or drawn.min() < 0 or drawn.max() >= target.size:
            raise WrongInput(
                "the model gave other continuations than it was asked for", hint="its adapter is wrong"
            )
        for row, tokens in enumerate(drawn):
            said[group[row // asked.chains]].append(lexicon.trajectory(tokens))
    return said


def _sampler(target: HasTokens) -> Samples:
    """Return the target, or what draws from the probabilities that it gives."""
    if isinstance(target, SteppingTarget) and not isinstance(target, Samples):
        return Drawing(target)
    return sampling(target)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A target that says what could come next, as one that shows continuations: it `Samples`."""

    target: SteppingTarget

    def sample(self, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
        """Return `chains` adjacent continuations of each prompt, shape (prompts x chains, horizon)."""
        return drawn(self.target, prompts, chains, horizon, seed)


TEST: Final[AuditTest] = TrajectoryRecall()
