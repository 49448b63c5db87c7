"""The Merkle tree of RFC 6962 (section 2.1): pure functions of leaf hashes. Hashes are 32 bytes, SHA-256."""

from collections.abc import Sequence
from hashlib import sha256

from oathbound.core.errors import NotAuthentic


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return MTH(D[n]), from the hashes of the leaves."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return node_hash(root(leaves[:k]), root(leaves[k:]))


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return PATH(m, D[n]), the audit path of leaf `index` (section 2.1.1); `IndexError` if there is none."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    if len(leaves) == 1:
        return ()
    k = _split(len(leaves))
    if index < k:
        return (*inclusion_proof(index, leaves[:k]), root(leaves[k:]))
    return (*inclusion_proof(index - k, leaves[k:]), root(leaves[:k]))


def consistency_proof(old_size: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return PROOF(m, D[n]) (section 2.1.2), that the first `old_size` leaves are the start of all of them.

    Raises `NotAuthentic` when `old_size` is zero or more than there are: such a log lost leaves.
    """
    if not 0 < old_size <= len(leaves):
        raise NotAuthentic(f"a log of {len(leaves)} leaves does not continue one of {old_size}")
    return _subproof(old_size, leaves, known=True)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> None:
    """Raise `NotAuthentic` unless `proof` leads from the leaf hash at `index` to the root of `size` leaves.

    The algorithm is RFC 9162, section 2.1.3.2.
    """
    refusal = NotAuthentic(f"the proof that leaf {index} is in the log of {size} leaves does not hold")
    if not 0 <= index < size:
        raise refusal
    sides = _left_siblings(index, size - 1)
    if len(proof) != len(sides):
        raise refusal
    computed = leaf
    for sibling, left in zip(proof, sides, strict=True):
        computed = node_hash(sibling, computed) if left else node_hash(computed, sibling)
    if computed != expected:
        raise refusal


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise `NotAuthentic` unless `proof` shows that the new log is the old one, grown.

    The algorithm is RFC 9162, section 2.1.4.2. An empty old log is refused: everything continues it.
    """
    refusal = NotAuthentic(f"the log of {new_size} leaves is not shown to continue that of {old_size}")
    if not 0 < old_size <= new_size:
        raise refusal
    if old_size == new_size:
        if proof or old_root != new_root:
            raise refusal
        return
    position, last = old_size - 1, new_size - 1
    while position % 2:
        position, last = position // 2, last // 2
    sides = _left_siblings(position, last)
    path = [old_root, *proof] if position == 0 else list(proof)
    if len(path) != len(sides) + 1:
        raise refusal
    old = new = path[0]
    for sibling, left in zip(path[1:], sides, strict=True):
        if left:
            old = node_hash(sibling, old)
        new = node_hash(sibling, new) if left else node_hash(new, sibling)
    if old != old_root or new != new_root:
        raise refusal


def _left_siblings(position: int, last: int) -> list[bool]:
    """Return, for each step from a node to the root, whether its sibling is the left one.

    `position` is the node's and `last` the rightmost node's index at their level: `fn` and `sn` in RFC 9162.
    """
    sides = []
    while last:
        left = position % 2 == 1 or position == last
        sides.append(left)
        while left and position and position % 2 == 0:
            position, last = position // 2, last // 2
        position, last = position // 2, last // 2
    return sides


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`, for `size` of 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _subproof(m: int, leaves: Sequence[bytes], *, known: bool) -> tuple[bytes, ...]:
    """Return SUBPROOF(m, D[n], b): `known` says that the verifier holds the root of these m leaves."""
    if m == len(leaves):
        return () if known else (root(leaves),)
    k = _split(len(leaves))
    if m <= k:
        return (*_subproof(m, leaves[:k], known=known), root(leaves[k:]))
    return (*_subproof(m - k, leaves[k:], known=False), root(leaves[:k]))
