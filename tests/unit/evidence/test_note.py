import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from oathbound.core.errors import NotAuthentic, NothingExamined, WrongInput
from oathbound.evidence import b64, merkle
from oathbound.evidence.note import (
    ED25519,
    ED25519_COSIGNATURE,
    MAX_TIME,
    MLDSA44_COSIGNATURE,
    Checkpoint,
    Cosignature,
    Line,
    cosign,
    cosigned_message,
    cosigned_text,
    decode,
    encode,
    key_id,
    open_checkpoint,
    sign_checkpoint,
    witnesses,
)

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "tlog"
ORIGIN = "oathbound/study/hospital-a"
ROOT = bytes(range(32))


@pytest.fixture(scope="module")
def bare(hospital):
    return sign_checkpoint(ORIGIN, 5, ROOT, hospital)


@pytest.fixture(scope="module")
def cosigned(bare, other, regulator):
    return cosign(cosign(bare, regulator, 1_790_000_001), other, 1_790_000_002)


def open_and_count(note, log, trusted):
    """Read a note as `verify` does: the log's lines, then the witnesses'."""
    return open_checkpoint(note, log.party(), ORIGIN), witnesses(note, trusted)


def test_a_checkpoint_opens_to_what_was_signed(bare, cosigned, hospital):
    expected = Checkpoint(ORIGIN, 5, ROOT)
    assert open_checkpoint(bare, hospital.party(), ORIGIN) == expected
    assert open_checkpoint(cosigned, hospital.party(), ORIGIN) == expected
    assert bare.startswith(expected.text + "\n— oathbound".encode())


def test_witnesses_are_returned_by_name_whoever_came_first(bare, cosigned, trusted):
    assert witnesses(bare, trusted) == ()
    assert witnesses(cosigned, trusted) == (
        Cosignature("hospital-b", 1_790_000_002),
        Cosignature("regulator", 1_790_000_001),
    )


def test_a_witness_replaces_its_earlier_cosignature(cosigned, regulator, trusted):
    later = cosign(cosigned, regulator, 1_790_000_009)
    assert [(one.name, one.time) for one in witnesses(later, trusted)] == [
        ("hospital-b", 1_790_000_002),
        ("regulator", 1_790_000_009),
    ]


def test_the_identity_of_a_checkpoint_is_of_its_text(bare, cosigned):
    assert decode(bare)[0].identity == decode(cosigned)[0].identity


def test_another_log_or_origin_is_refused(bare, hospital, other):
    with pytest.raises(NotAuthentic, match="another key"):
        open_checkpoint(bare, other.party(), ORIGIN)
    with pytest.raises(NotAuthentic, match="not of the log"):
        open_checkpoint(bare, hospital.party(), ORIGIN + "2")


def test_a_witness_that_is_not_trusted_is_refused(cosigned, other):
    party = other.party()
    with pytest.raises(NotAuthentic, match="not trusted"):
        witnesses(cosigned, {party.fingerprint: party})


def test_a_cosignature_of_another_checkpoint_is_refused(cosigned, hospital, trusted):
    _, lines = decode(cosigned)
    for size, root in ((6, ROOT), (5, bytes(32))):
        checkpoint, own = decode(sign_checkpoint(ORIGIN, size, root, hospital))
        with pytest.raises(NotAuthentic, match="cosignature"):
            witnesses(encode(checkpoint, own + lines[2:]), trusted)


def test_both_lines_of_log_and_witness_are_required(cosigned, hospital, trusted):
    checkpoint, lines = decode(cosigned)
    for chosen in (
        (),
        lines[:1],
        lines[1:],
        (lines[1], lines[0], *lines[2:]),
        (lines[0], lines[0], *lines[2:]),
        (lines[1], lines[1], *lines[2:]),
        (*lines[:2], lines[2]),
        (*lines[:2], lines[3]),
        (*lines[:2], lines[3], lines[2]),
        (*lines[:2], lines[2], lines[2]),
        (*lines[:2], lines[2], lines[5]),
        (*lines[:2], *lines[4:], *lines[2:4]),
        (*lines, *lines[4:]),
    ):
        note = encode(checkpoint, chosen)
        with pytest.raises(NotAuthentic):
            open_and_count(note, hospital, trusted)


def test_a_line_of_the_log_under_another_name_is_refused(bare, hospital):
    checkpoint, lines = decode(bare)
    for place in (0, 1):
        renamed = [*lines]
        renamed[place] = Line("oathbound/study/other", lines[place].blob)
        with pytest.raises(NotAuthentic, match="missing, or made with another key"):
            open_checkpoint(encode(checkpoint, tuple(renamed)), hospital.party(), ORIGIN)


def test_the_two_lines_of_a_witness_stand_together(cosigned):
    checkpoint, lines = decode(cosigned)
    crossed = encode(checkpoint, (*lines[:2], lines[4], lines[3], lines[2], lines[5]))
    with pytest.raises(NotAuthentic, match="one form"):
        decode(crossed)


def test_two_times_in_one_cosignature_are_refused(bare, other, trusted):
    checkpoint, first = decode(cosign(bare, other, 10))
    _, second = decode(cosign(bare, other, 11))
    with pytest.raises(NotAuthentic, match="one time"):
        witnesses(encode(checkpoint, (*first[:3], second[3])), trusted)


def test_each_signature_is_verified_alone(cosigned, hospital, trusted):
    checkpoint, lines = decode(cosigned)
    for place, line in enumerate(lines):
        forged = Line(line.name, line.blob[:-1] + bytes([line.blob[-1] ^ 1]))
        note = encode(checkpoint, (*lines[:place], forged, *lines[place + 1 :]))
        with pytest.raises(NotAuthentic, match="Ed25519" if place % 2 == 0 else "ML-DSA-44"):
            open_and_count(note, hospital, trusted)


@pytest.mark.parametrize("time", [0, MAX_TIME + 1])
def test_a_signed_time_outside_the_limits_is_refused(bare, other, trusted, time):
    checkpoint, log = decode(bare)
    template = decode(cosign(bare, other, 1))[1][2:]
    messages = cosigned_text(checkpoint, time), cosigned_message("hospital-b", checkpoint, time)
    lines = [
        Line(line.name, line.blob[:4] + time.to_bytes(8) + key.sign(message))
        for line, key, message in zip(template, other.witness_keys(), messages, strict=True)
    ]
    with pytest.raises(NotAuthentic, match="one time"):
        witnesses(encode(checkpoint, (*log, *lines)), trusted)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint(ORIGIN, 5, ROOT[:-1]),
        Checkpoint(ORIGIN, 0, ROOT),
        Checkpoint(ORIGIN, 2**53, ROOT),
        Checkpoint("a b", 5, ROOT),
    ],
)
def test_a_signed_checkpoint_outside_the_limits_is_refused(checkpoint, bare, hospital):
    (first, second), keys = decode(bare)[1], hospital.log_keys()
    publics = [key.public_key().public_bytes_raw() for key in keys]
    origin = checkpoint.origin
    lines = (
        Line(origin, key_id(origin, ED25519, publics[0]) + keys[0].sign(checkpoint.text)),
        Line(
            origin,
            key_id(origin, MLDSA44_COSIGNATURE, publics[1])
            + bytes(8)
            + keys[1].sign(cosigned_message(origin, checkpoint, 0)),
        ),
    )
    assert [len(line.blob) for line in lines] == [len(first.blob), len(second.blob)]
    with pytest.raises(NotAuthentic, match="one form"):
        open_checkpoint(encode(checkpoint, lines), hospital.party(), origin)


def test_a_note_larger_than_its_limit_is_refused(bare, hospital):
    checkpoint, lines = decode(bare)
    crowd = [Line(f"w{number:04}", bytes(2000)) for number in range(250) for _ in range(2)]
    with pytest.raises(NotAuthentic, match="one form"):
        open_checkpoint(encode(checkpoint, (*lines, *crowd)), hospital.party(), ORIGIN)


def test_text_in_another_form_is_refused(bare, hospital):
    text = b"%s\n5\n%s\n" % (ORIGIN.encode(), b64.encode(ROOT).encode())
    assert bare.startswith(text)
    signatures = bare[len(text) :]
    root = text.split(b"\n")[2]
    for head in (
        b"",
        text[:-1],
        text + b"extension\n",
        text.replace(b"\n5\n", b"\n05\n"),
        text.replace(b"\n5\n", b"\n0\n"),
        text.replace(b"\n5\n", b"\n-5\n"),
        text.replace(b"\n5\n", b"\n9999999999999999\n"),
        text.replace(b"\n5\n", "\n\u0665\n".encode()),
        text.replace(root, root[:-2] + b"9="),
        text.replace(root, b"AAAA"),
        text.replace(b"\n", b"\r\n"),
        text.replace(b"study", b"stu dy"),
        text.replace(b"study", "é".encode()),
        text.replace(b"\n5\n", b"\nx\n"),
    ):
        with pytest.raises(NotAuthentic):
            open_checkpoint(head + signatures, hospital.party(), ORIGIN)
    for note in (bare + b"\n", bare + b"x", bare[:-1], bare * 2, b"", b"\xff", bare + b" " * 2**20):
        with pytest.raises(NotAuthentic):
            open_checkpoint(note, hospital.party(), ORIGIN)


def test_a_log_signature_that_states_a_time_is_refused(bare, hospital):
    checkpoint, lines = decode(bare)
    key = hospital.log_keys()[1]
    message = cosigned_message(ORIGIN, checkpoint, 7)
    blob = lines[1].blob[:4] + (7).to_bytes(8) + key.sign(message)
    timed = encode(checkpoint, (lines[0], type(lines[1])(ORIGIN, blob)))
    with pytest.raises(NotAuthentic, match="time"):
        open_checkpoint(timed, hospital.party(), ORIGIN)


def test_what_cannot_be_signed_is_refused(bare, hospital, other):
    with pytest.raises(NothingExamined):
        sign_checkpoint(ORIGIN, 0, merkle.root([]), hospital)
    for origin in ("", "a b", "a+b", "é", "a" * 201, "a\nb"):
        with pytest.raises(WrongInput):
            sign_checkpoint(origin, 1, ROOT, hospital)
    for time in (0, -1, MAX_TIME + 1):
        with pytest.raises(WrongInput):
            cosign(bare, other, time)


def test_the_key_id_of_the_specifications_example():
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    name, expected, encoded = vkey.split("+")
    kind_and_key = b64.decode(encoded)
    assert key_id(name, kind_and_key[0], kind_and_key[1:]).hex() == expected


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared tlog vectors are not beside the repository")
@pytest.mark.parametrize(("name", "stated"), [("checkpoint", 1_790_000_000), ("checkpoint0", 1_789_999_900)])
def test_signatures_of_the_shared_vectors(name, stated):
    """The vectors' log states a time and each witness has one key, so lines are verified one by one."""
    note = (VECTORS / name).read_bytes()
    head, _, tail = note.partition(b"\n\n")
    origin, size, root = head.decode().split("\n")
    checkpoint = Checkpoint(origin, int(size), b64.decode(root))
    lines = [line.split(" ")[1:] for line in tail.decode().splitlines()]
    keys = json.loads((VECTORS / "keys.json").read_text())
    for (cosigner, text), vkey in zip(lines, ("log_ed", "log_pq", "w1", "w2"), strict=True):
        public = b64.decode(keys[vkey].split("+", 2)[2])
        kind, raw, blob = public[0], public[1:], b64.decode(text)
        assert blob[:4] == key_id(cosigner, kind, raw)
        time = int.from_bytes(blob[4:12])
        if kind == ED25519:
            verify, message, signature = (
                Ed25519PublicKey.from_public_bytes(raw).verify,
                checkpoint.text,
                blob[4:],
            )
        elif kind == ED25519_COSIGNATURE:
            verify = Ed25519PublicKey.from_public_bytes(raw).verify
            message, signature = cosigned_text(checkpoint, time), blob[12:]
        else:
            assert kind == MLDSA44_COSIGNATURE
            verify = MLDSA44PublicKey.from_public_bytes(raw).verify
            message, signature = cosigned_message(cosigner, checkpoint, time), blob[12:]
        verify(signature, message)
        with pytest.raises(InvalidSignature):
            verify(signature, message + b"x")
        assert kind == ED25519 or time == stated


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared tlog vectors are not beside the repository")
def test_proofs_of_the_shared_vectors():
    keys = json.loads((VECTORS / "keys.json").read_text())
    old, new = (
        b64.decode((VECTORS / name).read_text().split("\n")[2]) for name in ("checkpoint0", "checkpoint")
    )
    leaf = merkle.leaf_hash((VECTORS / "123.dsse.json").read_bytes())
    assert leaf == b64.decode(keys["leaf"])
    inclusion = [b64.decode(item) for item in keys["inclusion"]]
    consistency = [b64.decode(item) for item in keys["consistency"]]
    merkle.verify_inclusion(leaf, 123, 1000, inclusion, new)
    merkle.verify_consistency(700, old, 1000, new, consistency)
    with pytest.raises(NotAuthentic):
        merkle.verify_inclusion(leaf, 124, 1000, inclusion, new)
    with pytest.raises(NotAuthentic):
        merkle.verify_consistency(700, new, 1000, new, consistency)
