"""Distributed training is central DP-SGD with the noise of all sites: the same losses, step by step.

The central one is written here in floats, from Abadi et al. (2016) with Poisson sampling and Adam, and shares
no code with ours. Its noise has the deviation of three sites' shares together: sqrt(3 / 2)
times that of the noise multiplier, for three sites of which one may collude.
"""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.core.accounting import share_sigma
from oathbound.core.canonical import digest
from oathbound.core.shape import LogisticRegression
from oathbound.core.training_plan import Budget, Training
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli
from oathbound.models.model import flat
from oathbound.models.tabular import build
from oathbound.train.descent import Descent
from oathbound.train.plan import Plan, Privacy
from oathbound.train.trainer import Trainer
from oathbound.workflow.sibling import Uncharged

WIDTH, PATIENTS, STEPS, RUNS = 6, 120, 12, 48
RATE, CLIP, LEARNING_RATE, RING_NORM = 0.25, 0.5, 0.1, 2**14
NOISE = 4.0
SITES = ("north", "south", "west")
LOOKED_AT = (3, 12)
FAR = 4.0
"""A difference of so many standard errors comes by chance once in 16,000 looks."""


class Members:
    def __init__(self, rows):
        self.rows = rows

    def sample(self, rate):
        return self.rows[bernoulli(rate, len(self.rows))]


def records():
    draw = np.random.default_rng(1)
    features = draw.normal(size=(PATIENTS, WIDTH)).astype(np.float32)
    ill = features @ np.linspace(-2, 2, WIDTH) + draw.normal(size=PATIENTS) > 0
    return np.column_stack([features, ill]).astype(np.float32)


def mean_loss(weights, rows):
    odds = rows[:, :-1] @ weights[:-1] + weights[-1]
    return float(np.logaddexp(0, odds).mean() - (odds * rows[:, -1]).mean())


def plan():
    training = {
        "members": PATIENTS,
        "sampling_rate": str(RATE),
        "steps": STEPS,
        "attempts": STEPS,
        "round_steps": STEPS,
        "learning_rate": str(LEARNING_RATE),
        "warmup": 0,
        "ring_norm": RING_NORM,
        "clip": str(CLIP),
    }
    budget = {
        "epsilon": "1000",
        "delta": "1e-6",
        "unit": "patient",
        "neighbours": "add-remove",
        "noise_multiplier": str(NOISE),
        "sites_per_patient": 1,
    }
    sigma = share_sigma(noise_multiplier=Decimal(str(NOISE)), ring_norm=RING_NORM, honest_shares=2)
    return Plan(
        digest(b"policy"),
        SITES,
        Training.parse(training, what="training"),
        WIDTH + 1,
        Privacy(Budget.parse(budget, what="budget"), sigma, 2),
    )


def distributed(rows):
    """Return the mean loss after each step: three sites with a third of the patients each."""
    agreed, run = plan(), digest(b"run")
    parts = np.array_split(rows, len(SITES))
    trainers = [
        Trainer(
            site=site,
            run=run,
            plan=agreed,
            last_step=STEPS,
            model=build(LogisticRegression(name="logistic-regression"), WIDTH),
            sampler=Members(part),
            ledger=Uncharged(),
            noise=DiscreteGaussian(agreed.privacy.share_sigma),
        )
        for site, part in zip(SITES, parts, strict=True)
    ]
    first = flat(build(LogisticRegression(name="logistic-regression"), WIDTH))
    descent, losses = Descent(plan=agreed, run=run, weights=first), []
    while not descent.finished:
        step = descent.begin()
        shares = [trainer.share(trainer.check(step)) for trainer in trainers]
        descent.take(np.sum(shares, axis=0, dtype=np.uint32))
        losses.append(mean_loss(descent.weights, rows))
    return losses


def central(rows, noise, draw):
    """Return the same of one trusted place that adds Gaussian noise of deviation `noise` times the clip."""
    weights = torch.zeros(WIDTH + 1, dtype=torch.float64)
    optimiser = torch.optim.Adam([weights], betas=(0.9, 0.999), eps=1e-8)
    inputs, label, losses = np.column_stack([rows[:, :-1], np.ones(len(rows))]), rows[:, -1], []
    for step in range(1, STEPS + 1):
        some = draw.random(len(rows)) < RATE
        odds = inputs[some] @ weights.numpy()
        gradients = (1 / (1 + np.exp(-odds)) - label[some])[:, None] * inputs[some]
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        total = (gradients * np.minimum(1, CLIP / norms)).sum(axis=0)
        total += draw.normal(scale=noise * CLIP, size=WIDTH + 1)
        weights.grad = torch.from_numpy(total / (RATE * len(rows)))
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - (step - 1) / STEPS)
        optimiser.step()
        losses.append(mean_loss(weights.numpy(), rows))
    return losses


@pytest.fixture(scope="module")
def ours():
    rows = records()
    return rows, np.array([distributed(rows) for _ in range(RUNS)])


def differences(one, other):
    """Return how many standard errors the two mean loss curves are apart, at the steps that are looked at."""
    at = [step - 1 for step in LOOKED_AT]
    spread = np.sqrt(
        one[:, at].var(axis=0, ddof=1) / len(one) + other[:, at].var(axis=0, ddof=1) / len(other)
    )
    return np.abs(one[:, at].mean(axis=0) - other[:, at].mean(axis=0)) / spread


def test_the_losses_are_those_of_central_training_with_the_noise_of_all_sites(ours):
    rows, curves = ours
    draw = np.random.default_rng(2)
    reference = np.array([central(rows, NOISE * math.sqrt(3 / 2), draw) for _ in range(4 * RUNS)])
    assert (differences(curves, reference) < FAR).all()


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_another_noise_would_be_noticed(ours, factor):
    """None, half and double: by simulation half is 7 standard errors away, double 9."""
    rows, curves = ours
    draw = np.random.default_rng(3)
    other = np.array([central(rows, factor * NOISE * math.sqrt(3 / 2), draw) for _ in range(4 * RUNS)])
    assert (differences(curves, other) > FAR).any()
