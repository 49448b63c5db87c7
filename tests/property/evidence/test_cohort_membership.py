"""Cohort proofs: for every set of leaves, exactly what is so can be shown, and nothing else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oathbound.core.errors import NotAuthentic
from oathbound.data.commitment import cohort_proof, cohort_root
from oathbound.evidence.cohort_proof import CohortProof, Member, NotMember, check, decode_proof

# Leaves that share long prefixes, and ordinary ones.
near = st.integers(0, 2**10 - 1).map(lambda n: bytes(30) + n.to_bytes(2, "big"))
far = st.integers(0, 2**16).map(lambda n: hashlib.sha256(str(n).encode()).digest())
leaves = near | far
cohorts = st.frozensets(leaves, max_size=40)


@given(cohorts, leaves)
def test_every_leaf_is_shown_to_be_in_or_out_and_as_it_is(cohort, leaf):
    proof = decode_proof(cohort_proof(cohort, leaf).encode())
    shown = check(cohort_root(cohort), leaf, proof)
    assert shown == (Member(leaf) if leaf in cohort else NotMember(leaf))


@given(cohorts.filter(bool), st.data())
def test_all_members_and_no_others(cohort, data):
    root = cohort_root(cohort)
    for leaf in cohort:
        assert check(root, leaf, cohort_proof(cohort, leaf)) == Member(leaf)
    member = data.draw(st.sampled_from(sorted(cohort)))
    without = cohort - {member}
    assert check(cohort_root(without), member, cohort_proof(without, member)) == NotMember(member)


@given(cohorts, cohorts, leaves)
def test_a_proof_holds_for_its_own_cohort_alone(cohort, other, leaf):
    if cohort != other:
        with pytest.raises(NotAuthentic):
            check(cohort_root(other), leaf, cohort_proof(cohort, leaf))


@given(cohorts, leaves, leaves)
def test_a_proof_of_one_leaf_never_makes_another_a_member(cohort, leaf, other):
    """Paths are of one leaf; where two leaves share one, it may show both absent, as is then so."""
    try:
        shown = check(cohort_root(cohort), other, cohort_proof(cohort, leaf))
    except NotAuthentic:
        return
    assert shown == (Member(other) if other in cohort else NotMember(other))


@given(cohorts, leaves, st.data())
def test_any_change_is_refused(cohort, leaf, data):
    root, proof = cohort_root(cohort), cohort_proof(cohort, leaf)
    bits = st.integers(0, 255)

    def refused(root, leaf, changed):
        with pytest.raises(NotAuthentic):
            check(root, leaf, changed)

    refused(_flipped(root, data.draw(bits)), leaf, proof)
    if proof.end == "leaf":
        refused(root, _flipped(leaf, data.draw(bits)), proof)
    siblings = proof.siblings
    for changed in (siblings[:-1], siblings[1:], (*siblings, "00" * 32), ("00" * 32, *siblings)):
        if len(changed) <= 256 and changed != siblings:
            refused(root, leaf, proof.model_copy(update={"siblings": changed}))
    if siblings:
        place = data.draw(st.integers(0, len(siblings) - 1))
        flipped = _flipped(bytes.fromhex(siblings[place]), data.draw(bits)).hex()
        refused(root, leaf, proof.model_copy(update={"siblings": _with(siblings, place, flipped)}))
    if proof.other is not None:
        flipped = _flipped(bytes.fromhex(proof.other), data.draw(bits)).hex()
        refused(root, leaf, proof.model_copy(update={"other": flipped}))
    for end in {"leaf", "empty", "other"} - {proof.end}:
        shown = data.draw(leaves).hex() if end == "other" else None
        refused(root, leaf, CohortProof(end=end, other=shown, siblings=siblings))


@given(cohorts, leaves, st.lists(leaves, max_size=4), st.sampled_from(["leaf", "empty", "other"]))
def test_no_path_made_of_the_cohort_s_own_hashes_shows_what_is_not_so(cohort, leaf, others, end):
    """Whatever prefix of a true path, of any leaf, is given another end."""
    root = cohort_root(cohort)
    for other in (leaf, *others):
        siblings = cohort_proof(cohort, other).siblings
        for depth in range(len(siblings) + 1):
            shown = other.hex() if end == "other" else None
            forged = CohortProof(end=end, other=shown, siblings=siblings[:depth])
            try:
                result = check(root, leaf, forged)
            except NotAuthentic:
                continue
            assert result == (Member(leaf) if leaf in cohort else NotMember(leaf))


def _flipped(value, place):
    return bytes(b ^ (0x80 >> place % 8 if n == place // 8 else 0) for n, b in enumerate(value))


def _with(values, place, value):
    return (*values[:place], value, *values[place + 1 :])
