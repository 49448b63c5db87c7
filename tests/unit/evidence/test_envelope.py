import hashlib
import json

import pytest
from pydantic import ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from oathbound.core.canonical import canonical
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.evidence import b64
from oathbound.evidence.envelope import (
    MAX_ENVELOPE_BYTES,
    Statement,
    Subject,
    identity,
    open_envelope,
    pre_authentication_encoding,
    sign,
)


def resigned(payload, secret):
    """Return an envelope of any payload, signed as `sign` would."""
    message = pre_authentication_encoding(payload)
    fingerprint = secret.party().fingerprint
    signatures = [
        {"keyid": f"{fingerprint}#{name}", "sig": b64.encode(key.sign(message))}
        for name, key in zip(("ed25519", "ml-dsa-65"), secret.statement_keys(), strict=True)
    ]
    return canonical(
        {
            "payload": b64.encode(payload),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": signatures,
        }
    )


def test_an_envelope_opens_to_what_was_signed(statement, hospital, trusted):
    signed = open_envelope(sign(statement, hospital), trusted)
    assert signed.statement == statement
    assert signed.signer == hospital.party()


def test_identity_is_of_the_signed_bytes_and_not_of_the_signatures(statement, hospital, other, trusted):
    first, second, third = sign(statement, hospital), sign(statement, hospital), sign(statement, other)
    assert first != second  # ML-DSA signatures are randomised
    assert {open_envelope(data, trusted).identity for data in (first, second, third)} == {identity(statement)}
    payload = b64.decode(json.loads(first)["payload"])
    encoding = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    assert identity(statement) == "sha256:" + hashlib.sha256(encoding).hexdigest()


def test_the_payload_is_an_in_toto_statement(statement, hospital):
    payload = json.loads(b64.decode(json.loads(sign(statement, hospital))["payload"]))
    assert payload == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.safetensors", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "https://oathbound.invalid/test/v1",
        "predicate": {"epsilon": "1.25", "steps": 7, "sites": ["hospital-a", "hospital-b"]},
    }


def test_securesystemslib_verifies_our_envelope(statement, hospital):
    data, party = sign(statement, hospital), hospital.party()
    public = {"public": b64.decode(party.statement_ed25519).hex()}
    ed25519 = SSlibKey(f"{party.fingerprint}#ed25519", "ed25519", "ed25519", public)
    # Only the Ed25519 signature: securesystemslib's own ML-DSA scheme signs a TUF-specific wrapping (TAP 21).
    assert Envelope.from_dict(json.loads(data)).verify([ed25519], 1) == {ed25519.keyid: ed25519}
    changed = json.loads(data)
    changed["payload"] = b64.encode(b64.decode(changed["payload"]).replace(b"1.25", b"0.25"))
    with pytest.raises(VerificationError):
        Envelope.from_dict(changed).verify([ed25519], 1)


def test_an_untrusted_signer_is_refused(statement, hospital, other):
    party = other.party()
    with pytest.raises(NotAuthentic, match="not trusted"):
        open_envelope(sign(statement, hospital), {party.fingerprint: party})
    with pytest.raises(NotAuthentic, match="not trusted"):
        open_envelope(sign(statement, hospital), {})


def test_both_signatures_of_one_party_and_no_others_are_required(statement, hospital, other, trusted):
    ours = json.loads(sign(statement, hospital))
    theirs = json.loads(sign(statement, other))["signatures"]
    classical, post_quantum = ours["signatures"]
    for signatures in (
        [],
        [classical],
        [post_quantum],
        [post_quantum, classical],
        [classical, classical],
        [classical, theirs[1]],
        [theirs[0], post_quantum],
        [classical, post_quantum, theirs[0]],
        [classical, {**post_quantum, "sig": classical["sig"]}],
        [classical, {**post_quantum, "sig": theirs[1]["sig"]}],
        [{**classical, "sig": theirs[0]["sig"]}, post_quantum],
        [{**classical, "sig": ""}, post_quantum],
        [classical, {**post_quantum, "sig": ""}],
        [classical, {**post_quantum, "more": 1}],
        [classical, {**post_quantum, "keyid": classical["keyid"]}],
        [{**classical, "keyid": classical["keyid"] + "2"}, post_quantum],
    ):
        with pytest.raises(NotAuthentic):
            open_envelope(canonical(ours | {"signatures": signatures}), trusted)


@pytest.mark.parametrize("change", [{"payloadType": "application/json"}, {"payload": ""}, {"more": 1}])
def test_another_type_an_empty_payload_and_more_keys_are_refused(statement, hospital, trusted, change):
    with pytest.raises(NotAuthentic):
        open_envelope(canonical(json.loads(sign(statement, hospital)) | change), trusted)


def test_base64_that_does_not_encode_to_itself_is_refused(hospital, trusted):
    """The unused bits before the padding decode to the same bytes, so only the form betrays them."""
    for length in range(3):
        predicate = {"filler": "x" * length}
        statement = Statement(
            subject=(Subject(name="a", digest={"sha256": "00" * 32}),),
            predicate_type="https://oathbound.invalid/test/v1",
            predicate=predicate,
        )
        envelope = json.loads(sign(statement, hospital))
        payload = envelope["payload"]
        if not payload.endswith("="):
            continue
        letters = payload.rstrip("=")
        changed = letters[:-1] + chr(ord(letters[-1]) + 1) + payload[len(letters) :]
        for text in (changed, letters, payload + "\n", payload.replace("A", "A ", 1)):
            with pytest.raises(NotAuthentic, match=r"base64|one form"):
                open_envelope(canonical(envelope | {"payload": text}), trusted)
        return
    pytest.fail("no payload with padding")


def test_a_signed_payload_in_another_form_is_refused(statement, hospital, trusted):
    plain = statement.plain()
    assert open_envelope(resigned(canonical(plain), hospital), trusted).statement == statement
    without_type = {key: value for key, value in plain.items() if key != "_type"}
    by_name = without_type | {"type_uri": plain["_type"]}
    for payload in (
        b"",
        b"null",
        b"{}",
        json.dumps(plain).encode(),
        canonical(plain) + b"\n",
        canonical(plain | {"more": 1}),
        canonical(plain | {"subject": []}),
        canonical(plain | {"_type": "https://in-toto.io/Statement/v0.1"}),
        canonical(plain | {"predicateType": "http://example.com"}),
        canonical(without_type),
        canonical(by_name),
        canonical(plain).replace(b'"1.25"', b"1.25"),
        canonical(plain).replace(b'"steps":7', b'"steps":7,"steps":7'),
    ):
        with pytest.raises(NotAuthentic):
            open_envelope(resigned(payload, hospital), trusted)


@pytest.mark.parametrize(
    "digest", [{}, {"sha1": "00" * 20}, {"sha256": "AB" * 32}, {"sha256": "ab" * 32, "sha512": "ab" * 32}]
)
def test_a_subject_has_one_sha256_digest(digest):
    with pytest.raises(ValidationError):
        Subject(name="a", digest=digest)


def test_a_statement_too_large_for_a_log_is_refused(statement, hospital, trusted):
    room = MAX_ENVELOPE_BYTES - len(sign(statement, hospital))
    fits = statement.model_copy(
        update={"predicate": statement.predicate | {"more": "x" * (room * 3 // 4 - 16)}}
    )
    data = sign(fits, hospital)
    assert MAX_ENVELOPE_BYTES - 64 < len(data) <= MAX_ENVELOPE_BYTES
    assert open_envelope(data, trusted).statement == fits
    large = statement.model_copy(update={"predicate": {"more": "x" * MAX_ENVELOPE_BYTES}})
    with pytest.raises(WrongInput, match="too large"):
        sign(large, hospital)
    with pytest.raises(NotAuthentic, match="larger"):
        open_envelope(b"{" + b" " * MAX_ENVELOPE_BYTES, trusted)


def test_a_float_cannot_be_signed(statement, hospital):
    with pytest.raises(TypeError):
        sign(statement.model_copy(update={"predicate": {"epsilon": 1.25}}), hospital)
