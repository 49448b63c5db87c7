from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, Unavailable
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.training_plan import Budget, Training
from oathbound.models.model import flat, load_flat
from oathbound.models.transformer import build, loss
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent
from oathbound.train.ftrl import Turns
from oathbound.train.node import Node
from oathbound.train.plan import Plan, Privacy
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.terms import Terms, Thresholds
from oathbound.train.trainer import Trainer

SIZE = 20
LENGTH = 40
RUN = digest(b"run")
SIGMA = Decimal(9000)
SITES = ("north", "south", "west", "east")
COLLUDING = 1
SIGNERS = {
    site: Ed25519PrivateKey.from_private_bytes(bytes([place] * 32)) for place, site in enumerate(SITES, 1)
}
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

    @property
    def size(self):
        return len(self.tokens)

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


@dataclass
class InGroups:
    """The same patients in groups, by their place: who is asked for in which step is known."""

    tokens: np.ndarray
    groups: int

    def group(self, number):
        return self.tokens[number :: self.groups]


@dataclass
class MemoryPast:
    kept: dict[int, bytes] = field(default_factory=dict)

    def steps(self):
        return tuple(self.kept)

    def sums(self):
        return dict(self.kept)

    def keep(self, step, total, *, most):
        self.kept = {n: each for n, each in (self.kept | {step: total}).items() if n > step - most}


# small matrices are slower on several threads, and much slower on a busy machine
torch.set_num_threads(1)


@dataclass
class Lossy:
    """A node that dies when it gets a message of the kind `dies_at`; as "step!", when it has answered it."""

    node: Node
    dies_at: str = ""
    is_dead: bool = False
    heard: list[str] = field(default_factory=list)

    def receive(self, message):
        kind = kind_of(message)
        self.heard.append(kind)
        self.is_dead |= kind == self.dies_at
        if self.is_dead:
            raise Unavailable("the site is gone")
        answer = self.node.receive(message)
        self.is_dead |= f"{kind}!" == self.dies_at
        if self.is_dead:
            raise Unavailable("the answer is lost")
        return answer

    def back(self):
        """Let the node hear and be heard again, with all that it knew."""
        self.dies_at, self.is_dead = "", False


def kind_of(message):
    """Return what the first line of a message names: step, invitation, roster, ..."""
    return message.split(b"\n")[0].decode().removesuffix("/v1").rpartition("/")[2]


class Consortium:
    """The nodes of three sites, or four, and a coordinator, in memory."""

    def __init__(self, *, private=True, noise=Silence, sites=3, **changes):
        self.sites = SITES[:sites]
        self.first = flat(build(ARCHITECTURE, SIZE))
        self.plan = Plan(
            policy=digest(b"policy"),
            sites=self.sites,
            training=training(**changes),
            dimension=len(self.first),
            privacy=Privacy(budget(), SIGMA, 2) if private else None,
        )
        keys = tuple(SIGNERS[site].public_key() for site in self.sites)
        thresholds = Thresholds(sites, COLLUDING, least=3)
        self.terms = Terms(RUN, self.plan.policy, self.sites, keys, thresholds, self.plan.words)
        self.noise = noise if private else lambda: None
        self.ledgers = {site: MemoryLedger() for site in self.sites}
        self.samplers = {site: Everybody(members(seed)) for seed, site in enumerate(self.sites)}
        self.pasts = {site: MemoryPast() for site in self.sites}
        self.trainers = {site: self.trainer(site) for site in self.sites}
        self.nodes = {site: Lossy(self.node(site)) for site in self.sites}

    def trainer(self, site, *, of=None, **changes):
        parts = {
            "site": of or site,
            "run": RUN,
            "plan": self.plan,
            "last_step": self.plan.training.steps,
            "model": build(ARCHITECTURE, SIZE),
            "sampler": self.sampler(site),
            "ledger": self.ledgers[site],
            "noise": self.noise(),
        }
        return Trainer(**{**parts, **changes})

    def sampler(self, site):
        bands = self.plan.training.bands
        if bands is None:
            return self.samplers[site]
        groups = InGroups(self.samplers[site].tokens, bands)
        return Turns(groups, self.pasts[site], self.plan.coefficients)

    def client(self, site):
        return Client(self.terms, site, SIGNERS[site])

    def node(self, site, **changes):
        return Node(self.trainer(site, **changes), self.client(site))

    def restart(self, site):
        """Let a site forget everything but what its ledger holds."""
        self.nodes[site] = Lossy(self.node(site))

    def descent(self, run=RUN):
        return Descent(plan=self.plan, run=run, weights=self.first)

    def coordinator(self, descent=None):
        return Coordinator(descent or self.descent(), self.terms)

    def answers(self, messages):
        """Return what the nodes answer; those that are gone do not."""
        answers = {}
        for site, message in messages.items():
            with suppress(Unavailable):
                answers[site] = self.nodes[site].receive(message)
        return answers

    def carry(self, coordinator, messages, *, until=""):
        """Carry messages and answers, to the end or a wave of this kind; return that wave's messages."""
        while messages and kind_of(next(iter(messages.values()))) != until:
            for site, answer in self.answers(messages).items():
                coordinator.receive(site, answer)
            messages = coordinator.proceed()
        return messages

    def run(self, coordinator):
        """Take all steps that are left; what nodes raise but to be gone is raised."""
        while coordinator.progress.step < self.plan.training.steps:
            self.carry(coordinator, coordinator.begin())

    def plain_weights(self, *, steps=None, sites=None):
        """Return the weights after all steps, or some, by plain addition of shares modulo 2^32."""
        descent = self.descent()
        alone = [self.trainer(site, ledger=MemoryLedger()) for site in sites or self.sites]
        while descent.progress.step < (steps or self.plan.training.steps):
            step = descent.begin()
            shares = [trainer.share(trainer.check(step)) for trainer in alone]
            descent.take(np.sum(shares, axis=0, dtype=np.uint64).astype(np.uint32))
        return descent.weights

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
