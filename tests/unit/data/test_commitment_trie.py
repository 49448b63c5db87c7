import hashlib
import hmac
import time

import pytest

from oathbound.core.errors import WrongInput
from oathbound.data.commitment import cohort_leaf, cohort_root, window_position


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def reference(leaves, depth=0):
    """The definition of spec/cohort.md, over strings of bits."""
    if not leaves:
        return sha(b"\x02")
    if len(leaves) == 1:
        return sha(b"\x00", leaves[0])
    bit = lambda leaf: leaf[depth // 8] >> (7 - depth % 8) & 1  # noqa: E731 - it reads like the definition
    return sha(b"\x01", *(reference([x for x in leaves if bit(x) == side], depth + 1) for side in (0, 1)))


LEAVES = [sha(str(n).encode()) for n in range(300)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 300])
def test_the_root_is_that_of_the_definition(count):
    assert cohort_root(LEAVES[:count]) == reference(LEAVES[:count])


def test_leaves_that_share_all_bits_but_the_last():
    leaves = [bytes(31) + b"\x00", bytes(31) + b"\x01"]
    assert cohort_root(leaves) == reference(leaves)


def test_the_order_of_leaves_does_not_matter():
    assert cohort_root(LEAVES) == cohort_root(reversed(LEAVES)) == cohort_root(iter(LEAVES))


def test_any_other_set_has_another_root():
    roots = {cohort_root(LEAVES), cohort_root(LEAVES[1:]), cohort_root([*LEAVES, bytes(32)]), cohort_root([])}
    roots |= {cohort_root([sha(b"\x00", LEAVES[0])]), cohort_root([LEAVES[0]])}
    assert len(roots) == 6


@pytest.mark.parametrize("leaves", [[bytes(31)], [bytes(33)], [bytes(32), bytes(32)]])
def test_wrong_leaves_are_refused(leaves):
    with pytest.raises(WrongInput):
        cohort_root(leaves)


def prove(leaves, leaf):
    """Walk along the bits of `leaf`: the siblings from the top, and where the walk ends."""
    siblings, depth = [], 0
    while len(leaves) > 1:
        side = leaf[depth // 8] >> (7 - depth % 8) & 1
        parts = [[x for x in leaves if x[depth // 8] >> (7 - depth % 8) & 1 == s] for s in (0, 1)]
        siblings.append(reference(parts[1 - side], depth + 1))
        leaves, depth = parts[side], depth + 1
    return siblings, leaves[0] if leaves else None


def climb(leaf, siblings, end):
    digest = sha(b"\x02") if end is None else sha(b"\x00", end)
    for depth in reversed(range(len(siblings))):
        side = leaf[depth // 8] >> (7 - depth % 8) & 1
        pair = (siblings[depth], digest) if side else (digest, siblings[depth])
        digest = sha(b"\x01", *pair)
    return digest


def test_one_path_decides_membership_or_non_membership():
    root = cohort_root(LEAVES)
    for leaf in LEAVES[:20]:
        siblings, end = prove(LEAVES, leaf)
        assert end == leaf
        assert climb(leaf, siblings, end) == root
        without = [x for x in LEAVES if x != leaf]
        siblings, end = prove(without, leaf)
        assert end != leaf
        assert climb(leaf, siblings, end) == cohort_root(without) != root


def test_a_leaf_is_the_hmac_of_its_fields_with_their_lengths():
    fields = [b"oathbound/cohort-leaf/v1", b"st-elsewhere", b"run-1", "rönd 1".encode()]
    message = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    expected = hmac.new(bytes(range(32)), message, hashlib.sha256).digest()
    assert cohort_leaf(bytes(range(32)), site="st-elsewhere", run="run-1", label="rönd 1") == expected


def test_fields_do_not_run_into_each_other():
    key = bytes(32)
    assert cohort_leaf(key, site="ab", run="c", label="d") != cohort_leaf(key, site="a", run="bc", label="d")


def test_a_key_of_another_length_is_refused():
    with pytest.raises(WrongInput):
        cohort_leaf(bytes(16), site="a", run="b", label="c")


def test_a_position_is_fixed_by_the_key():
    assert window_position(bytes(32)) == int.from_bytes(sha(b"oathbound/window/v1", bytes(32))[:8], "big")


def test_twelve_thousand_leaves_take_well_under_a_second():
    leaves = [sha(b"speed", str(n).encode()) for n in range(12_000)]
    start = time.perf_counter()
    cohort_root(leaves)
    assert time.perf_counter() - start < 1
