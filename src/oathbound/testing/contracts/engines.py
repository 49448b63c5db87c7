"""What a training engine must keep: messages once, attempts never again, and nothing lost that was saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import OathboundError, ProtocolRefused, Unavailable
from oathbound.core.shape import LogisticRegression
from oathbound.core.study import Training
from oathbound.models.model import flat
from oathbound.models.tabular import build
from oathbound.testing.contracts.rule import expect
from oathbound.train.coordinator import Coordinator, Progress
from oathbound.train.engine import Engine
from oathbound.train.messages import Step
from oathbound.train.node import Node
from oathbound.train.plan import Plan

_SITES: Final = ("north", "east", "south")
_STEPS: Final = 5
_RUN: Final = digest(b"run")
_WIDTH: Final = 2
_ARCHITECTURE: Final = LogisticRegression(name="logistic-regression")


class EngineContract(ABC):
    """Inherit it as `class TestMine(EngineContract)`; pytest then runs every rule on your engine."""

    @abstractmethod
    def engine(self) -> Engine:
        """Return what the entry point names."""

    def test_every_message_goes_to_its_node_once(self) -> None:
        """And every answer, as it is, to the coordinator: the model is the one that a plain loop makes."""
        sites = _Sites()
        sites.run(self.engine())
        expect(sites.coordinator.finished, "it takes every step")
        for name, node in sites.nodes.items():
            expect(node.heard == [*range(1, _STEPS + 1)], f"{name} hears of every attempt once, in order")
        expect(bool(np.array_equal(sites.coordinator.weights, _expected())), "shares arrive as they are")

    def test_every_step_is_saved_and_then_told(self) -> None:
        """The snapshot is the coordinator's after that step, and is durable before anybody hears of it."""
        sites = _Sites()
        sites.run(self.engine())
        expect(sites.told == [Progress(n, n) for n in range(1, _STEPS + 1)], "every step is told, once")
        expect(sites.saved_when_told == [*range(1, _STEPS + 1)], "a step is saved before it is told")
        expect(sites.saved[-1] == sites.coordinator.snapshot(), "what is saved is the newest snapshot")

    def test_it_stops_when_it_may_not_go_on(self) -> None:
        """Consents grow stale: nobody is asked for another step, and what was taken is kept."""
        for steps in (0, 2):
            sites = _Sites()
            sites.run(self.engine(), until=steps)
            expect(sites.coordinator.progress.step == steps, "it goes on while it may, and no further")
            expect(all(len(node.heard) == steps for node in sites.nodes.values()), "nobody is asked for more")
            expect(len(sites.saved) == steps, "what was taken is saved")

    def test_an_attempt_that_failed_is_not_used_again(self) -> None:
        """An answer that was lost was charged: neither the engine nor a restart asks for it again."""
        for site in _SITES:
            sites = _Sites()
            sites.nodes[site].lost_at = 2
            try:
                sites.run(self.engine())
            except OathboundError:
                sites = sites.restarted()
                sites.run(self.engine())
            sites.check_went_on()

    def test_a_run_that_is_killed_goes_on_from_what_was_saved(self) -> None:
        """The error reaches the caller; after it, whatever was not saved is a new attempt."""
        sites = _Sites()
        sites.killed_at = 3
        try:
            sites.run(self.engine())
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("an interruption reaches the caller")
        sites = sites.restarted()
        sites.run(self.engine())
        sites.check_went_on()


@dataclass
class _Ledger:
    """A `Ledger` in memory."""

    charged: list[int] = field(default_factory=list)

    def charge(self, attempt: int) -> None:
        if attempt <= self.highest():
            raise ProtocolRefused("an attempt that was charged before")
        self.charged.append(attempt)

    def highest(self) -> int:
        return max(self.charged, default=0)


@dataclass(frozen=True)
class _Everybody:
    """A `PatientSampler` whose coin always comes up."""

    rows: NDArray[np.float32]

    def sample(self, _rate: Decimal) -> NDArray[np.float32]:
        return self.rows


@dataclass
class _Listening:
    """A node that remembers which attempts it was asked for; its answer to `lost_at` does not arrive."""

    node: Node
    plan: Plan
    ledger: _Ledger
    lost_at: int = 0
    heard: list[int] = field(default_factory=list)

    def receive(self, message: bytes) -> bytes:
        attempt = Step.decode(message, self.plan.dimension).label.attempt
        self.heard.append(attempt)
        share = self.node.receive(message)
        if attempt == self.lost_at:
            raise Unavailable("the site is gone")
        return share


class _Sites:
    """Three sites and a coordinator, and what an engine told about them."""

    def __init__(self) -> None:
        first = flat(build(_ARCHITECTURE, _WIDTH))
        self.plan = Plan(digest(b"policy"), _SITES, _training(), len(first), privacy=None)
        self.coordinator = Coordinator(plan=self.plan, run=_RUN, weights=first)
        self.nodes = {name: self._node(name, seed) for seed, name in enumerate(_SITES)}
        self.killed_at = 0
        self.saved: list[bytes] = []
        self.told: list[Progress] = []
        self.saved_when_told: list[int] = []

    def run(self, engine: Engine, *, until: int = _STEPS) -> None:
        """Let the engine take the steps."""
        engine(
            self.coordinator,
            cast("Mapping[str, Node]", self.nodes),
            goes_on=self._goes_on(until),
            save=self._save,
            on_progress=self._tell,
        )

    def restarted(self) -> "_Sites":
        """Return the sites after everything but what is durable was lost."""
        again = _Sites()
        again.nodes = self.nodes
        for node in again.nodes.values():
            node.lost_at = 0
        highest = max(node.ledger.highest() for node in self.nodes.values())
        again.coordinator = Coordinator.restore(self.saved[-1], plan=self.plan, run=_RUN, charged=highest)
        return again

    def check_went_on(self) -> None:
        """Expect that the training ended as if nothing had failed, and asked for no attempt twice."""
        expect(self.coordinator.finished, "it takes every step in the end")
        for name, node in self.nodes.items():
            expect(len(set(node.heard)) == len(node.heard), f"{name} is asked for no attempt twice")
            expect(node.heard == sorted(node.heard), f"{name} hears of attempts in ascending order")
        expect(bool(np.array_equal(self.coordinator.weights, _expected())), "what was saved is not lost")

    def _goes_on(self, until: int) -> Callable[[], bool]:
        return lambda: self.coordinator.progress.step < until

    def _save(self, snapshot: bytes) -> None:
        if len(self.saved) + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.saved.append(snapshot)

    def _tell(self, progress: Progress) -> None:
        self.told.append(progress)
        self.saved_when_told.append(len(self.saved))

    def _node(self, name: str, seed: int) -> _Listening:
        ledger = _Ledger()
        node = Node(
            site=name,
            run=_RUN,
            plan=self.plan,
            last_step=_STEPS,
            model=build(_ARCHITECTURE, _WIDTH),
            sampler=_Everybody(_rows(seed)),
            ledger=ledger,
            noise=None,
        )
        return _Listening(node, self.plan, ledger)


def _expected() -> NDArray[np.float32]:
    """Return the weights after every step, by a plain loop."""
    sites = _Sites()
    while not sites.coordinator.finished:
        for name, message in sites.coordinator.begin().items():
            sites.coordinator.receive(name, sites.nodes[name].node.receive(message))
    return sites.coordinator.weights


def _training() -> Training:
    plain = {
        "members": 60,
        "sampling_rate": "0.5",
        "steps": _STEPS,
        "attempts": _STEPS + 4,
        "round_steps": 1000,
        "learning_rate": "0.1",
        "warmup": 0,
        "ring_norm": 16384,
        "clip": "1",
    }
    return Training.parse(plain, what="training")


def _rows(seed: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(8, _WIDTH))
    return np.hstack([features, features[:, :1] > 0]).astype(np.float32)
