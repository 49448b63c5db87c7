"""The commitment to a cohort: a binary trie whose positions are fixed by the leaves' bits (`spec/cohort.md`).

A leaf is a patient's pseudonym in one round. A walk from the root along a leaf's bits ends at that leaf, at
another one, or at an empty place, and nowhere else: one path decides membership or non-membership.
"""

import hashlib
import hmac
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from oathbound.core.errors import WrongInput

BITS: Final = 256
KEY_BYTES: Final = 32

_LEAF: Final = b"oathbound/cohort-leaf/v1"
_WINDOW: Final = b"oathbound/window/v1"
_TAG_LEAF, _TAG_NODE, _TAG_EMPTY = b"\x00", b"\x01", b"\x02"


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


def cohort_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the trie of distinct 32-byte leaves, in any order; without leaves, the empty hash.

    Raises `WrongInput` for a leaf of another length, or one that comes twice.
    """
    ordered = sorted(leaves)
    if any(len(leaf) * 8 != BITS for leaf in ordered) or len(set(ordered)) != len(ordered):
        raise WrongInput("the leaves of a cohort are distinct and have 32 bytes")
    return _subtree([int.from_bytes(leaf, "big") for leaf in ordered], 0, len(ordered), 0, 0)


def _subtree(leaves: Sequence[int], low: int, high: int, prefix: int, depth: int) -> bytes:
    """Return the hash of the ascending `leaves[low:high]`, which share their first `depth` bits, `prefix`."""
    if low == high:
        return _hash(_TAG_EMPTY)
    if low + 1 == high:
        return _hash(_TAG_LEAF, leaves[low].to_bytes(BITS // 8, "big"))
    right = prefix | 1 << (BITS - 1 - depth)
    middle = bisect_left(leaves, right, low, high)
    return _hash(
        _TAG_NODE,
        _subtree(leaves, low, middle, prefix, depth + 1),
        _subtree(leaves, middle, high, right, depth + 1),
    )


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def window_position(key: bytes) -> int:
    """Return the patient's fixed place on the line from 0 to 2^64: 64 bits of SHA-256(tag, k_patient)."""
    return int.from_bytes(hashlib.sha256(_WINDOW + key).digest()[:8], "big")
