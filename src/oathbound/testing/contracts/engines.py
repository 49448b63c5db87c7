"""What a training engine must keep: messages once, wave by wave, attempts never again, and what was saved."""

import bisect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import OathboundError, ProtocolRefused, Unavailable
from oathbound.core.shape import LogisticRegression
from oathbound.core.training_plan import Training
from oathbound.models.model import flat
from oathbound.models.tabular import build
from oathbound.testing.contracts.rule import expect
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent, Progress
from oathbound.train.engine import Engine
from oathbound.train.messages import STEP_MAGIC, Step
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.terms import Terms, Thresholds
from oathbound.train.trainer import Trainer

_SITES: Final = ("north", "east", "south")
_STEPS: Final = 5
_RUN: Final = digest(b"run")
_WIDTH: Final = 2
_MOST_WAVES: Final = 500
_ARCHITECTURE: Final = LogisticRegression(name="logistic-regression")
_SIGNERS: Final = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([place] * 32)) for place, name in enumerate(_SITES, 1)
}


class EngineContract(ABC):
    """Inherit it as `class TestMine(EngineContract)`; pytest then runs every rule on your engine."""

    @abstractmethod
    def engine(self) -> Engine:
        """Return what the entry point names."""

    def test_every_message_goes_to_its_node_once(self) -> None:
        """And every answer, as it is, to the coordinator: the model is the one that plain addition makes."""
        sites = _Sites()
        sites.run(self.engine())
        expect(sites.descent.finished, "it takes every step")
        for name, node in sites.nodes.items():
            expect(node.heard == [*range(1, _STEPS + 1)], f"{name} hears of every attempt once, in order")
        expect(bool(np.array_equal(sites.descent.weights, _expected())), "shares arrive as they are")

    def test_a_wave_ends_when_its_answers_are_in(self) -> None:
        """Each message of a wave is answered once, and all answers are in before the next wave begins."""
        sites = _Sites()
        sites.run(self.engine())
        expect(sites.descent.finished, "it takes every step")
        for wave in sites.waves:
            expect(wave.heard == wave.sent, "each message of a wave goes to its node, and no other does")
            expect(wave.received == wave.answered, "each answer of a wave comes back before the wave ends")

    def test_every_step_is_saved_and_then_told(self) -> None:
        """The snapshot is the coordinator's after that step, and is durable before anybody hears of it."""
        sites = _Sites()
        sites.run(self.engine())
        expect(sites.told == [Progress(n, n) for n in range(1, _STEPS + 1)], "every step is told, once")
        expect(sites.saved_when_told == [*range(1, _STEPS + 1)], "a step is saved before it is told")
        expect(sites.saved[-1] == sites.descent.snapshot(), "what is saved is the newest snapshot")

    def test_it_stops_when_it_may_not_go_on(self) -> None:
        """Consents grow stale: nobody is asked for another step, and what was taken is kept."""
        for steps in (0, 2):
            sites = _Sites()
            sites.run(self.engine(), until=steps)
            expect(sites.descent.progress.step == steps, "it goes on while it may, and no further")
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

    @property
    def size(self) -> int:
        return len(self.rows)

    def sample(self, _rate: Decimal) -> NDArray[np.float32]:
        return self.rows


_Messages = list[tuple[str, bytes]]


@dataclass
class _Wave:
    """What one wave sent to the sites, and what became of it, in the order of the sites."""

    sent: _Messages
    heard: _Messages = field(default_factory=list)
    answered: _Messages = field(default_factory=list)
    received: _Messages = field(default_factory=list)


class _Watched(Coordinator):
    """A coordinator that tells what its waves send and get."""

    waves: list[_Wave]

    def begin(self) -> dict[str, bytes]:
        return self._told(super().begin())

    def proceed(self) -> dict[str, bytes]:
        return self._told(super().proceed())

    def receive(self, site: str, message: bytes) -> None:
        super().receive(site, message)
        bisect.insort(self.waves[-1].received, (site, message))

    def _told(self, messages: dict[str, bytes]) -> dict[str, bytes]:
        if messages:
            expect(len(self.waves) < _MOST_WAVES, "it does not begin again for ever")
            self.waves.append(_Wave(sorted(messages.items())))
        return messages


@dataclass
class _Listening:
    """A node that tells what it hears; its answer to the step of attempt `lost_at` does not arrive."""

    node: Node
    waves: list[_Wave]
    lost_at: int = 0
    heard: list[int] = field(default_factory=list)

    @property
    def site(self) -> str:
        return self.node.trainer.site

    def receive(self, message: bytes) -> bytes:
        bisect.insort(self.waves[-1].heard, (self.site, message))
        attempt = 0
        if message.startswith(STEP_MAGIC):
            attempt = Step.decode(message, self.node.trainer.plan.dimension)[0].label.attempt
            self.heard.append(attempt)
        answer = self.node.receive(message)
        bisect.insort(self.waves[-1].answered, (self.site, answer))
        if attempt and attempt == self.lost_at:
            raise Unavailable("the site is gone")
        return answer


class _Sites:
    """Three sites and a coordinator, and what an engine told about them."""

    def __init__(self) -> None:
        first = flat(build(_ARCHITECTURE, _WIDTH))
        self.plan = Plan(digest(b"policy"), _SITES, _training(), len(first), privacy=None)
        keys = tuple(signer.public_key() for signer in _SIGNERS.values())
        thresholds = Thresholds(len(_SITES), colluding=1, least=len(_SITES))
        self.terms = Terms(_RUN, self.plan.policy, _SITES, keys, thresholds, self.plan.dimension)
        self.waves: list[_Wave] = []
        self.coordinate(Descent(plan=self.plan, run=_RUN, weights=first))
        self.nodes = {name: self._node(name, seed) for seed, name in enumerate(_SITES)}
        self.killed_at = 0
        self.saved: list[bytes] = []
        self.told: list[Progress] = []
        self.saved_when_told: list[int] = []

    def coordinate(self, descent: Descent) -> None:
        """Let a new coordinator go on with this descent."""
        self.descent = descent
        self.coordinator = _Watched(descent, self.terms)
        self.coordinator.waves = self.waves

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
        for name, node in self.nodes.items():
            trainer = replace(again.nodes[name].node.trainer, ledger=node.node.trainer.ledger)
            again.nodes[name].node = replace(again.nodes[name].node, trainer=trainer)
            again.nodes[name].heard = node.heard
        highest = max(node.node.trainer.ledger.highest() for node in self.nodes.values())
        again.coordinate(Descent.restore(self.saved[-1], plan=self.plan, run=_RUN, charged=highest))
        return again

    def check_went_on(self) -> None:
        """Expect that the training ended as if nothing had failed, and asked for no attempt twice."""
        expect(self.descent.finished, "it takes every step in the end")
        for name, node in self.nodes.items():
            expect(len(set(node.heard)) == len(node.heard), f"{name} is asked for no attempt twice")
            expect(node.heard == sorted(node.heard), f"{name} hears of attempts in ascending order")
        expect(bool(np.array_equal(self.descent.weights, _expected())), "what was saved is not lost")

    def _goes_on(self, until: int) -> Callable[[], bool]:
        return lambda: self.descent.progress.step < until

    def _save(self, snapshot: bytes) -> None:
        if len(self.saved) + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.saved.append(snapshot)

    def _tell(self, progress: Progress) -> None:
        self.told.append(progress)
        self.saved_when_told.append(len(self.saved))

    def _node(self, name: str, seed: int) -> _Listening:
        trainer = _trainer(name, seed, self.plan)
        return _Listening(Node(trainer, Client(self.terms, name, _SIGNERS[name])), self.waves)


def _trainer(name: str, seed: int, plan: Plan) -> Trainer:
    return Trainer(
        site=name,
        run=_RUN,
        plan=plan,
        last_step=_STEPS,
        model=build(_ARCHITECTURE, _WIDTH),
        sampler=_Everybody(_rows(seed)),
        ledger=_Ledger(),
        noise=None,
    )


def _expected() -> NDArray[np.float32]:
    """Return the weights after every step, by plain addition of the shares."""
    sites = _Sites()
    descent, trainers = sites.descent, [_trainer(name, seed, sites.plan) for seed, name in enumerate(_SITES)]
    while not descent.finished:
        step = descent.begin()
        shares = [trainer.share(trainer.check(step)) for trainer in trainers]
        descent.take(np.sum(shares, axis=0, dtype=np.uint32))
    return descent.weights


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
