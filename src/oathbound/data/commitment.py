"""The commitment to a cohort: a binary trie whose positions are fixed by the leaves' bits (`spec/cohort.md`).

A leaf is a patient's pseudonym in one round. What is committed to here is checked by `evidence.cohort_proof`,
which holds the hashes.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from oathbound.core.errors import WrongInput
from oathbound.evidence.cohort_proof import (
    BITS,
    KEY_BYTES,
    LEAF_BYTES,
    CohortProof,
    bit,
    cohort_leaf,
    empty_hash,
    leaf_hash,
    node_hash,
)

__all__ = ["KEY_BYTES", "cohort_leaf", "cohort_proof", "cohort_root", "group_of", "window_position"]

_WINDOW: Final = b"oathbound/window/v1"
_GROUP: Final = b"oathbound/group/v1"


def cohort_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the trie of distinct 32-byte leaves, in any order; without leaves, the empty hash.

    Raises `WrongInput` for a leaf of another length, or one that comes twice.
    """
    ordered = _ordered(leaves)
    return _subtree(ordered, 0, len(ordered), 0, 0)


def cohort_proof(leaves: Iterable[bytes], leaf: bytes) -> CohortProof:
    """Return the path along the bits of `leaf` in the trie of `leaves`: proof that it is, or is not, in it.

    Costs what the root costs: every subtree beside the path is hashed. Raises `WrongInput` as `cohort_root`
    does.
    """
    if len(leaf) != LEAF_BYTES:
        raise WrongInput(f"a leaf of a cohort has {LEAF_BYTES} bytes")
    ordered = _ordered(leaves)
    low, high, prefix, siblings = 0, len(ordered), 0, list[str]()
    while high - low > 1:
        depth = len(siblings)
        right = prefix | 1 << (BITS - 1 - depth)
        middle = bisect_left(ordered, right, low, high)
        if bit(leaf, depth):
            beside = _subtree(ordered, low, middle, prefix, depth + 1)
            low, prefix = middle, right
        else:
            beside = _subtree(ordered, middle, high, right, depth + 1)
            high = middle
        siblings.append(beside.hex())
    if low == high:
        return CohortProof(end="empty", siblings=tuple(siblings))
    end = ordered[low].to_bytes(LEAF_BYTES, "big")
    if end == leaf:
        return CohortProof(end="leaf", siblings=tuple(siblings))
    return CohortProof(end="other", other=end.hex(), siblings=tuple(siblings))


def _ordered(leaves: Iterable[bytes]) -> list[int]:
    ordered = sorted(leaves)
    if any(len(leaf) != LEAF_BYTES for leaf in ordered) or len(set(ordered)) != len(ordered):
        raise WrongInput(f"the leaves of a cohort are distinct and have {LEAF_BYTES} bytes")
    return [int.from_bytes(leaf, "big") for leaf in ordered]


def _subtree(leaves: Sequence[int], low: int, high: int, prefix: int, depth: int) -> bytes:
    """Return the hash of the ascending `leaves[low:high]`, which share their first `depth` bits, `prefix`."""
    if low == high:
        return empty_hash()
    if low + 1 == high:
        return leaf_hash(leaves[low].to_bytes(LEAF_BYTES, "big"))
    right = prefix | 1 << (BITS - 1 - depth)
    middle = bisect_left(leaves, right, low, high)
    return node_hash(
        _subtree(leaves, low, middle, prefix, depth + 1),
        _subtree(leaves, middle, high, right, depth + 1),
    )


def window_position(key: bytes) -> int:
    """Return the patient's fixed place on the line from 0 to 2^64: 64 bits of SHA-256(tag, k_patient)."""
    return int.from_bytes(hashlib.sha256(_WINDOW + key).digest()[:8], "big")


def group_of(key: bytes, policy_digest: str, groups: int) -> int:
    """Return the patient's group in a study: SHA-256(tag, policy, k_patient) mod `groups`.

    It depends on nothing that is in a record, and on nobody else; who has no key cannot tell it.
    """
    hashed = hashlib.sha256(_GROUP + policy_digest.encode() + key).digest()
    return int.from_bytes(hashed, "big") % groups
