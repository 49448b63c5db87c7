"""The seeds of a site's own masks: one for each attempt, dealt to the session in encrypted batches of 256.

The numbers are of `spec/secure-sum.md`, "A site deals seeds".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.derive import DERIVED_BYTES, derive
from oathbound.hazmat.masks import SEED_BYTES
from oathbound.hazmat.shamir import split
from oathbound.train.secure_sum.agreement import Pairs
from oathbound.train.secure_sum.messages import (
    BATCH,
    BOX,
    BOXES,
    DEALT,
    Box,
    Dealt,
    pieces,
)

SEEDS_BYTES: Final = BATCH * SEED_BYTES
BOX_BYTES: Final = SEEDS_BYTES + 16
COMMITMENTS_BYTES: Final = BATCH * DERIVED_BYTES

_NONCE: Final = bytes(12)  # each box has a key of its own
_COMMITMENT: Final = b"oathbound/secure-sum/commitment/v1"
_OWN_MASK: Final = b"oathbound/secure-sum/own-mask/v1"


def seeds_in(joined: bytes) -> list[bytes]:
    """Return the seeds, or shares of seeds, that stand one after the other."""
    return [joined[start : start + SEED_BYTES] for start in range(0, len(joined), SEED_BYTES)]


def batch_of(attempt: int) -> int:
    """Return the batch that holds the seeds of an attempt, counted from 1: batch 0 is of 1 to 256."""
    return (attempt - 1) // BATCH


def row(seeds: bytes, attempt: int) -> bytes:
    """Return the part of a batch's seeds, shares or commitments that is an attempt's."""
    start = (attempt - 1) % BATCH * SEED_BYTES
    return seeds[start : start + SEED_BYTES]


def commitment(seed: bytes, session: str, place: int, attempt: int) -> bytes:
    """Return the hash by which the server will recognise the seed of a site for an attempt."""
    return derive(seed, _COMMITMENT, session.encode(), bytes([place]), attempt.to_bytes(4, "little"))


def own_mask_seed(seed: bytes, attempt: str) -> bytes:
    """Return the seed of the mask that a site adds for itself alone in the attempt of that identity."""
    return derive(seed, _OWN_MASK, attempt.encode())


@dataclass(frozen=True, slots=True)
class Batch:
    """A site's own seeds of one batch, and the shares that it holds: of its own, then of the others' too."""

    number: int
    _seeds: bytes = field(repr=False)
    _shares: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def deal(cls, pairs: Pairs, number: int, random: Callable[[int], bytes]) -> tuple[Self, bytes]:
        """Return fresh seeds, and the message that deals them: called once for each batch of a session."""
        own, thresholds = pairs.site.place, pairs.site.terms.thresholds
        seeds = random(SEEDS_BYTES)  # S3
        shares = split(seeds, threshold=thresholds.quorum, places=pairs.places, random=random)  # S4
        first = number * BATCH + 1
        commitments = b"".join(
            commitment(row(seeds, attempt), pairs.session, own, attempt)
            for attempt in range(first, first + BATCH)
        )
        sealed = [_seal(pairs, peer, pairs.box(own, peer, number), shares[peer]) for peer in pairs.others]
        header = Dealt(session=pairs.session, batch=number, sender=own)
        return cls(number, seeds, {own: shares[own]}), DEALT.write(header, commitments, *sealed)

    def accept(self, pairs: Pairs, message: bytes) -> "Batch":
        """Return the batch with the shares that `message` brings, or raise `ProtocolRefused`."""
        boxes, payload = BOXES.read(message)
        own, least = pairs.site.place, pairs.site.terms.thresholds.least
        if (boxes.session, boxes.receiver, boxes.batch) != (pairs.session, own, self.number):  # S5
            raise ProtocolRefused("boxes of another session or batch, or for another site")
        if len(self._shares) > 1:  # S6
            raise ProtocolRefused("a second delivery of a batch's boxes")
        if not set(boxes.senders) <= set(pairs.others) or len(boxes.senders) < least - 1:  # S7
            raise ProtocolRefused("boxes of unknown sites, or of fewer than a sum must hold")
        sealed = pieces(payload, *[BOX_BYTES] * len(boxes.senders))
        opened = {
            sender: _open(pairs, sender, pairs.box(sender, own, self.number), each)  # S8
            for sender, each in zip(boxes.senders, sealed, strict=True)
        }
        return replace(self, _shares={**self._shares, **opened})

    @property
    def holds(self) -> frozenset[int]:
        """The places of whose seeds this site has a share; empty until the others' have been accepted."""
        return frozenset(self._shares) if len(self._shares) > 1 else frozenset()

    def seed(self, attempt: int) -> bytes:
        """Return this site's own seed for an attempt of this batch."""
        return row(self._seeds, attempt)

    def share(self, place: int, attempt: int) -> bytes:
        """Return this site's share of the seed of the site at `place` for an attempt of this batch."""
        return row(self._shares[place], attempt)


def _seal(pairs: Pairs, peer: int, box: Box, shares: bytes) -> bytes:
    name = BOX.write(box)
    return AESGCM(pairs.box_key(peer, name)).encrypt(_NONCE, shares, name)


def _open(pairs: Pairs, peer: int, box: Box, sealed: bytes) -> bytes:
    name = BOX.write(box)
    try:
        return AESGCM(pairs.box_key(peer, name)).decrypt(_NONCE, sealed, name)
    except InvalidTag:
        raise ProtocolRefused(
            f"the shares from {pairs.site.terms.name(peer)} do not open",
            hint="it has seen another roster, or somebody changed them on the way",
        ) from None
