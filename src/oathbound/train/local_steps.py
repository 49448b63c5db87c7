"""Several steps at each site between two sums, without a budget: FedAvg, FedProx and FedAdam.

They are one algorithm (Reddi et al. 2021, algorithm 1). A site takes plain gradient steps from the weights
that it gets; the coordinator makes a step of its own of the sites' mean change, each weighed by its members:

* `fedavg` (McMahan et al. 2017, algorithm 1) adds it to the weights;
* `fedprox` (Li et al. 2020, algorithm 2) does, too, and sites add mu times their change to each gradient;
* `fedadam` (Reddi et al. 2021, algorithm 2) gives its opposite to Adam for a gradient: `train.adam`, which
  corrects its bias, and adds 1e-8 where they add tau.

The new weights of the first two are the mean of the sites', as published: a policy says `learning_rate = "1"`
and `warmup = 0`, and nothing falls. Adam's rate is the plan's, as in every study.

Nothing bounds what a patient adds. `spec/training.md`, "Local steps", numbers the steps.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.core.local_training import LocalTraining
from oathbound.core.ports import PatientSampler
from oathbound.core.training_plan import Training
from oathbound.models.model import Model, load_flat
from oathbound.train.clip import plain_sums
from oathbound.train.plan import Plan

MOST_LOSS: Final = 1024.0
"""In nats: a mean loss above it is of weights that make nothing likely."""


@dataclass(frozen=True, slots=True)
class Change:
    """By how much the weights change, float64 [d], and the mean loss on the way, in nats.

    Where the steps `diverged` it is a change by nothing.
    """

    weights: NDArray[np.float64]
    loss: float
    diverged: bool = False


def local_change(
    model: Model,
    start: NDArray[np.float32],
    sampler: PatientSampler,
    training: Training,
    local: LocalTraining,
) -> Change:
    """Return what `local.steps` steps of gradient descent from `start` come to on a site's members.

    Each step is of the members whose coin came up; gradients and losses are divided by how many that is
    expected to be, so nobody's is a step of nothing but the proximal term, and one step at each site is the
    step of one place with all members. They have diverged where a step leaves a weight further from its start
    than `training.clip`, or the mean loss is above `MOST_LOSS`, or either is not a number. A site says so in
    the sum alone: refused in the open it would answer, by itself, what a coordinator asks by its weights.
    """
    expected = float(training.sampling_rate) * max(sampler.size, 1)  # without members all sums are zero
    rate, proximal, clip = float(local.learning_rate), float(local.proximal or 0), float(training.clip)
    change, losses = np.zeros(len(start)), 0.0
    for _ in range(local.steps):  # 7
        load_flat(model, (start + change).astype(np.float32))
        gradient, loss = plain_sums(model, sampler.sample(training.sampling_rate))
        losses += loss / expected
        change = change - rate * (gradient / expected + proximal * change)
        # 8; what is no number is not within a bound either
        if not (np.abs(change) <= clip).all() or not losses <= MOST_LOSS * local.steps:
            return Change(np.zeros(len(start)), 0.0, diverged=True)
    return Change(change, losses / local.steps)


def to_ring(change: Change, members: int, plan: Plan) -> NDArray[np.int64]:
    """Return a site's share of the sum, int64 [d + 3].

    It is n_k / N times its change, the number 1, its loss, and 1 if it diverged, else 0. They are in units of
    `clip`, 1, `MOST_LOSS` and 1, so none is above 1, and 1 is `plan.saturation`: the finest scale at which
    the sum of all sites cannot wrap around. `ring_norm` has no part in it.
    """
    share = min(1.0, members / plan.training.members)  # 9; a cohort may be above the plan by rounding
    told = (1.0, change.loss / MOST_LOSS, float(change.diverged))
    units = np.append(change.weights / float(plan.training.clip), told)
    return np.rint(share * plan.saturation * units).astype(np.int64)


def mean_change(total: NDArray[np.int64], plan: Plan) -> Change:
    """Return the members' mean of the sites' changes, from the sum of what `to_ring` made.

    `ProtocolRefused` for a sum that is none of such shares: a mean is within the bounds of what it is of.
    `WrongInput` where a site diverged; which one, nobody learns.
    """
    weight = int(total[-3])
    if weight <= 0 or int(np.abs(total).max()) > weight + len(plan.sites):  # 3; each share is rounded
        raise ProtocolRefused("a sum that is not of shares of local steps", hint="a site sent something else")
    if total[-1] > 0:
        raise WrongInput(
            "the training diverged: local steps moved a weight by more than clip, or to a loss above "
            f"{MOST_LOSS:,.0f} nats",
            hint="a new study, with a lower learning_rate in policy.training.local, or a larger clip",
        )
    units = total / weight
    return Change(units[:-3] * float(plan.training.clip), float(units[-2]) * MOST_LOSS)
