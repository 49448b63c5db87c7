from hashlib import sha256

import pytest

from oathbound.core.errors import NotAuthentic
from oathbound.evidence.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(bytes([number])) for number in range(130)]
ROOTS = [root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]

# The leaves and roots of the reference tests of Certificate Transparency (RFC 6962).
REFERENCE_LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
REFERENCE_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_the_reference_tree(size):
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in REFERENCE_LEAVES[:size]]
    assert root(leaves).hex() == REFERENCE_ROOTS[size]


def test_leaves_and_nodes_are_hashed_apart():
    assert leaf_hash(b"x") == sha256(b"\x00x").digest()
    assert root([b"a" * 32, b"b" * 32]) == sha256(b"\x01" + b"a" * 32 + b"b" * 32).digest()


def test_every_leaf_of_every_tree_has_a_proof():
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            proof = inclusion_proof(index, LEAVES[:size])
            verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


def test_every_tree_continues_every_smaller_one():
    for new in range(1, len(LEAVES) + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(old, LEAVES[:new])
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)


def mutations(proof):
    yield (*proof, bytes(32))
    yield (bytes(32), *proof)
    for place in range(len(proof)):
        yield proof[:place] + proof[place + 1 :]
        yield (*proof[:place], bytes(32), *proof[place + 1 :])
        yield (*proof[:place], proof[place][:-1] + bytes([proof[place][-1] ^ 1]), *proof[place + 1 :])
    if len(proof) > 1:
        yield proof[::-1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 64, 65, 100])
def test_a_changed_proof_of_inclusion_is_refused(size):
    for index in range(size):
        proof = inclusion_proof(index, LEAVES[:size])
        wrong = [(index, size, changed, LEAVES[index], ROOTS[size]) for changed in mutations(proof)]
        wrong += [(other, size, proof, LEAVES[index], ROOTS[size]) for other in range(size) if other != index]
        wrong += [
            (-1, size, proof, LEAVES[index], ROOTS[size]),
            (size, size, proof, LEAVES[index], ROOTS[size]),
        ]
        wrong += [
            (index, size, proof, LEAVES[index], ROOTS[size + 1]),
            (index, size, proof, bytes(32), ROOTS[size]),
        ]
        wrong += [(index, 0, proof, LEAVES[index], ROOTS[size])]
        for number, claimed, changed, leaf, expected in wrong:
            with pytest.raises(NotAuthentic):
                verify_inclusion(leaf, number, claimed, changed, expected)


@pytest.mark.parametrize("new", [1, 2, 3, 4, 7, 8, 9, 64, 65, 100])
def test_a_changed_proof_of_consistency_is_refused(new):
    for old in range(1, new + 1):
        proof = consistency_proof(old, LEAVES[:new])
        wrong = [(old, ROOTS[old], new, ROOTS[new], changed) for changed in mutations(proof)]
        wrong += [
            (old, ROOTS[old - 1], new, ROOTS[new], proof),
            (old, ROOTS[old], new, ROOTS[new + 1], proof),
        ]
        wrong += [(0, ROOTS[0], new, ROOTS[new], proof), (new + 1, ROOTS[new + 1], new, ROOTS[new], proof)]
        for case in wrong:
            with pytest.raises(NotAuthentic):
                verify_consistency(*case)


def test_a_fork_has_no_proof():
    fork = [*LEAVES[:50], leaf_hash(b"rewritten"), *LEAVES[51:]]
    for old in range(51, 130):
        with pytest.raises(NotAuthentic):
            verify_consistency(old, ROOTS[old], 130, root(fork), consistency_proof(old, fork))


def test_what_is_not_in_the_tree_has_no_proof():
    with pytest.raises(IndexError):
        inclusion_proof(3, LEAVES[:3])
    for old in (0, 4):
        with pytest.raises(NotAuthentic):
            consistency_proof(old, LEAVES[:3])


def test_there_is_no_leaf_before_the_first_or_after_the_last():
    for index in (-1, len(LEAVES)):
        with pytest.raises(IndexError):
            inclusion_proof(index, LEAVES)


def test_a_log_does_not_continue_a_longer_one():
    for old, new in ((2, 1), (4, 2), (7, 3)):
        with pytest.raises(NotAuthentic):
            verify_consistency(old, ROOTS[1], new, ROOTS[1], ())
