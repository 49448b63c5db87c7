import hashlib
import json

import pytest

from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.evidence.cohort_proof import (
    MAX_PROOF_BYTES,
    CohortProof,
    Member,
    NotMember,
    check,
    cohort_leaf,
    decode_proof,
    empty_hash,
    leaf_hash,
    node_hash,
)

HEX = "ab" * 32
ZERO, LOW, HIGH = bytes(32), b"\x40" + bytes(31), b"\x80" + bytes(31)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def refused(root, leaf, proof):
    with pytest.raises(NotAuthentic):
        check(root, leaf, proof)
    return True


def test_the_three_hashes_are_those_of_the_page():
    assert leaf_hash(ZERO) == sha(b"\x00", ZERO)
    assert node_hash(ZERO, HIGH) == sha(b"\x01", ZERO, HIGH)
    assert empty_hash() == sha(b"\x02")


def test_the_three_ends_by_hand():
    # two leaves below bit 0 = 0, none beside them
    root = node_hash(node_hash(leaf_hash(ZERO), leaf_hash(LOW)), empty_hash())
    below = (empty_hash().hex(), leaf_hash(LOW).hex())
    assert check(root, ZERO, CohortProof(end="leaf", siblings=below)) == Member(ZERO)
    near = bytes(31) + b"\x01"
    proof = CohortProof(end="other", other=ZERO.hex(), siblings=below)
    assert check(root, near, proof) == NotMember(near)
    beside = (node_hash(leaf_hash(ZERO), leaf_hash(LOW)).hex(),)
    assert check(root, HIGH, CohortProof(end="empty", siblings=beside)) == NotMember(HIGH)


def test_a_cohort_of_one_and_of_none():
    assert check(leaf_hash(ZERO), ZERO, CohortProof(end="leaf", siblings=())) == Member(ZERO)
    assert check(empty_hash(), ZERO, CohortProof(end="empty", siblings=())) == NotMember(ZERO)
    alone = CohortProof(end="other", other=HIGH.hex(), siblings=())
    assert check(leaf_hash(HIGH), ZERO, alone) == NotMember(ZERO)


def test_a_member_is_not_shown_absent_by_its_own_leaf():
    assert refused(leaf_hash(ZERO), ZERO, CohortProof(end="other", other=ZERO.hex(), siblings=()))


def test_another_leaf_must_stand_on_the_path():
    root = node_hash(leaf_hash(HIGH), leaf_hash(LOW))  # both on the wrong side
    proof = CohortProof(end="other", other=HIGH.hex(), siblings=(leaf_hash(LOW).hex(),))
    assert refused(root, ZERO, proof)


def test_an_inner_node_does_not_pass_for_a_leaf():
    inner = node_hash(leaf_hash(ZERO), leaf_hash(LOW))
    root = node_hash(inner, leaf_hash(HIGH))
    for other in (inner, sha(inner), leaf_hash(ZERO)):
        proof = CohortProof(end="other", other=other.hex(), siblings=(leaf_hash(HIGH).hex(),))
        assert refused(root, b"\x01" * 32, proof)


def test_a_path_beyond_the_place_where_a_leaf_stands_alone_is_refused():
    root = node_hash(leaf_hash(ZERO), empty_hash())
    assert refused(root, ZERO, CohortProof(end="leaf", siblings=(empty_hash().hex(),)))
    root = node_hash(empty_hash(), empty_hash())
    assert refused(root, ZERO, CohortProof(end="empty", siblings=(empty_hash().hex(),)))


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_a_leaf_of_another_length_is_refused(leaf):
    assert refused(leaf_hash(leaf), leaf, CohortProof(end="leaf", siblings=()))


def test_a_proof_has_one_form():
    for proof in (
        CohortProof(end="leaf", siblings=()),
        CohortProof(end="empty", siblings=(HEX,) * 256),
        CohortProof(end="other", other=HEX, siblings=(HEX, "00" * 32)),
    ):
        assert decode_proof(proof.encode()) == proof
    assert (
        proof.encode()
        == json.dumps(
            {"end": "other", "other": HEX, "siblings": [HEX, "00" * 32]}, separators=(",", ":")
        ).encode()
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"end":"leaf"}',
        b'{"end":"leaf","siblings":[] }',
        b'{"siblings":[],"end":"leaf"}',
        b'{"end":"leaf","end":"leaf","siblings":[]}',
        b'{"end":"leaf","more":1,"siblings":[]}',
        b'{"end":"leaf","other":null,"siblings":[]}',
        b'{"end":"member","siblings":[]}',
        b'{"end":"other","siblings":[]}',
        b'{"end":"leaf","other":"' + HEX.encode() + b'","siblings":[]}',
        b'{"end":"leaf","siblings":["' + HEX.upper().encode() + b'"]}',
        b'{"end":"leaf","siblings":["' + HEX[2:].encode() + b'"]}',
        b'{"end":"leaf","siblings":["' + HEX.encode() + b'\\n"]}',
        b'{"end":"leaf","siblings":[1]}',
        b'{"end":"leaf","siblings":"' + HEX.encode() + b'"}',
        b'{"end":"leaf","siblings":[' + b",".join([b'"' + HEX.encode() + b'"'] * 257) + b"]}",
        b"[" * 20_000,
        b" " * (MAX_PROOF_BYTES + 1),
    ],
)
def test_any_other_form_is_refused(data):
    with pytest.raises(NotAuthentic):
        decode_proof(data)


def test_a_proof_cannot_be_built_incoherent():
    for fields in ({"end": "other"}, {"end": "empty", "other": HEX}):
        with pytest.raises(ValueError, match="another leaf"):
            CohortProof(siblings=(), **fields)


def test_a_patient_recomputes_the_leaf():
    leaf = cohort_leaf(bytes(range(32)), site="north", run="study", label="members")
    assert check(leaf_hash(leaf), leaf, CohortProof(end="leaf", siblings=())) == Member(leaf)
    with pytest.raises(WrongInput):
        cohort_leaf(bytes(31), site="north", run="study", label="members")
