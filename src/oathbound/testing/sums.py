"""Sites and a server of secure sums, in memory: every stage of `spec/secure-sum.md`, played honestly.

A stage is a method, and what it carried stays in reach, so that a test can play the next one otherwise: lose
a site, repeat a message, or be a server that lies.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.hazmat.masks import add_masks
from oathbound.hazmat.random import random_bytes
from oathbound.hazmat.shamir import combine
from oathbound.train.messages import Label
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.gathering import Gathering
from oathbound.train.secure_sum.messages import (
    ANNOUNCEMENT,
    CERTIFICATE,
    MASKED,
    PROPOSAL,
    REVEAL,
    SIGNATURE,
    Certified,
    Kind,
    Survivors,
)
from oathbound.train.secure_sum.seeds import own_mask_seed, seeds_in
from oathbound.train.secure_sum.server import Server
from oathbound.train.secure_sum.terms import Terms, Thresholds

Vector = NDArray[np.uint32]
RUN = digest(b"run")
PLAN = digest(b"plan")


def site_names(n: int) -> tuple[str, ...]:
    """Return the names of `n` sites, in the policy's order."""
    return tuple(f"site-{number}" for number in range(1, n + 1))


def label(attempt: int, *, step: int = 1, model: bytes = b"model") -> Label:
    """Return the label of an attempt."""
    return Label(run=RUN, plan=PLAN, step=step, attempt=attempt, model=digest(model))


@dataclass
class Sums:
    """The clients of all sites, by name, and the server of their session."""

    terms: Terms
    signers: Mapping[str, Ed25519PrivateKey]
    clients: dict[str, Client]
    random: Callable[[int], bytes] = random_bytes
    gathering: Gathering = field(init=False)
    server: Server = field(init=False)

    @classmethod
    def of(
        cls,
        n: int,
        colluding: int = 0,
        *,
        least: int | None = None,
        dimension: int = 5,
        random: Callable[[int], bytes] = random_bytes,
    ) -> Self:
        """Return sites that have agreed on nothing yet; `least` is the least that their number allows."""
        quorum = (n + colluding) // 2 + 1
        thresholds = Thresholds(n, colluding, max(quorum, colluding + 2) if least is None else least)
        sites = site_names(n)
        signers = {site: Ed25519PrivateKey.from_private_bytes(random(32)) for site in sites}
        keys = tuple(signer.public_key() for signer in signers.values())
        terms = Terms(RUN, PLAN, sites, keys, thresholds, dimension)
        sums = cls(terms, signers, {}, random)
        for site in sites:
            sums.restart(site)
        return sums

    @classmethod
    def ready(cls, n: int, colluding: int = 0, *, least: int | None = None, dimension: int = 5) -> Self:
        """Return sites that have a session, and seeds for the first 256 attempts."""
        sums = cls.of(n, colluding, least=least, dimension=dimension)
        sums.gather()
        sums.deal()
        return sums

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of all sites."""
        return self.terms.sites

    def restart(self, site: str) -> Client:
        """Return the client of a site that has just started, or that has forgotten everything."""
        self.clients[site] = Client(self.terms, site, self.signers[site], random=self.random)
        return self.clients[site]

    def gather(self, sites: Sequence[str] | None = None, *, epoch: int = 1) -> None:
        """Agree on keys between all sites, or some of them."""
        for site, message in self.encapsulate(self.invite(sites, epoch=epoch)).items():
            self.clients[site].agree(message)
        self.server = self.gathering.server()

    def invite(self, sites: Sequence[str] | None = None, *, epoch: int = 1) -> Mapping[str, bytes]:
        """Have keys advertised; return the roster for each site."""
        self.gathering = Gathering(self.terms, epoch=epoch)
        for site in self.sites if sites is None else sites:
            self.gathering.advertised(site, self.clients[site].advertise(self.gathering.invitation()))
        return self.gathering.roster()

    def encapsulate(self, rosters: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Have ciphertexts made; return those for each site."""
        for site, message in rosters.items():
            self.gathering.encapsulated(site, self.clients[site].encapsulate(message))
        return self.gathering.ciphertexts()

    def deal(self, batch: int = 0, *, lost: Collection[str] = ()) -> None:
        """Deal the seeds of a batch; those `lost` do not."""
        for site, message in self.call(batch, lost=lost).items():
            self.clients[site].accept(message)

    def call(self, batch: int = 0, *, lost: Collection[str] = ()) -> Mapping[str, bytes]:
        """Have seeds dealt, but by those `lost`; return the boxes for each site."""
        for site, message in self.server.call(batch).items():
            if site not in lost:
                self.server.dealt(site, self.clients[site].deal(message))
        return self.server.boxes()

    def begin(self, attempt: int, *, step: int = 1, model: bytes = b"model") -> Mapping[str, bytes]:
        """Begin an attempt at every site that it is announced to; return the announcements."""
        announcements = self.server.begin(label(attempt, step=step, model=model))
        for site, message in announcements.items():
            self.clients[site].begin(message, step=label(attempt, step=step, model=model))
        return announcements

    def mask(self, vectors: Mapping[str, Vector]) -> None:
        """Send the masked vectors to the server."""
        for site, vector in vectors.items():
            self.server.masked(site, self.clients[site].mask(vector))

    def sign(self, *, lost: Collection[str] = ()) -> Mapping[str, bytes]:
        """Have the list of survivors signed, but by those `lost`; return the certificate for each of them."""
        for site, message in self.server.propose().items():
            if site not in lost:
                self.server.signed(site, self.clients[site].sign(message))
        return self.server.certificate()

    def open(self, certificates: Mapping[str, bytes], *, lost: Collection[str] = ()) -> Vector:
        """Have the survivors, but those `lost`, reveal their parts; return the sum."""
        for site, message in certificates.items():
            if site not in lost:
                self.server.revealed(site, self.clients[site].reveal(message))
        return self.server.total()

    def sum(
        self,
        vectors: Mapping[str, Vector],
        attempt: int = 1,
        *,
        unsigned: Collection[str] = (),
        unrevealed: Collection[str] = (),
    ) -> Vector:
        """Return the sum of one attempt; sites without a vector are lost before they mask one."""
        self.begin(attempt)
        self.mask(vectors)
        return self.open(self.sign(lost=unsigned), lost={*unsigned, *unrevealed})

    def vectors(self, seed: int = 0) -> dict[str, Vector]:
        """Return a vector for every site, of words of all sizes."""
        rng = np.random.default_rng(seed)
        return {site: rng.integers(0, 2**32, self.terms.dimension, dtype=np.uint32) for site in self.sites}


class Eavesdropper:
    """A server that keeps everything that it is sent in one attempt, and puts it together as it likes."""

    def __init__(self, sums: Sums, attempt: int = 1) -> None:
        self.sums = sums
        announcement = next(iter(sums.begin(attempt).values()))
        self.attempt, _ = ANNOUNCEMENT.read(announcement)
        self.masked = {site: sums.clients[site].mask(vector) for site, vector in sums.vectors().items()}
        self.shares: dict[int, dict[int, bytes]] = {}  # of whose seed, by whom
        self.pairs: dict[tuple[int, int], bytes] = {}

    def proposal(self, survivors: Iterable[int]) -> bytes:
        """Return a list of survivors of this attempt."""
        return PROPOSAL.write(Survivors(survivors=tuple(survivors), **self.attempt.plain()))

    def certificate(self, survivors: Iterable[int], signatures: Mapping[int, bytes]) -> bytes:
        """Return the list with these signatures, by place."""
        header = Certified(
            survivors=tuple(survivors), signers=tuple(sorted(signatures)), **self.attempt.plain()
        )
        return CERTIFICATE.write(header, *(signatures[place] for place in sorted(signatures)))

    def sign(self, site: str, survivors: Iterable[int]) -> bytes:
        """Return the signature of a site's client."""
        _, signature = SIGNATURE.read(self.sums.clients[site].sign(self.proposal(survivors)))
        return bytes(signature)

    def forge(self, place: int, survivors: Iterable[int]) -> bytes:
        """Sign as a colluding site does: whatever it is asked to."""
        return self.sums.signers[self.sums.terms.name(place)].sign(self.proposal(survivors))

    def hear(self, site: str, survivors: tuple[int, ...], certificate: bytes) -> None:
        """Keep what a site reveals."""
        place = self.sums.terms.place(site)
        _, payload = REVEAL.read(self.sums.clients[site].reveal(certificate))
        seeds = seeds_in(bytes(payload))
        for survivor, share in zip(survivors, seeds, strict=False):
            self.shares.setdefault(survivor, {})[place] = share
        dropped = [other for other in range(1, len(self.sums.sites) + 1) if other not in survivors]
        for gone, seed in zip(dropped, seeds[len(survivors) :], strict=True):
            self.pairs[place, gone] = seed

    def unmask(self, place: int) -> Vector:
        """Take every mask that is known away from one site's vector."""
        _, payload = MASKED.read(self.masked[self.sums.terms.name(place)])
        vector = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        plus: list[bytes] = []
        minus: list[bytes] = []
        for pair, seed in self.pairs.items():
            if place in pair:
                (minus if place == min(pair) else plus).append(seed)
        quorum = self.sums.terms.thresholds.quorum
        shares = self.shares.get(place, {})
        if len(shares) >= quorum:
            seed = combine(dict(list(shares.items())[:quorum]))
            minus.append(own_mask_seed(seed, self.attempt.identity))
        return add_masks(vector, plus=plus, minus=minus)

    def sees(self, place: int) -> bool:
        """Return whether a site's vector is open to this server."""
        return np.array_equal(self.unmask(place), self.sums.vectors()[self.sums.terms.name(place)])


def sum_of(vectors: Mapping[str, Vector]) -> Vector:
    """Return the sum modulo 2^32, not by masks."""
    total = np.zeros_like(next(iter(vectors.values())), dtype=np.uint64)
    for vector in vectors.values():
        total += vector
    return (total % 2**32).astype(np.uint32)


def changed(
    kind: Kind[Any], message: bytes | memoryview, *, payload: bytes | None = None, **fields: Any
) -> bytes:
    """Return a message with other fields in its header, or another payload, rightly encoded."""
    header, old = kind.read(message)
    return kind.write(header.model_copy(update=fields), old if payload is None else payload)


def flipped(kind: Kind[Any], message: bytes, at: int) -> bytes:
    """Return a message with one bit of its payload flipped, in the byte `at`."""
    payload = bytearray(kind.read(message)[1])
    payload[at] ^= 1
    return changed(kind, message, payload=bytes(payload))
