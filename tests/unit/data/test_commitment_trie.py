import hashlib
import hmac
import time

import pytest

from oathbound.core.errors import WrongInput
from oathbound.data.commitment import cohort_proof, cohort_root, group_of, window_position
from oathbound.evidence.cohort_proof import MAX_PROOF_BYTES, Member, check, cohort_leaf


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


def walk(leaves, leaf):
    """Walk along the bits of `leaf` in the definition: the siblings from the top, and where the walk ends."""
    siblings, depth = [], 0
    while len(leaves) > 1:
        side = leaf[depth // 8] >> (7 - depth % 8) & 1
        parts = [[x for x in leaves if x[depth // 8] >> (7 - depth % 8) & 1 == s] for s in (0, 1)]
        siblings.append(reference(parts[1 - side], depth + 1).hex())
        leaves, depth = parts[side], depth + 1
    return tuple(siblings), leaves[0] if leaves else None


def test_a_proof_is_the_walk_of_the_definition():
    ends = set()
    for leaf in LEAVES[:10] + [sha(b"absent", bytes([n])) for n in range(20)]:
        siblings, end = walk(LEAVES, leaf)
        proof = cohort_proof(LEAVES, leaf)
        assert proof.siblings == siblings
        expected = ("empty", None) if end is None else ("leaf", None) if end == leaf else ("other", end.hex())
        assert (proof.end, proof.other) == expected
        ends.add(proof.end)
    assert ends == {"leaf", "other", "empty"}


def test_a_proof_does_not_depend_on_the_order_of_leaves():
    assert cohort_proof(LEAVES, LEAVES[7]) == cohort_proof(reversed(LEAVES), LEAVES[7])


def test_leaves_that_share_all_bits_but_the_last_have_the_longest_path():
    leaves = [bytes(31) + b"\x00", bytes(31) + b"\x01"]
    proof = cohort_proof(leaves, leaves[1])
    assert len(proof.siblings) == 256
    assert len(proof.encode()) < MAX_PROOF_BYTES
    assert check(cohort_root(leaves), leaves[1], proof) == Member(leaves[1])


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_a_proof_of_a_wrong_leaf_is_refused(leaf):
    with pytest.raises(WrongInput):
        cohort_proof(LEAVES, leaf)


@pytest.mark.parametrize("leaves", [[bytes(31)], [bytes(32), bytes(32)]])
def test_a_proof_from_wrong_leaves_is_refused(leaves):
    with pytest.raises(WrongInput):
        cohort_proof(leaves, bytes(32))


def test_a_path_is_about_as_long_as_the_cohort_s_size_has_bits():
    lengths = [len(cohort_proof(LEAVES, leaf).siblings) for leaf in LEAVES[:100]]
    assert 8 <= sum(lengths) / len(lengths) <= 11  # log2(300) is 8.2


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


def test_groups_are_a_hash_of_the_key_in_one_study_and_even():
    keys = [sha(bytes([n % 256, n // 256])) for n in range(8000)]
    groups = [group_of(key, POLICY, 20) for key in keys]
    assert groups[7] == int.from_bytes(sha(b"oathbound/group/v1", POLICY.encode(), keys[7]), "big") % 20
    counts = [groups.count(number) for number in range(20)]
    assert sum(counts) == 8000
    assert sum((count - 400) ** 2 / 400 for count in counts) < 50  # chi-squared, 19 degrees: 1 in 7,000
    other = [group_of(key, POLICY[:-1] + "0", 20) for key in keys]
    assert 250 < sum(a == b for a, b in zip(groups, other, strict=True)) < 550


POLICY = "sha256:" + "1" * 64
