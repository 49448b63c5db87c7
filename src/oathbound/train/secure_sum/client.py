"""A site's part in the secure sum, without input or output: bytes in, bytes out.

`spec/secure-sum.md` numbers the steps. A client never reveals anything but in answer to a list of survivors
that it signed itself and that a quorum signed, once, and for the attempt that is open. Everything it knows is
in memory: after a crash it has no part in what was begun, and new keys are agreed on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.hazmat.masks import add_masks
from oathbound.hazmat.random import random_bytes
from oathbound.train.messages import Label
from oathbound.train.secure_sum.agreement import Invited, Joined, Pairs, Site
from oathbound.train.secure_sum.messages import (
    ANNOUNCEMENT,
    BOXES,
    CERTIFICATE,
    CIPHERTEXTS,
    DEAL,
    INVITATION,
    MASKED,
    PROPOSAL,
    REVEAL,
    ROSTER,
    SIGNATURE,
    SIGNATURE_BYTES,
    Answer,
    Attempt,
    Certified,
    Survivors,
    check_signature,
    pieces,
    without,
)
from oathbound.train.secure_sum.seeds import Batch, batch_of, own_mask_seed
from oathbound.train.secure_sum.terms import Terms

_BATCHES_KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt that this site may mask a vector for."""

    attempt: Attempt
    batch: Batch


@dataclass(frozen=True, slots=True)
class _Masked:
    """An attempt whose masked vector is made; `signed` is the list that this site signed, as it was sent."""

    attempt: Attempt
    batch: Batch
    signed: bytes = b""


@dataclass(slots=True)
class _Session:
    """What lasts from one agreement of keys to the next. `head` is the last list that a quorum signed."""

    pairs: Pairs
    head: str
    begun: int
    head_attempt: int = 0
    batches: dict[int, Batch] = field(default_factory=dict, repr=False)
    dealt: int = -1


_Phase = TypeVar("_Phase", Invited, Joined, _Session)


class Client:
    """One site of a run. Its methods take the server's messages, in the order in which they stand here.

    Every method raises `ProtocolRefused` for a message that is malformed, out of order, repeated, or not of
    this run, plan and session; what it refuses changes nothing, but where it says so.
    """

    def __init__(
        self,
        terms: Terms,
        site: str,
        signer: Ed25519PrivateKey,
        *,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        place = terms.place(site)
        if signer.public_key() != terms.key(place):
            raise WrongInput(f"the key that signs is not the one that the terms have for {site}")
        self._site = Site(terms, place, signer)
        self._random = random
        self._phase: Invited | Joined | _Session | None = None
        self._open: _Begun | _Masked | None = None

    def receive(self, message: bytes) -> bytes:
        """Return the answer to any message but an announcement, which comes with a step; it may be empty.

        What it is, and what else may be raised, stands at the method that the message is for.
        """
        answers: dict[bytes, Callable[[bytes], bytes | None]] = {
            INVITATION.magic: self.advertise,
            ROSTER.magic: self.encapsulate,
            CIPHERTEXTS.magic: self.agree,
            DEAL.magic: self.deal,
            BOXES.magic: self.accept,
            PROPOSAL.magic: self.sign,
            CERTIFICATE.magic: self.reveal,
        }
        answer = answers.get(message[: message.find(b"\n") + 1])
        if answer is None:
            raise ProtocolRefused("a message of a kind that a site does not take")
        return answer(message) or b""

    def advertise(self, invitation: bytes) -> bytes:
        """Make new keys and forget everything of the session before; return the signed public keys."""
        invited, reply = Invited.of(self._site, invitation, self._random)
        self._open = None
        self._phase = invited
        return reply

    def encapsulate(self, roster: bytes) -> bytes:
        """Check everybody's keys; return a ciphertext for each site that comes later in the roster."""
        joined, reply = self._in(Invited).join(roster)
        self._phase = joined
        return reply

    def agree(self, ciphertexts: bytes) -> None:
        """Take the ciphertexts of the sites that come earlier: now there is a session."""
        pairs = self._in(Joined).agree(ciphertexts)
        self._phase = _Session(pairs, head=pairs.session, begun=pairs.epoch - 1)

    def deal(self, call: bytes) -> bytes:
        """Return this site's seeds for 256 attempts, committed to, and shared among the others."""
        session = self._in(_Session)
        asked, payload = DEAL.read(call)
        pieces(payload)
        if asked.session != session.pairs.session:  # S1
            raise ProtocolRefused("a call to deal in another session")
        if asked.batch <= session.dealt:  # S2
            raise ProtocolRefused("a call to deal a batch that is dealt, or that is over")
        session.dealt = asked.batch  # first: a box's key must never serve two batches of one number
        batch, reply = Batch.deal(session.pairs, asked.batch, self._random)
        session.batches[asked.batch] = batch
        while len(session.batches) > _BATCHES_KEPT:
            del session.batches[min(session.batches)]
        return reply

    def accept(self, boxes: bytes) -> None:
        """Take the others' shares of the batch that was dealt last."""
        session = self._in(_Session)
        if session.dealt < 0:
            raise ProtocolRefused("boxes before this site dealt")
        session.batches[session.dealt] = session.batches[session.dealt].accept(session.pairs, boxes)

    def begin(self, announcement: bytes, *, step: Label) -> None:
        """Begin the attempt of `step`, whose label the caller has checked; any earlier one is closed.

        To be called before the attempt is charged: what is refused here cannot be summed.
        """
        session = self._in(_Session)
        attempt, previous = ANNOUNCEMENT.read(announcement)
        terms = self._site.terms
        if attempt.label != step or (attempt.run, attempt.plan) != (terms.run, terms.plan):  # A1
            raise ProtocolRefused("the announcement of another step, run or plan")
        if attempt.session != session.pairs.session:  # A2
            raise ProtocolRefused("the announcement of another session's attempt")
        if attempt.attempt <= session.begun:  # A3
            raise ProtocolRefused("an attempt that was begun before, or that is before the session's first")
        batch = session.batches.get(batch_of(attempt.attempt))
        if batch is None or not batch.holds:  # A4
            raise ProtocolRefused("an attempt for which no seeds were dealt")
        self._follow(session, attempt, previous)  # A5
        session.begun = attempt.attempt  # A6
        self._open = _Begun(attempt, batch)

    def mask(self, vector: NDArray[np.uint32]) -> memoryview:
        """Return the masked vector, once for each attempt that was begun; `WrongInput` for another shape.

        The message is a view of where it was made: to copy it would cost half as much as to mask it.
        """
        pairs, begun = self._in(_Session).pairs, self._open
        terms, own = self._site.terms, self._site.place
        if not isinstance(begun, _Begun):
            raise ProtocolRefused("no attempt is open that waits for this site's vector")
        if vector.shape != (terms.dimension,) or vector.dtype != np.uint32:
            raise WrongInput(f"a vector to sum is {terms.dimension} words of 32 bits")
        self._open = None  # A7: whatever happens next, nothing is masked twice
        identity = begun.attempt.identity
        seeds = {peer: pairs.seed(peer, identity) for peer in pairs.others}
        own_seed = own_mask_seed(begun.batch.seed(begun.attempt.attempt), identity)
        head = MASKED.write(Answer(to=identity, site=own))
        gap = -len(head) % vector.itemsize  # words that begin at no multiple of their size are added slowly
        message = np.empty(gap + len(head) + vector.nbytes, dtype=np.uint8)[gap:]
        message[: len(head)] = np.frombuffer(head, dtype=np.uint8)
        add_masks(  # A8
            vector,
            plus=[own_seed, *(seed for peer, seed in seeds.items() if peer > own)],
            minus=[seed for peer, seed in seeds.items() if peer < own],
            out=message[len(head) :].view("<u4"),
        )
        self._open = _Masked(begun.attempt, begun.batch)
        return message.data.toreadonly()

    def sign(self, proposal: bytes) -> bytes:
        """Return this site's signature of the list of survivors: of one list for each attempt.

        A list of the open attempt that is refused closes it, unless it is the one that was signed.
        """
        listed, payload = PROPOSAL.read(proposal)
        pieces(payload)
        masked = self._masked(listed)  # O1
        if masked.signed == proposal:
            raise ProtocolRefused("a list of survivors that was signed before")
        self._open = None
        if masked.signed:  # O2
            raise ProtocolRefused(
                "a second list of survivors for one attempt", hint="the coordinator is not to be trusted"
            )
        self._check_list(masked, listed)
        self._open = replace(masked, signed=proposal)  # O6
        return SIGNATURE.write(
            Answer(to=digest(proposal), site=self._site.place), self._site.signer.sign(proposal)
        )

    def reveal(self, certificate: bytes) -> bytes:
        """Return what opens the sum over the survivors, once; the attempt is closed, also when it refuses.

        That is: for each survivor, this site's share of its own seed; for each other site of the roster, the
        seed of the mask shared with it in this attempt.
        """
        session = self._in(_Session)
        certified, signatures = CERTIFICATE.read(certificate)
        masked = self._masked(certified)  # O7
        self._open = None  # O8
        if certified.proposal != masked.signed:  # O9
            raise ProtocolRefused("a certificate of a list that this site did not sign")
        check_certificate(session.pairs, certified, signatures)  # O10
        session.head, session.head_attempt = digest(certified.proposal), certified.attempt  # O11
        pairs, attempt = session.pairs, masked.attempt
        dropped = without(pairs.places, certified.survivors)
        return REVEAL.write(  # O12
            Answer(to=digest(certified.proposal), site=self._site.place),
            *(masked.batch.share(place, attempt.attempt) for place in certified.survivors),
            *(pairs.seed(place, attempt.identity) for place in dropped),
        )

    def _in(self, phase: type[_Phase]) -> _Phase:
        if not isinstance(self._phase, phase):
            raise ProtocolRefused(
                "a message that does not come next in the agreement of keys",
                hint="a site that restarted has no keys: invite every site again",
            )
        return self._phase

    def _masked(self, listed: Survivors) -> _Masked:
        """Return the open attempt, if its vector is masked and `listed` is of it."""
        if not isinstance(self._open, _Masked) or listed.summed != self._open.attempt:
            raise ProtocolRefused(
                "a list of survivors for an attempt that is not open: too late, or never masked"
            )
        return self._open

    def _check_list(self, masked: _Masked, listed: Survivors) -> None:
        if self._site.place not in listed.survivors:  # O3
            raise ProtocolRefused("a list of survivors without this site")
        if len(listed.survivors) < self._site.terms.thresholds.least:  # O4
            raise ProtocolRefused("a sum over fewer sites than the policy allows")
        if not masked.batch.holds.issuperset(listed.survivors):  # O5
            raise ProtocolRefused("a list of survivors with a site that dealt no seeds")

    def _follow(self, session: _Session, attempt: Attempt, certificate: memoryview) -> None:
        """Take the last list that a quorum signed from its certificate, if this site did not see it."""
        behind = "an announcement that goes back behind a list that a quorum signed"
        if attempt.previous == session.pairs.session:
            pieces(certificate)
            if session.head != attempt.previous:
                raise ProtocolRefused(behind)
            return
        certified, signatures = CERTIFICATE.read(bytes(certificate))
        if certified.session != attempt.session or digest(certified.proposal) != attempt.previous:
            raise ProtocolRefused("an announcement whose certificate is not the one that it names")
        if attempt.previous != session.head and not (
            session.head_attempt < certified.attempt < attempt.attempt
        ):
            raise ProtocolRefused(behind)
        check_certificate(session.pairs, certified, signatures)
        session.head, session.head_attempt = attempt.previous, certified.attempt


def check_certificate(pairs: Pairs, certified: Certified, signatures: memoryview) -> None:
    """Raise `ProtocolRefused` unless a quorum of the roster's sites signed the list of survivors."""
    terms = pairs.site.terms
    if not set(certified.signers) <= set(pairs.places):
        raise ProtocolRefused("a list of survivors signed by one who is not in the roster")
    if len(certified.signers) < terms.thresholds.quorum:
        raise ProtocolRefused("a list of survivors that too few sites signed")
    parts = pieces(signatures, *[SIGNATURE_BYTES] * len(certified.signers))
    proposal = certified.proposal
    for place, signature in zip(certified.signers, parts, strict=True):
        what = f"the list of survivors by {terms.name(place)}"
        check_signature(terms.key(place), signature, proposal, what=what)
