"""Proof that a leaf is, or is not, in a cohort: the check of `spec/cohort.md`, and the hashes it shares.

A cohort's trie fixes every leaf's place by the leaf's bits, so a walk from the root along them has one end:
the leaf itself, another one, or nothing. One path shows which.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from oathbound.core.canonical import canonical, from_canonical
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.record import Record

LEAF_BYTES: Final = 32
BITS: Final = 8 * LEAF_BYTES
KEY_BYTES: Final = 32

MAX_PROOF_BYTES: Final = 32 * 1024
"""Of a proof as JSON; the longest possible, of 256 siblings, has about 17,300."""

_LEAF: Final = b"oathbound/cohort-leaf/v1"
_TAG_LEAF, _TAG_NODE, _TAG_EMPTY = b"\x00", b"\x01", b"\x02"

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""32 bytes as 64 lower-case hexadecimal digits."""


def cohort_leaf(key: bytes, *, site: str, run: str, label: str) -> bytes:
    """Return HMAC-SHA256(k_patient, tag, site, run, label), each of them preceded by its length in 8 bytes.

    Without the key, leaves of one patient in two rounds cannot be linked. Raises `WrongInput` unless the
    key has 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise WrongInput("a patient's key has 32 bytes")
    fields = (_LEAF, site.encode(), run.encode(), label.encode())
    message = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    return hmac.digest(key, message, "sha256")


def leaf_hash(leaf: bytes) -> bytes:
    """Return T({x}, d): the hash of a subtree of one leaf, at any depth."""
    return _hash(_TAG_LEAF, leaf)


def node_hash(zero: bytes, one: bytes) -> bytes:
    """Return the hash of two subtrees, of the leaves whose next bit is 0 and 1."""
    return _hash(_TAG_NODE, zero, one)


def empty_hash() -> bytes:
    """Return T({}, d): the hash of an empty place, at any depth."""
    return _hash(_TAG_EMPTY)


def bit(leaf: bytes, depth: int) -> int:
    """Return bit `depth` of a leaf, the most significant first."""
    return leaf[depth // 8] >> (7 - depth % 8) & 1


class CohortProof(Record):
    """The walk along a leaf's bits: the hash of every sibling, from the root down, and what it ends at.

    `end` is the `leaf` itself, some `other` leaf, which is then shown, or an `empty` place.
    """

    end: Literal["leaf", "other", "empty"]
    other: Hex32 | None = None
    siblings: Annotated[tuple[Hex32, ...], Field(max_length=BITS)]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.other is not None) != (self.end == "other"):
            raise ValueError("another leaf is shown if, and only if, the path ends at it")
        return self

    def encode(self) -> bytes:
        """Return the one JSON form of the proof."""
        return canonical(self.plain())


def decode_proof(data: bytes) -> CohortProof:
    """Return the proof in `data`; `NotAuthentic` unless it is exactly the form that `encode` gives."""
    if len(data) > MAX_PROOF_BYTES:
        raise NotAuthentic(f"a cohort proof is larger than {MAX_PROOF_BYTES} bytes")
    value = from_canonical(data, what="a cohort proof")
    try:
        proof = CohortProof.parse(value if isinstance(value, dict) else {}, what="a cohort proof")
    except WrongInput as error:
        raise NotAuthentic(error.message) from None
    if proof.encode() != data:
        raise NotAuthentic("a cohort proof is not in its one form")
    return proof


@dataclass(frozen=True, slots=True)
class Member:
    """The leaf is in the cohort."""

    leaf: bytes


@dataclass(frozen=True, slots=True)
class NotMember:
    """The leaf is not in the cohort."""

    leaf: bytes


def check(root: bytes, leaf: bytes, proof: CohortProof) -> Member | NotMember:
    """Return what `proof` shows of `leaf` in the cohort of `root`; `NotAuthentic` if it shows nothing.

    `root` and `leaf` have 32 bytes. The leaf must be the checker's own: recomputed from the key, or stated.
    """
    if len(leaf) != LEAF_BYTES:
        raise NotAuthentic(f"a leaf of a cohort has {LEAF_BYTES} bytes")
    siblings = [bytes.fromhex(sibling) for sibling in proof.siblings]
    if siblings and siblings[-1] == empty_hash():
        raise NotAuthentic("a cohort proof walks past the place where its leaf stands alone")
    if _climb(leaf, siblings, _end(leaf, len(siblings), proof)) != root:
        raise NotAuthentic("a cohort proof does not lead to the cohort's root")
    return Member(leaf) if proof.end == "leaf" else NotMember(leaf)


def _end(leaf: bytes, depth: int, proof: CohortProof) -> bytes:
    if proof.end == "leaf":
        return leaf_hash(leaf)
    if proof.other is None:
        return empty_hash()
    other = bytes.fromhex(proof.other)
    if other == leaf or any(bit(other, place) != bit(leaf, place) for place in range(depth)):
        raise NotAuthentic("a cohort proof ends at a leaf that does not stand there")
    return leaf_hash(other)


def _climb(leaf: bytes, siblings: Sequence[bytes], end: bytes) -> bytes:
    computed = end
    for depth in reversed(range(len(siblings))):
        pair = (siblings[depth], computed) if bit(leaf, depth) else (computed, siblings[depth])
        computed = node_hash(*pair)
    return computed


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
