"""Flip any byte of what was signed: it is refused. Round trips: what was written is what is read."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oathbound.core.errors import NotAuthentic
from oathbound.evidence import b64, merkle
from oathbound.evidence.bundle import pack, unpack
from oathbound.evidence.envelope import Statement, Subject, open_envelope, sign
from oathbound.evidence.keys import Party
from oathbound.evidence.note import cosign, open_checkpoint, sign_checkpoint, witnesses

ORIGIN = "oathbound/study/hospital-a"
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}(/[a-z0-9][a-z0-9._-]{0,20}){0,2}", fullmatch=True)
json_values = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="session")
def envelope(statement, hospital):
    return sign(statement, hospital)


@pytest.fixture(scope="session")
def note(hospital, other, regulator):
    bare = sign_checkpoint(ORIGIN, 12_345, bytes(range(32)), hospital)
    return cosign(cosign(bare, other, 1_790_000_000), regulator, 1_790_000_001)


def changed(data, byte_flip):
    place, flip = byte_flip[0] % len(data), byte_flip[1]
    return data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]


def open_and_count(note, log, trusted):
    """Read a note as `verify` does: the log's lines, then the witnesses'."""
    return open_checkpoint(note, log.party(), ORIGIN), witnesses(note, trusted)


flips = st.tuples(st.integers(0, 2**20), st.integers(1, 255))


@RELAXED
@given(flips)
def test_a_changed_envelope_is_refused(envelope, trusted, flip):
    with pytest.raises(NotAuthentic):
        open_envelope(changed(envelope, flip), trusted)


@RELAXED
@given(flips)
def test_a_changed_note_is_refused(note, hospital, trusted, flip):
    with pytest.raises(NotAuthentic):
        open_and_count(changed(note, flip), hospital, trusted)


@RELAXED
@given(flips)
def test_a_changed_party_is_refused_or_another(hospital, flip):
    party = hospital.party()
    try:
        other = Party.decode(changed(party.encoded(), flip))
    except NotAuthentic:
        return
    assert other.fingerprint != party.fingerprint


@RELAXED
@given(st.binary(max_size=300))
def test_noise_is_refused_by_every_parser(hospital, trusted, data):
    for parse in (
        unpack,
        Party.decode,
        lambda noise: open_envelope(noise, trusted),
        lambda noise: open_checkpoint(noise, hospital.party(), ORIGIN),
        lambda noise: witnesses(noise, trusted),
    ):
        with pytest.raises(NotAuthentic):
            parse(data)


@RELAXED
@given(st.dictionaries(names, st.binary(max_size=200), min_size=1, max_size=8), flips)
def test_a_bundle_is_read_as_written_and_refused_when_changed(entries, flip):
    data = pack(entries)
    assert unpack(data) == entries
    with pytest.raises(NotAuthentic):
        unpack(changed(data, flip))


@RELAXED
@given(st.dictionaries(st.text(max_size=12), json_values, max_size=5))
def test_a_statement_is_read_as_signed(hospital, trusted, predicate):
    statement = Statement(
        subject=(Subject(name="a", digest={"sha256": "00" * 32}),),
        predicate_type="https://oathbound.invalid/test/v1",
        predicate=predicate,
    )
    assert open_envelope(sign(statement, hospital), trusted).statement == statement


@given(st.binary(max_size=100))
def test_base64_is_read_as_written(data):
    assert b64.decode(b64.encode(data)) == data


@given(st.text(alphabet="ABCDwxyz0189+/=\n -_", max_size=12))
def test_base64_text_is_refused_or_the_only_one(text):
    try:
        data = b64.decode(text)
    except ValueError:
        return
    assert b64.encode(data) == text


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_proofs_of_larger_trees(data):
    size = data.draw(st.integers(1, 700))
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    whole = merkle.root(leaves)
    merkle.verify_inclusion(leaves[index], index, size, merkle.inclusion_proof(index, leaves), whole)
    proof = merkle.consistency_proof(old, leaves)
    merkle.verify_consistency(old, merkle.root(leaves[:old]), size, whole, proof)
