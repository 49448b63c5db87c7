"""Reference models: what records look like to models of the same plan that saw none of those evaluated.

How likely a record is says more about the record than about the model; models that never saw it tell the two
apart. They are trained on the site's `reference` patients alone, by the study's own plan without its privacy:
its architecture, first weights, steps and learning rate, and so large a share of the patients in each step.
They are unprotected. They live in memory, inside the site, and go when the test that asked for them returns.

Of n models (folds: n, and two where n is one) each leaves out a fold of the reference patients; for those of
its fold it is as much a stranger as for everybody evaluated. So the reference patients are the population
that RMIA holds a record against, each seen by models that did not train on it.

Never give models that trained on an evaluated patient, member or held-out: they know that patient, and a
score that compares with them separates the groups where the model under audit learnt nothing (`Supplied`
cannot tell; `audit.baseline` does).
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oathbound.audit.adapters.own import target_of
from oathbound.audit.target import Target
from oathbound.core.errors import Unavailable
from oathbound.core.local_training import LocalTraining
from oathbound.core.patient import Patient
from oathbound.core.training_plan import Training
from oathbound.models.family import Family
from oathbound.models.model import Model, Rows

LEAST_PEOPLE: Final = 40
"""With fewer reference patients a reference model knows them by heart, and nothing about others."""

MOST: Final = 4
"""More models add little: they differ in a fold and in the order of patients."""

_PAD: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Models, and people whom nobody evaluates; `unseen` (models, people): whom a model did not train on.

    Everybody in `people` is unseen by one model at least.
    """

    targets: tuple[Target, ...]
    people: tuple[Patient, ...]
    unseen: NDArray[np.bool_]


class RefersTo(Protocol):
    """Where a test gets its reference models from."""

    def references(self, people: Sequence[Patient], rng: np.random.Generator) -> References:
        """Return reference models and the people; `Unavailable` where there can be none, and why."""
        ...


@dataclass(frozen=True, slots=True)
class Supplied:
    """Models that somebody else trained, on nobody of this audit: that is their word."""

    targets: tuple[Target, ...]

    def references(self, people: Sequence[Patient], rng: np.random.Generator) -> References:  # noqa: ARG002 - part of RefersTo
        """Return the models; `Unavailable` without models or without people."""
        if not (self.targets and people):
            raise Unavailable(
                "there are no reference models, or no reference patients to hold records against"
            )
        return References(self.targets, tuple(people), np.ones((len(self.targets), len(people)), dtype=bool))


@dataclass(frozen=True, slots=True)
class Trained:
    """Models of the study's own plan. `family` is a new model of it, with the first weights."""

    family: Family
    training: Training
    count: int = MOST

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise ValueError(f"from 1 to {MOST} reference models")

    def references(self, people: Sequence[Patient], rng: np.random.Generator) -> References:
        """Train on these people; `Unavailable` where they are fewer than `LEAST_PEOPLE`."""
        if len(people) < LEAST_PEOPLE:
            raise Unavailable("too few reference patients to train reference models on")
        fold = rng.permutation(len(people)) % max(self.count, 2)
        unseen = fold == np.arange(self.count)[:, None]
        known = unseen.any(axis=0)  # of two folds and one model, the other fold is all that it read
        rows = self.family.encoder.encode_all(people)
        models = [trained(self.family.model, rows[~left_out], self.training, rng) for left_out in unseen]
        strangers = tuple(itertools.compress(people, known))
        targets = tuple(target_of(model, self.family.encoder) for model in models)
        return References(targets, strangers, unseen[:, known])


def trained(model: Model, rows: Rows, training: Training, rng: np.random.Generator) -> Model:
    """Return a copy of `model` that was trained on `rows`.

    By the plan of one site: Adam with its decays and learning rates (`train.plan`, `train.adam`), or its
    local steps (`train.local_steps`), and batches of the plan's share of the patients, all of one size
    instead of a coin for every patient. Raises `Unavailable` where the weights end as no finite numbers.

    One model after the other: all of them together, their weights stacked (`torch.func.vmap`), took 1.2 to
    0.9 times as long on one thread for transformers, and 0.6 for classifiers, which take a second anyway.
    """
    own = copy.deepcopy(model).train()
    size, local = max(round(float(training.sampling_rate) * len(rows)), 1), training.local

    def slopes() -> None:
        batch = _cut(rows[rng.choice(len(rows), size, replace=False)])
        own.zero_grad()
        own.losses(torch.from_numpy(batch)).mean().backward()  # type: ignore[no-untyped-call] # torch's

    descent = torch.optim.Adam(own.parameters(), betas=(0.9, 0.999), eps=1e-8, fused=True)
    for step in range(1, training.steps + 1):
        descent.param_groups[0]["lr"] = _rate(training, step)
        if local is None:
            slopes()
        else:
            start = _walked(own, local, slopes)
            if local.takes_the_mean:  # of one site
                continue
            _returned(own, start)
        descent.step()
    if not all(bool(weight.isfinite().all()) for weight in own.parameters()):
        raise Unavailable("the training of a reference model diverged")
    return own


def _walked(model: Model, local: LocalTraining, slopes: Callable[[], None]) -> list[Tensor]:
    """Take the local steps between two sums, and return the weights before them."""
    start = [weight.detach().clone() for weight in model.parameters()]
    rate, proximal = float(local.learning_rate), float(local.proximal or 0)
    for _ in range(local.steps):
        slopes()
        with torch.no_grad():
            for weight, first in zip(model.parameters(), start, strict=True):
                if weight.grad is not None:
                    weight.sub_(rate * (weight.grad + proximal * (weight - first)))
    return start


def _returned(model: Model, start: Sequence[Tensor]) -> None:
    """Go back to `start`, and leave the opposite of the way in the place of the gradients."""
    with torch.no_grad():
        for weight, first in zip(model.parameters(), start, strict=True):
            weight.grad = first - weight
            weight.copy_(first)


def _rate(training: Training, step: int) -> float:
    rise = min(1.0, step / max(1, training.warmup))
    return float(training.learning_rate) * rise * (1 - (step - 1) / training.steps)


def _cut(rows: Rows) -> Rows:
    """Return the rows without the columns at their end in which there is only padding."""
    if rows.dtype != np.int64:
        return rows
    return rows[..., : int((rows != _PAD).any(axis=tuple(range(rows.ndim - 1))).sum())]
