"""The server's part in the secure sum, without input or output: bytes in, bytes out.

`spec/secure-sum.md` numbers the steps. The server is trusted with nothing but to be there: what it does wrong
spoils the sum, or is refused, and shows it nothing more. So its checks are not for secrecy; they make sure
that a sum it returns is exact as far as honest sites go, and that a refusal names who sent what.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.masks import SEED_BYTES, add_masks
from oathbound.hazmat.shamir import combine
from oathbound.train.messages import Label
from oathbound.train.secure_sum.messages import (
    ANNOUNCEMENT,
    BOXES,
    CERTIFICATE,
    DEAL,
    DEALT,
    MASKED,
    PROPOSAL,
    REVEAL,
    SIGNATURE,
    SIGNATURE_BYTES,
    Answer,
    Attempt,
    Boxes,
    Certified,
    DealCall,
    Kind,
    Survivors,
    check_signature,
    pieces,
    without,
)
from oathbound.train.secure_sum.seeds import (
    BOX_BYTES,
    COMMITMENTS_BYTES,
    batch_of,
    commitment,
    own_mask_seed,
    row,
    seeds_in,
)
from oathbound.train.secure_sum.terms import Terms

_NOBODY: Final = 0


@dataclass(slots=True)
class _Dealt:
    """The batch in use: the commitments and boxes of those who dealt."""

    number: int
    commitments: dict[int, bytes] = field(default_factory=dict)
    boxes: dict[int, dict[int, bytes]] = field(default_factory=dict)
    closed: bool = False


@dataclass(slots=True)
class _Open:
    """An attempt under way. `total` is the sum of what came: the only vector that is kept."""

    attempt: Attempt
    identity: str
    total: NDArray[np.uint32]
    summed: set[int] = field(default_factory=set)
    proposal: bytes = b""
    signatures: dict[int, bytes] = field(default_factory=dict)
    certified: bool = False
    revealed: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)


class Server:
    """The sums of one session, after `Gathering`. Its methods are called in their order here.

    A message that is refused changes nothing: the attempt goes on without it, or with its sender's next.
    """

    def __init__(self, terms: Terms, *, session: str, places: tuple[int, ...]) -> None:
        self._terms = terms
        self._session = session
        self._places = places
        self._head = session
        self._certificate = b""
        self._dealt = _Dealt(-1)
        self._open: _Open | None = None

    def call(self, batch: int) -> dict[str, bytes]:
        """Return the message that asks each site to deal the seeds of a batch, which replaces the one before.

        An open attempt is void.
        """
        if batch <= self._dealt.number:
            raise ProtocolRefused("a batch is dealt once, and after the ones before it")
        self._open = None
        self._dealt = _Dealt(batch)
        message = DEAL.write(DealCall(session=self._session, batch=batch))
        return {self._terms.name(place): message for place in self._places}

    def dealt(self, site: str, message: bytes) -> None:
        """Take the commitments of `site`, and its boxes for the others."""
        place, dealt = self._terms.place(site), self._dealt
        header, payload = DEALT.read(message)
        if (header.session, header.batch, header.sender) != (self._session, dealt.number, place):
            raise ProtocolRefused(f"{site} dealt for another site, session or batch")
        if place not in self._places or place in dealt.boxes or dealt.closed:
            raise ProtocolRefused(f"{site} dealt twice, too late, or is not in the roster")
        others = without(self._places, (place,))
        commitments, *boxes = pieces(payload, COMMITMENTS_BYTES, *[BOX_BYTES] * len(others))
        dealt.commitments[place] = commitments
        dealt.boxes[place] = dict(zip(others, boxes, strict=True))

    def boxes(self) -> dict[str, bytes]:
        """Return the message for each site that dealt: only these can be summed until the next batch."""
        dealt = self._dealt
        if len(dealt.boxes) < self._terms.thresholds.least:
            raise ProtocolRefused("fewer sites dealt seeds than a sum must hold")
        dealt.closed = True
        senders = {place: without(sorted(dealt.boxes), (place,)) for place in sorted(dealt.boxes)}
        return {  # C2
            self._terms.name(place): BOXES.write(
                Boxes(session=self._session, batch=dealt.number, receiver=place, senders=others),
                *(dealt.boxes[other][place] for other in others),
            )
            for place, others in senders.items()
        }

    def begin(self, label: Label) -> dict[str, bytes]:
        """Open the attempt of `label` and return the announcement for each site; an earlier one is void."""
        if not self._dealt.closed or batch_of(label.attempt) != self._dealt.number:
            raise ProtocolRefused("no seeds are dealt for this attempt")
        attempt = Attempt(session=self._session, previous=self._head, **label.plain())
        self._open = _Open(attempt, attempt.identity, np.zeros(self._terms.dimension, dtype=np.uint32))
        message = ANNOUNCEMENT.write(attempt, self._certificate)
        return {self._terms.name(place): message for place in sorted(self._dealt.boxes)}

    def masked(self, site: str, message: bytes | memoryview) -> None:
        """Add the masked vector of `site` to the sum."""
        opened, place = self._attempt(), self._terms.place(site)
        payload = _answer(MASKED, message, place, to=opened.identity)
        if opened.proposal or place in opened.summed or place not in self._dealt.boxes:
            raise ProtocolRefused(f"{site} sent a vector twice, too late, or without having dealt seeds")
        if len(payload) != opened.total.nbytes:
            raise ProtocolRefused(f"{site} sent a vector of the wrong length")
        opened.total += np.frombuffer(payload, dtype="<u4")  # C3
        opened.summed.add(place)

    def propose(self) -> dict[str, bytes]:
        """Return the list of those whose vectors came, for each of them to sign; no vector is taken now."""
        opened = self._attempt()
        if opened.proposal or len(opened.summed) < self._terms.thresholds.least:
            raise ProtocolRefused("a list was proposed before, or fewer vectors came than a sum must hold")
        survivors = tuple(sorted(opened.summed))  # C4
        opened.proposal = PROPOSAL.write(Survivors(survivors=survivors, **opened.attempt.plain()))
        return {self._terms.name(place): opened.proposal for place in survivors}

    def signed(self, site: str, message: bytes) -> None:
        """Take the signature of `site`."""
        opened, place = self._attempt(), self._terms.place(site)
        payload = _answer(SIGNATURE, message, place, to=digest(opened.proposal))
        (signature,) = pieces(payload, SIGNATURE_BYTES)
        if not opened.proposal or place not in opened.summed or place in opened.signatures:
            raise ProtocolRefused(f"{site} signed twice, or is not on the list")
        what = f"the list of survivors by {site}"
        check_signature(self._terms.key(place), signature, opened.proposal, what=what)  # C1
        opened.signatures[place] = signature

    def certificate(self) -> dict[str, bytes]:
        """Return the list with a quorum's signatures, for each survivor to reveal its part."""
        opened = self._attempt()
        if len(opened.signatures) < self._terms.thresholds.quorum:  # C5
            raise ProtocolRefused("too few sites signed the list of survivors: the attempt is void")
        survivors, signers = tuple(sorted(opened.summed)), tuple(sorted(opened.signatures))
        header = Certified(survivors=survivors, signers=signers, **opened.attempt.plain())
        self._certificate = CERTIFICATE.write(header, *(opened.signatures[place] for place in signers))
        self._head = digest(opened.proposal)
        opened.certified = True
        return {self._terms.name(place): self._certificate for place in survivors}

    def revealed(self, site: str, message: bytes) -> None:
        """Take what `site` reveals."""
        opened, place = self._attempt(), self._terms.place(site)
        payload = _answer(REVEAL, message, place, to=digest(opened.proposal))
        if not opened.certified or place not in opened.summed or place in opened.revealed:
            raise ProtocolRefused(f"{site} revealed twice, too early, or is not on the list")
        survivors, dropped = len(opened.summed), len(self._places) - len(opened.summed)
        shares, pairs = pieces(payload, SEED_BYTES * survivors, SEED_BYTES * dropped)
        opened.revealed[place] = (shares, pairs)

    def total(self) -> NDArray[np.uint32]:
        """Return the sum of the survivors' vectors, uint32 [d], and close the attempt.

        `ProtocolRefused`, and the attempt is void, where too few have revealed, or a seed is not the one that
        its site committed to.
        """
        opened = self._attempt()
        self._open = None
        dropped = without(self._places, tuple(opened.summed))
        if len(opened.revealed) < self._terms.thresholds.quorum:  # C6
            raise ProtocolRefused("too few survivors revealed their shares: the attempt is void")
        if dropped and opened.revealed.keys() != opened.summed:  # C6
            raise ProtocolRefused(
                "a survivor is lost that had a mask with a site that sent no vector: the attempt is void"
            )
        plus, minus = self._pair_masks(opened, dropped)
        minus += self._own_masks(opened)
        return add_masks(opened.total, plus=plus, minus=minus, out=opened.total)  # C7

    def void(self) -> None:
        """Give the open attempt up, if there is one."""
        self._open = None

    def _attempt(self) -> _Open:
        if self._open is None:
            raise ProtocolRefused("no attempt is open")
        return self._open

    def _own_masks(self, opened: _Open) -> list[bytes]:
        """Return the seed of each survivor's own mask, or raise `ProtocolRefused`.

        Where one site lied of its shares, those of a quorum of the others fit.
        """
        quorum, revealed = self._terms.thresholds.quorum, sorted(opened.revealed)
        subsets = [without(revealed, (liar,))[:quorum] for liar in (_NOBODY, *revealed[:quorum])]
        *tried, last = [some for some in subsets if len(some) == quorum]  # the last one's refusal is told
        for some in tried:
            with suppress(ProtocolRefused):
                return self._own_masks_by(some, opened)
        return self._own_masks_by(last, opened)

    def _own_masks_by(self, some: tuple[int, ...], opened: _Open) -> list[bytes]:
        """Return the same by the shares that `some` revealed."""
        number = opened.attempt.attempt
        together = combine({place: opened.revealed[place][0] for place in some})
        seeds = []
        for place, seed in zip(sorted(opened.summed), seeds_in(together), strict=True):
            committed = row(self._dealt.commitments[place], number)
            if commitment(seed, self._session, place, number) != committed:  # C6
                raise ProtocolRefused(
                    f"the shares of the seed of {self._terms.name(place)} do not fit its commitment",
                    hint="that site dealt false shares, or one of those that revealed them lied",
                )
            seeds.append(own_mask_seed(seed, opened.identity))
        return seeds

    def _pair_masks(self, opened: _Open, dropped: tuple[int, ...]) -> tuple[list[bytes], list[bytes]]:
        """Return the seeds of masks that nobody's vector cancels: to add, and to take away."""
        plus: list[bytes] = []
        minus: list[bytes] = []
        for survivor, (_, pairs) in opened.revealed.items():
            for gone, seed in zip(dropped, seeds_in(pairs), strict=True):
                (minus if survivor < gone else plus).append(seed)
        return plus, minus


def _answer(kind: Kind[Answer], message: bytes | memoryview, place: int, *, to: str) -> memoryview:
    """Return the payload of an answer, or raise `ProtocolRefused` unless it is this site's, and to that."""
    answer, payload = kind.read(message)
    if (answer.to, answer.site) != (to, place):
        raise ProtocolRefused(f"{kind.name}: a message of another site, attempt or list")
    return payload
