"""Checkpoints of logs as signed notes, and the cosignatures of witnesses (C2SP).

    <origin>                                    signed-note.md, tlog-checkpoint.md
    <size>
    <base64 of the root>

    — <origin> <Ed25519 of the log, type 0x01>
    — <origin> <ML-DSA-44 of the log, type 0x06, timestamp 0>
    — <witness> <Ed25519 cosignature, type 0x04>    two lines for each witness, witnesses by name:
    — <witness> <ML-DSA-44 cosignature, type 0x06>  tlog-cosignature.md

A note here holds these lines and no others, although the specification lets readers skip lines of unknown
keys: what a verifier was shown is what it checked. The page is `spec/log.md`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from oathbound.core.canonical import digest
from oathbound.core.errors import NotAuthentic, NothingExamined, WrongInput
from oathbound.core.record import Digest
from oathbound.evidence import b64
from oathbound.evidence.keys import Party, Secret, verify

MAX_NOTE_BYTES: Final = 512 * 1024
MAX_SIZE: Final = 2**53 - 1
MAX_TIME: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that Python's `datetime` can show."""

ED25519: Final = 0x01
ED25519_COSIGNATURE: Final = 0x04
MLDSA44_COSIGNATURE: Final = 0x06

_EM_DASH: Final = "\N{EM DASH}"
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,200}")
_SIZE: Final = re.compile(r"[1-9][0-9]{0,15}")
_SIGNATURE_LINE: Final = re.compile(_EM_DASH + r" ([!-*,-~]{1,200}) ([A-Za-z0-9+/=]{8,4096})")
_HEADER_LINES: Final = 4
_LOG_LINES: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: `root` is the RFC 6962 hash (32 bytes) of its first `size` leaves."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """The note's text, as signed."""
        return f"{self.origin}\n{self.size}\n{b64.encode(self.root)}\n".encode("ascii")

    @property
    def identity(self) -> Digest:
        """The digest of the text: the same for every set of signatures."""
        return digest(self.text)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's word that at `time` (POSIX seconds) the log had only ever grown, up to this checkpoint."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class Line:
    """One signature line: `blob` is the key ID (4 bytes) and the signature."""

    name: str
    blob: bytes


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the 4-byte key ID (signed-note.md) for a name, a type of signature and a raw public key."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def cosigned_text(checkpoint: Checkpoint, time: int) -> bytes:
    """Return the message of an Ed25519 cosignature (tlog-cosignature.md, "Ed25519 signed message")."""
    return b"cosignature/v1\ntime %d\n" % time + checkpoint.text


def cosigned_message(cosigner: str, checkpoint: Checkpoint, time: int) -> bytes:
    """Return the message of an ML-DSA-44 cosignature (tlog-cosignature.md), of the leaves from 0."""
    parts = (
        b"subtree/v1\n\0",
        bytes([len(cosigner)]) + cosigner.encode("ascii"),
        time.to_bytes(8),
        bytes([len(checkpoint.origin)]) + checkpoint.origin.encode("ascii"),
        (0).to_bytes(8),
        checkpoint.size.to_bytes(8),
        checkpoint.root,
    )
    return b"".join(parts)


def sign_checkpoint(origin: str, size: int, root: bytes, secret: Secret) -> bytes:
    """Return the note of the log's head, signed by the log and by no witness yet.

    The ML-DSA-44 timestamp is zero, which states no time: time is for witnesses to say. Raises
    `NothingExamined` for an empty log, `WrongInput` for an origin outside the format.
    """
    if size == 0:
        raise NothingExamined("an empty log has no checkpoint")
    if not _ORIGIN.fullmatch(origin):
        raise WrongInput("the origin of a log is 1 to 200 visible ASCII characters other than '+'")
    checkpoint = Checkpoint(origin, size, root)
    classical, post_quantum = secret.log_keys()
    lines = (
        Line(
            origin,
            key_id(origin, ED25519, classical.public_key().public_bytes_raw())
            + classical.sign(checkpoint.text),
        ),
        Line(
            origin,
            key_id(origin, MLDSA44_COSIGNATURE, post_quantum.public_key().public_bytes_raw())
            + (0).to_bytes(8)
            + post_quantum.sign(cosigned_message(origin, checkpoint, 0)),
        ),
    )
    return encode(checkpoint, lines)


def cosign(note: bytes, secret: Secret, at: int) -> bytes:
    """Return the note with this witness's two lines, made at `at` (POSIX seconds), in place of earlier ones.

    The caller has opened the checkpoint and verified that the log only grew since the last one it cosigned.
    """
    if not 0 < at <= MAX_TIME:
        raise WrongInput(f"the time of a cosignature is in POSIX seconds, from 1 to {MAX_TIME}")
    checkpoint, lines = decode(note)
    name = secret.name
    classical, post_quantum = secret.witness_keys()
    mine = (
        Line(
            name,
            key_id(name, ED25519_COSIGNATURE, classical.public_key().public_bytes_raw())
            + at.to_bytes(8)
            + classical.sign(cosigned_text(checkpoint, at)),
        ),
        Line(
            name,
            key_id(name, MLDSA44_COSIGNATURE, post_quantum.public_key().public_bytes_raw())
            + at.to_bytes(8)
            + post_quantum.sign(cosigned_message(name, checkpoint, at)),
        ),
    )
    others = tuple(line for line in lines[_LOG_LINES:] if line.name != name)
    # The sort is stable: the Ed25519 line of a witness stays before its ML-DSA-44 line.
    return encode(checkpoint, lines[:_LOG_LINES] + tuple(sorted(others + mine, key=lambda line: line.name)))


def open_checkpoint(note: bytes, log: Party, origin: str) -> Checkpoint:
    """Return the checkpoint, or raise `NotAuthentic` unless both keys of `log` signed it for `origin`.

    The lines of witnesses are read for their form only: `witnesses` verifies them.
    """
    checkpoint, lines = decode(note)
    if checkpoint.origin != origin:
        raise NotAuthentic(f"a checkpoint is not of the log {origin}")
    classical, post_quantum = log.log_keys()
    whose = f"signature of {log.name} on a checkpoint of {origin}"
    signature = _signature(lines[0], origin, ED25519, classical.public_bytes_raw(), whose)
    verify(classical, signature, checkpoint.text, what=f"the Ed25519 {whose}")
    signature = _signature(lines[1], origin, MLDSA44_COSIGNATURE, post_quantum.public_bytes_raw(), whose)
    if signature[:8] != bytes(8):
        raise NotAuthentic(f"the ML-DSA-44 {whose} carries a time, which only witnesses state")
    message = cosigned_message(origin, checkpoint, 0)
    verify(post_quantum, signature[8:], message, what=f"the ML-DSA-44 {whose}")
    return checkpoint


def witnesses(note: bytes, parties: Mapping[str, Party]) -> tuple[Cosignature, ...]:
    """Return every cosignature of the note, by name of witness; raise `NotAuthentic` unless all verify.

    `parties` are the trusted parties by fingerprint. Whether a witness counts, for instance for its own log,
    is for the policy to say. The log's own two lines are verified by `open_checkpoint`, not here.
    """
    checkpoint, lines = decode(note)
    named = {party.name: party for party in parties.values()}
    cosignatures = []
    for first, second in zip(lines[_LOG_LINES::2], lines[_LOG_LINES + 1 :: 2], strict=True):
        witness = named.get(first.name)
        if witness is None:
            raise NotAuthentic("a checkpoint is cosigned by a witness that is not trusted")
        cosignatures.append(_cosignature(first, second, checkpoint, witness))
    return tuple(cosignatures)


def encode(checkpoint: Checkpoint, lines: tuple[Line, ...]) -> bytes:
    """Return the bytes of the note."""
    signatures = "".join(f"{_EM_DASH} {line.name} {b64.encode(line.blob)}\n" for line in lines)
    return checkpoint.text + b"\n" + signatures.encode()


def decode(note: bytes) -> tuple[Checkpoint, tuple[Line, ...]]:
    """Return the unverified checkpoint and its lines: the log's two, then two for each witness, by name.

    Raises `NotAuthentic` unless `note` is exactly what `encode` makes of them.
    """
    refusal = NotAuthentic("a checkpoint is not a note in the one form that oathbound writes")
    if len(note) > MAX_NOTE_BYTES:
        raise refusal
    try:
        rows = note.decode().split("\n")
        origin, size, root = rows[0], rows[1], b64.decode(rows[2])
        matches = [_SIGNATURE_LINE.fullmatch(row) for row in rows[_HEADER_LINES:-1]]
        lines = tuple(Line(match[1], b64.decode(match[2])) for match in matches if match)
    except (ValueError, IndexError):
        raise refusal from None
    if not (_ORIGIN.fullmatch(origin) and _SIZE.fullmatch(size) and len(root) == sha256().digest_size):
        raise refusal
    checkpoint = Checkpoint(origin, int(size), root)
    names = [line.name for line in lines[_LOG_LINES:]]
    pairs_by_name = names[::2] == names[1::2] == sorted(set(names))
    if len(lines) < _LOG_LINES or not pairs_by_name or checkpoint.size > MAX_SIZE:
        raise refusal
    if encode(checkpoint, lines) != note:
        raise refusal
    return checkpoint, lines


def _signature(line: Line, name: str, kind: int, public: bytes, whose: str) -> bytes:
    if line.name != name or line.blob[:4] != key_id(name, kind, public):
        raise NotAuthentic(f"the {whose} is missing, or made with another key")
    return line.blob[4:]


def _cosignature(first: Line, second: Line, checkpoint: Checkpoint, witness: Party) -> Cosignature:
    classical, post_quantum = witness.witness_keys()
    name, whose = witness.name, f"cosignature of {witness.name} on a checkpoint of {checkpoint.origin}"
    ed25519 = _signature(first, name, ED25519_COSIGNATURE, classical.public_bytes_raw(), whose)
    mldsa44 = _signature(second, name, MLDSA44_COSIGNATURE, post_quantum.public_bytes_raw(), whose)
    time = int.from_bytes(ed25519[:8])
    if ed25519[:8] != mldsa44[:8] or not 0 < time <= MAX_TIME:
        raise NotAuthentic(f"the two lines of the {whose} do not state one time")
    verify(classical, ed25519[8:], cosigned_text(checkpoint, time), what=f"the Ed25519 {whose}")
    verify(post_quantum, mldsa44[8:], cosigned_message(name, checkpoint, time), what=f"the ML-DSA-44 {whose}")
    return Cosignature(name, time)
