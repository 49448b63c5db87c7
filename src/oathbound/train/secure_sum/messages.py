"""The messages of the secure sum, as bytes: the table of `spec/secure-sum.md`.

A message has one encoding; anything else is refused. Sites are named by their places, lists of places ascend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field

from oathbound.core.canonical import digest_of
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.core.record import Digest, Record
from oathbound.train.messages import Label, Ordinal, frame, unframe

SIGNATURE_BYTES: Final = 64
BATCH: Final = 256
"""How many attempts' seeds are dealt at a time."""

_MAX_HEADER: Final = 4096
_LENGTH: Final = 4

Place = Annotated[int, Field(ge=1, le=50)]
BatchNumber = Annotated[int, Field(ge=0, le=10_000_000 // BATCH)]


def _ascending(places: tuple[int, ...]) -> tuple[int, ...]:
    if any(low >= high for low, high in pairwise(places)):
        raise ValueError("places do not ascend")
    return places


Places = Annotated[tuple[Place, ...], Field(min_length=1, max_length=50), AfterValidator(_ascending)]
"""Sites, each once, in the policy's order: a set of sites has one encoding."""


class Invitation(Record):
    """Make new keys for this run, to be used from attempt `epoch` on."""

    run: Digest
    plan: Digest
    epoch: Ordinal


class Advertised(Invitation):
    """One site's public keys follow."""

    site: Place


class Roster(Invitation):
    """The sites between which there will be pairs; their public keys follow."""

    sites: Places


class Sent(Record):
    """What one site sends to several others, by way of the server; `session` is the roster's digest."""

    session: Digest
    sender: Place


class Received(Record):
    """What one site is given of what several others sent."""

    session: Digest
    receiver: Place


class Between(Record):
    """A ciphertext from one site to another follows."""

    session: Digest
    sender: Place
    receiver: Place


class DealCall(Record):
    """Deal seeds for 256 attempts: those above 256 `batch`."""

    session: Digest
    batch: BatchNumber


class Dealt(Sent):
    """Commitments to one site's seeds, and a box for every other site, follow."""

    batch: BatchNumber


class Boxes(Received):
    """The boxes of `senders` for one site follow."""

    batch: BatchNumber
    senders: Places


class Box(Between):
    """What one box is: its associated data, which is never sent."""

    batch: BatchNumber


class Attempt(Label):
    """One attempt to sum: no two attempts of honest sites that differ in anything have one digest.

    `previous` is the digest of the last list that a quorum signed in this session, or the session.
    """

    session: Digest
    previous: Digest

    @property
    def label(self) -> Label:
        """The label of the step that the attempt is at."""
        return Label(run=self.run, plan=self.plan, step=self.step, attempt=self.attempt, model=self.model)

    @property
    def identity(self) -> str:
        """The digest of all of this: what every seed and message of the attempt is bound to."""
        return digest_of(self.plain())


class Answer(Record):
    """One site's answer in an attempt: `to` is the digest of what it answers."""

    to: Digest
    site: Place


class Survivors(Attempt):
    """The sites whose masked vectors are in the sum: what a quorum signs."""

    survivors: Places

    @property
    def summed(self) -> Attempt:
        """The attempt that the list is of."""
        return Attempt(session=self.session, previous=self.previous, **self.label.plain())


class Certified(Survivors):
    """A list of survivors, and who signed it; the signatures follow."""

    signers: Places

    @property
    def proposal(self) -> bytes:
        """The message that was signed."""
        return PROPOSAL.write(Survivors(survivors=self.survivors, **self.summed.plain()))


_Header = TypeVar("_Header", bound=Record)


@dataclass(frozen=True, slots=True)
class Kind(Generic[_Header]):
    """A kind of message: its name, which is in its first line, and its header."""

    name: str
    header: type[_Header]

    @property
    def magic(self) -> bytes:
        """The first line: two kinds of messages never have a byte string in common, signed ones neither."""
        return f"oathbound/secure-sum/{self.name}/v1\n".encode()

    def write(self, header: _Header, *payload: bytes | memoryview) -> bytes:
        """Return the message. The payload is copied once."""
        return b"".join((frame(self.magic, header.plain(), b""), *payload))

    def read(self, data: bytes | memoryview) -> tuple[_Header, memoryview]:
        """Return the header, and the payload, of which the caller checks the length.

        Raises `ProtocolRefused`. The payload is not copied.
        """
        start = len(self.magic) + _LENGTH
        size = int.from_bytes(data[len(self.magic) : start], "little")
        end = start + min(size, _MAX_HEADER + 1)  # of a header too long, enough to be refused
        plain, _ = unframe(self.magic, bytes(data[:end]), 0)
        try:
            header = self.header.parse(plain, what=f"the header of {self.name}")
        except WrongInput as error:
            raise ProtocolRefused(error.message) from None
        return header, memoryview(data)[end:]


INVITATION: Final = Kind("invitation", Invitation)
ADVERTISEMENT: Final = Kind("advertisement", Advertised)
ROSTER: Final = Kind("roster", Roster)
CIPHERTEXT: Final = Kind("ciphertext", Between)
CIPHERTEXTS_SENT: Final = Kind("ciphertexts-sent", Sent)
CIPHERTEXTS: Final = Kind("ciphertexts", Received)
DEAL: Final = Kind("deal", DealCall)
DEALT: Final = Kind("dealt", Dealt)
BOXES: Final = Kind("boxes", Boxes)
BOX: Final = Kind("box", Box)
ANNOUNCEMENT: Final = Kind("announcement", Attempt)
MASKED: Final = Kind("masked", Answer)
PROPOSAL: Final = Kind("proposal", Survivors)
SIGNATURE: Final = Kind("signature", Answer)
CERTIFICATE: Final = Kind("certificate", Certified)
REVEAL: Final = Kind("reveal", Answer)


def pieces(payload: memoryview, *sizes: int) -> list[bytes]:
    """Return the payload, cut into pieces of these sizes; `ProtocolRefused` if it has another length."""
    if len(payload) != sum(sizes):
        raise ProtocolRefused("a message of the wrong length")
    cut, start = [], 0
    for size in sizes:
        cut.append(bytes(payload[start : start + size]))
        start += size
    return cut


def check_signature(key: Ed25519PublicKey, signature: bytes, message: bytes, *, what: str) -> None:
    """Raise `ProtocolRefused`, naming `what`, unless `signature` is one of `message` by `key`."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise ProtocolRefused(f"{what} is not signed by the site that it names") from None


def without(places: Sequence[int], gone: Sequence[int]) -> tuple[int, ...]:
    """Return `places` but those `gone`."""
    return tuple(place for place in places if place not in gone)
