"""What the coordinator asks of a site around training, as bytes, and what it believes of the answers.

`spec/sites.md` lists the questions. A site's answer is signed: a statement of its log, a cosignature, or a
position, which carries the question's nonce. The answers to the messages of a step are the site's node's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field

from oathbound.core.canonical import digest
from oathbound.core.errors import NotAuthentic, ProtocolRefused, Unavailable, WrongInput
from oathbound.core.record import Count, Digest, Record
from oathbound.core.study import Policy
from oathbound.evidence.envelope import open_envelope
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import Ordinal, Role, Round, SitePredicate, predicate_of
from oathbound.hazmat.random import random_bytes
from oathbound.train.engine import Peer
from oathbound.train.messages import frame, unframe

MOST_BYTES: Final = 64 * 1024**2
"""Of a question or an answer: the log of the largest study fits."""

LEAST_PART_BYTES: Final = 2420
"""Of a note or a leaf, which says how many there may be: a note holds an ML-DSA-44 signature, of so many
bytes (FIPS 204, table 2), and a leaf a larger one, both in base64."""

_PART_LENGTH: Final = 4
_NONCE_BYTES: Final = 32


class Question(Record):
    """The header of a question; `magic` begins it. Its parts are the notes, `notes` of them, and leaves."""

    magic: ClassVar[bytes]
    notes: ClassVar[int] = 0

    policy: Digest

    def encode(self, *parts: bytes) -> bytes:
        """Return the question's bytes."""
        return frame(self.magic, self.plain(), pack(parts))

    @classmethod
    def decode(cls, message: bytes) -> tuple[Self, list[bytes], list[bytes]]:
        """Return the question, its notes and its leaves; `ProtocolRefused` for bytes of another form."""
        header, payload = unframe(cls.magic, message, 0, more=MOST_BYTES)
        try:
            question = cls.parse(header, what="a question's header")
        except WrongInput as error:
            raise ProtocolRefused(error.message) from None
        parts = unpack(payload)
        if len(parts) < cls.notes:
            raise ProtocolRefused("a question without the checkpoint that it needs")
        return question, parts[: cls.notes], parts[cls.notes :]


class Where(Question):
    """How far are you, and what did you state? The answer: a `Position`, signed, and the site's leaves."""

    magic = b"oathbound/where/v1\n"
    nonce: Digest


class Afford(Question):
    """Does your limit allow this study? No answer means yes; nothing is reserved."""

    magic = b"oathbound/afford/v1\n"


class Review(Question):
    """The study's log: would you cosign it? No answer means yes."""

    magic = b"oathbound/review/v1\n"


class Cosign(Question):
    """A checkpoint of the study's log, and the log. The answer: the checkpoint, cosigned."""

    magic = b"oathbound/cosign/v1\n"
    notes = 1


class Gather(Question):
    """Read your consents and state your cohort of this round. The answer: the site's leaves.

    The note is the checkpoint that the run started from.
    """

    magic = b"oathbound/gather/v1\n"
    notes = 1
    round: Ordinal


class Begin(Question):
    """Open the node of a round, up to a step. No answer means yes.

    The notes are the checkpoint that the run started from, and the one that witnesses the round.
    """

    magic = b"oathbound/begin/v1\n"
    notes = 2
    round: Ordinal
    last_step: Ordinal


class Close(Question):
    """State what you charged: the training is over. The answer: the site's leaves."""

    magic = b"oathbound/close/v1\n"
    notes = 1


class Position(SitePredicate):
    """How far a site is. It answers one question, by its nonce, and stands in no log.

    `round` is the newest that the site stated, 0 before the first; `resumable` says that its consents are
    fresh and that nobody withdrew since. `charged` attempts were charged, of which `highest` is the last.
    """

    kind: ClassVar[str] = "position/v1"
    role: ClassVar[Role] = "site"
    nonce: Digest
    charged: Count
    highest: Count
    round: Annotated[int, Field(ge=0, le=10_000_000)]
    resumable: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One site, as the coordinator sees it: a `notary.Witness` that is reached through a peer."""

    name: str
    party: Party
    peer: Peer
    policy: Policy
    _taken: set[bytes] = field(default_factory=set, repr=False)

    def where(self) -> tuple[Position, list[bytes]]:
        """Return how far the site is, and all that it has stated; `NotAuthentic` unless it signed both."""
        nonce = digest(random_bytes(_NONCE_BYTES))
        signed, *leaves = unpack(self._ask(Where(policy=self.policy.digest, nonce=nonce)), at_least=1)
        mine = {self.party.fingerprint: self.party}
        statement = open_envelope(signed, mine).statement
        position = Position.parse(statement.predicate, what=f"the position of {self.name}")
        expected = (self.name, self.policy.digest, nonce)
        if (
            position.statement() != statement
            or (position.site, position.policy_digest, position.nonce) != expected
        ):
            raise NotAuthentic(f"{self.name} answers another question than it was asked")
        handed_in = self._mine(leaves)
        said = (predicate_of(open_envelope(leaf, mine).statement) for leaf in handed_in)
        rounds = (each.round for each in said if isinstance(each, Round))
        if position.round != max(rounds, default=0):
            raise NotAuthentic(f"{self.name} says another round than it has stated")
        return position, handed_in

    def afford(self) -> None:
        """Ask whether the site's limit allows the study; `BudgetRefused` if not."""
        self._ask(Afford(policy=self.policy.digest))

    def review(self, leaves: Sequence[bytes]) -> None:
        """Ask whether the site would cosign these leaves."""
        self._ask(Review(policy=self.policy.digest), *leaves)

    def cosign(self, note: bytes, leaves: Sequence[bytes], now: int) -> bytes:  # noqa: ARG002 - its own clock
        """Return the note with the site's cosignature, by the site's clock."""
        return _only(self._ask(Cosign(policy=self.policy.digest), note, *leaves))

    def gather(self, start: bytes, number: int) -> list[bytes]:
        """Have the site state its cohort of a round, and return all that it has stated."""
        return self._mine(unpack(self._ask(Gather(policy=self.policy.digest, round=number), start)))

    def close(self, start: bytes) -> list[bytes]:
        """Have the site state what it charged, and return all that it has stated."""
        return self._mine(unpack(self._ask(Close(policy=self.policy.digest), start)))

    def _ask(self, question: Question, *parts: bytes) -> bytes:
        answer = self.peer.receive(question.encode(*parts))
        if len(answer) > MOST_BYTES:
            raise ProtocolRefused(f"{self.name} answers more than {MOST_BYTES} bytes")
        return answer

    def _mine(self, leaves: list[bytes]) -> list[bytes]:
        """Return the leaves, each of which must be a statement of this site about this policy."""
        mine = {self.party.fingerprint: self.party}
        for leaf in set(leaves) - self._taken:
            said = predicate_of(open_envelope(leaf, mine).statement)
            if not isinstance(said, SitePredicate) or (said.site, said.policy_digest) != (
                self.name,
                self.policy.digest,
            ):
                raise NotAuthentic(f"{self.name} hands in a statement that is not about itself in this study")
            self._taken.add(leaf)
        return leaves


@dataclass(slots=True)
class Seat:
    """A site's place in one round: a `Peer` that begins the round again at a site that was gone."""

    peer: Peer
    begin: bytes
    _begun: bool = False

    def receive(self, message: bytes) -> bytes:
        """Return the answer; the site is first told to begin, at the first message and after it was gone."""
        if not self._begun:
            self.peer.receive(self.begin)
            self._begun = True
        try:
            return self.peer.receive(message)
        except Unavailable:
            self._begun = False
            raise


def pack(parts: Sequence[bytes]) -> bytes:
    """Return the parts, each after its length in four bytes, little-endian."""
    return b"".join(len(part).to_bytes(_PART_LENGTH, "little") + part for part in parts)


def unpack(data: bytes, *, at_least: int = 0) -> list[bytes]:
    """Return the parts in what `pack` made; `ProtocolRefused` for other bytes, or fewer parts."""
    parts, place = [], 0
    while place < len(data):
        start = place + _PART_LENGTH
        end = start + int.from_bytes(data[place:start], "little")
        if not start + LEAST_PART_BYTES <= end <= len(data):
            raise ProtocolRefused("a list of statements that is cut short")
        parts.append(data[start:end])
        place = end
    if len(parts) < at_least:
        raise ProtocolRefused("an answer without what was asked for")
    return parts


def _only(answer: bytes) -> bytes:
    parts = unpack(answer, at_least=1)
    if len(parts) != 1:
        raise ProtocolRefused("an answer with more than was asked for")
    return parts[0]
