from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.study import Budget, Training
from oathbound.models.model import flat, load_flat
from oathbound.models.transformer import build, loss
from oathbound.train.coordinator import Coordinator
from oathbound.train.node import Node
from oathbound.train.plan import Plan, Privacy

SIZE = 20
LENGTH = 40
RUN = digest(b"run")
SIGMA = Decimal(9000)
SITES = ("north", "south", "west")
ARCHITECTURE = Architecture(name="event-transformer", layers=1, width=16, heads=2, length=LENGTH, seed=5)


@dataclass
class MemoryLedger:
    charged: list[int] = field(default_factory=list)

    def charge(self, attempt):
        if attempt <= self.highest():
            raise ProtocolRefused("charged before")
        self.charged.append(attempt)

    def highest(self):
        return max(self.charged, default=0)


@dataclass
class Everybody:
    """All members, always: a sampler that a test can compute with. `order` remembers what was called when."""

    tokens: np.ndarray
    rates: list[Decimal] = field(default_factory=list)

    def sample(self, rate):
        self.rates.append(rate)
        return self.tokens


@dataclass
class Silence:
    """Noise of the planned parameter that is zero."""

    sigma: Decimal = SIGMA

    def sample(self, n):
        return np.zeros(n, dtype=np.int64)


def training(**changes):
    plain = {
        "members": 60,
        "sampling_rate": "0.5",
        "steps": 4,
        "attempts": 6,
        "round_steps": 1000,
        "learning_rate": "0.01",
        "warmup": 1,
        "ring_norm": 16384,
        "clip": "0.5",
    }
    return Training.parse({**plain, **changes}, what="training")


def budget():
    plain = {
        "epsilon": "1000",
        "delta": "1e-6",
        "unit": "patient",
        "neighbours": "add-remove",
        "noise_multiplier": "0.7",
        "sites_per_patient": 1,
    }
    return Budget.parse(plain, what="budget")


def members(seed, patients=20):
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, SIZE, (patients, LENGTH))
    for row, length in zip(rows, rng.integers(2, LENGTH + 1, patients), strict=True):
        row[length:] = 0
    return rows


# small matrices are slower on several threads, and much slower on a busy machine
torch.set_num_threads(1)


class Consortium:
    """Three nodes and a coordinator in memory."""

    def __init__(self, *, private=True, noise=Silence, **changes):
        self.first = flat(build(ARCHITECTURE, SIZE))
        self.plan = Plan(
            policy=digest(b"policy"),
            sites=SITES,
            training=training(**changes),
            dimension=len(self.first),
            privacy=Privacy(budget(), SIGMA, 2) if private else None,
        )
        self.noise = noise if private else lambda: None
        self.ledgers = {site: MemoryLedger() for site in SITES}
        self.samplers = {site: Everybody(members(seed)) for seed, site in enumerate(SITES)}
        self.nodes = {site: self.node(site) for site in SITES}

    def node(self, site, *, of=None, **changes):
        parts = {
            "site": of or site,
            "run": RUN,
            "plan": self.plan,
            "last_step": self.plan.training.steps,
            "model": build(ARCHITECTURE, SIZE),
            "sampler": self.samplers[site],
            "ledger": self.ledgers[site],
            "noise": self.noise(),
        }
        return Node(**{**parts, **changes})

    def coordinator(self, run=RUN):
        return Coordinator(plan=self.plan, run=run, weights=self.first)

    def loss(self, weights):
        model = build(ARCHITECTURE, SIZE)
        load_flat(model, weights)
        tokens = torch.from_numpy(np.concatenate([sampler.tokens for sampler in self.samplers.values()]))
        return loss(model(tokens), tokens).mean().item()


@pytest.fixture
def consortium():
    return Consortium


@pytest.fixture
def run_digest():
    return RUN
