"""200 random schedules of deaths, losses, delays, duplicates and reorderings: exact, or refused."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from oathbound.core.errors import ProtocolRefused
from oathbound.testing.sums import Sums, label, sum_of
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.gathering import Gathering
from oathbound.train.secure_sum.server import Server

SCHEDULES = 200
CONSORTIA = [(3, 1), (4, 1), (5, 2)]
TICKS = 260


class World:
    """A network that does everything but forge, the sites on it, and a server that never waits for long.

    Every message that was ever sent may come again, at any later time, to whom it was for.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        n, colluding = self.rng.choice(CONSORTIA)
        self.sums = Sums.of(n, colluding, dimension=3)
        self.faults = self.rng.choice([0.0, 0.02, 0.1])
        self.pool: list[tuple[str, str, bytes]] = []  # kind, the site that it is to or from, message
        self.vectors: dict[tuple[str, str], np.ndarray] = {}  # by attempt's identity and site
        self.outcomes: Counter[str] = Counter()
        self.attempt = 0
        self.gather()

    def send(self, kind: str, messages: dict[str, bytes]) -> None:
        for site, message in messages.items():
            if self.rng.random() >= self.faults:
                self.pool.append((kind, site, message))

    def tick(self) -> None:
        """Deliver one message, or let one site die, or let the server stop waiting."""
        if self.rng.random() < self.faults / 4:
            self.sums.restart(self.rng.choice(self.sums.sites))
            self.outcomes["death"] += 1
        if not self.pool or self.rng.random() < 0.02:
            self.stop_waiting()
            return
        index = self.rng.randrange(len(self.pool))
        kind, site, message = self.pool[index]
        if self.rng.random() >= self.faults:
            self.pool.pop(index)  # else it will come again
        try:
            self.deliver(kind, site, message)
        except ProtocolRefused:
            self.outcomes["refused message"] += 1

    def deliver(self, kind: str, site: str, message: bytes) -> None:
        client = self.sums.clients[site]
        steps = {
            "invitation": lambda: self.send("advertisement", {site: client.advertise(message)}),
            "advertisement": lambda: self.gathering.advertised(site, message),
            "roster": lambda: self.send("ciphertexts-sent", {site: client.encapsulate(message)}),
            "ciphertexts-sent": lambda: self.gathering.encapsulated(site, message),
            "ciphertexts": lambda: client.agree(message),
            "deal": lambda: self.send("dealt", {site: client.deal(message)}),
            "dealt": lambda: self.serving().dealt(site, message),
            "boxes": lambda: client.accept(message),
            "announcement": lambda: self.mask(site, message),
            "masked": lambda: self.serving().masked(site, message),
            "proposal": lambda: self.send("signature", {site: client.sign(message)}),
            "signature": lambda: self.serving().signed(site, message),
            "certificate": lambda: self.send("reveal", {site: client.reveal(message)}),
            "reveal": lambda: self.serving().revealed(site, message),
        }
        steps[kind]()

    def serving(self) -> Server:
        if self.server is None:
            raise ProtocolRefused("no session")
        return self.server

    def mask(self, site: str, message: bytes) -> None:
        announced, _ = m.ANNOUNCEMENT.read(message)
        self.sums.clients[site].begin(message, step=announced.label)
        vector = np.array([self.rng.randrange(2**32) for _ in range(3)], dtype=np.uint32)
        self.vectors[announced.identity, site] = vector
        self.send("masked", {site: self.sums.clients[site].mask(vector)})

    # the server: what comes next when nothing more comes

    def gather(self) -> None:
        self.server: Server | None = None
        self.gathering = Gathering(self.sums.terms, epoch=self.attempt + 1)
        self.send("invitation", dict.fromkeys(self.sums.sites, self.gathering.invitation()))
        self.next = self.enrol

    def enrol(self) -> None:
        self.send("roster", self.gathering.roster())
        self.next = self.exchange

    def exchange(self) -> None:
        self.send("ciphertexts", self.gathering.ciphertexts())
        self.next = self.call

    def call(self) -> None:
        self.server = self.gathering.server()
        self.send("deal", self.server.call(0))
        self.next = self.hand_out

    def hand_out(self) -> None:
        self.send("boxes", self.serving().boxes())
        self.next = self.begin

    def begin(self) -> None:
        self.attempt += 1
        self.send("announcement", self.serving().begin(label(self.attempt)))
        self.next = self.propose

    def propose(self) -> None:
        self.send("proposal", self.serving().propose())
        self.next = self.certify

    def certify(self) -> None:
        self.certificates = self.serving().certificate()
        self.send("certificate", self.certificates)
        self.next = self.total

    def total(self) -> None:
        certified, _ = m.CERTIFICATE.read(next(iter(self.certificates.values())))
        total = self.serving().total()
        identity = certified.summed.identity
        names = [self.sums.terms.name(place) for place in certified.survivors]
        assert np.array_equal(total, sum_of({site: self.vectors[identity, site] for site in names}))
        self.outcomes["exact"] += 1
        self.outcomes["with losses"] += len(names) < len(self.sums.sites)
        self.next = self.begin

    def stop_waiting(self) -> None:
        try:
            self.next()
        except ProtocolRefused:
            self.outcomes["void"] += 1
            if self.server is None or self.rng.random() < 0.5:
                self.gather()
            else:
                self.server.void()
                self.next = self.begin if self.next != self.hand_out else self.gather


def play(seed: int) -> Counter[str]:
    world = World(seed)
    for _ in range(TICKS):
        world.tick()
    return world.outcomes


@pytest.mark.parametrize("part", range(4))
def test_a_sum_is_exact_or_refused(part):
    outcomes: Counter[str] = Counter()
    for seed in range(part, SCHEDULES, 4):
        outcomes += play(seed)
    # so that this is no test of nothing: sums came about, without all sites too, and things went wrong
    assert outcomes["exact"] > SCHEDULES / 4
    assert outcomes["with losses"] > 5
    assert outcomes["void"] > 20
    assert outcomes["death"] > 20
    assert outcomes["refused message"] > 200
