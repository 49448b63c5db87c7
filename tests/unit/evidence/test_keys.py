import stat

import pytest
from cryptography.hazmat.primitives import hashes, hmac

from oathbound.core.canonical import canonical
from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.evidence import b64
from oathbound.evidence.keys import Party, Secret


def rfc5869(seed, info):
    extract = hmac.HMAC(bytes(32), hashes.SHA256())
    extract.update(seed)
    expand = hmac.HMAC(extract.finalize(), hashes.SHA256())
    expand.update(info + b"\x01")
    return expand.finalize()


def test_keys_are_hkdf_of_the_seed_and_a_label_per_purpose():
    seed = bytes(range(32))
    secret = Secret(format="oathbound/secret/v1", name="a", seed=b64.encode(seed))
    for keys, labels in (
        (secret.statement_keys(), ("statement/ed25519", "statement/ml-dsa-65")),
        (secret.log_keys(), ("log/ed25519", "log/ml-dsa-44")),
        (secret.witness_keys(), ("witness/ed25519", "witness/ml-dsa-44")),
    ):
        for key, label in zip(keys, labels, strict=True):
            assert key.private_bytes_raw() == rfc5869(seed, b"oathbound/key/v1/" + label.encode())


def test_the_public_keys_of_a_fixed_seed_never_change():
    secret = Secret(format="oathbound/secret/v1", name="a", seed=b64.encode(bytes(range(32))))
    assert (
        secret.party().fingerprint
        == "sha256:9c519fbed412d65175f81905b43f707707c5cb7310b9b1138b63c1f731beb885"
    )


def test_all_keys_of_a_party_differ(hospital):
    keys = [value for name, value in hospital.party().plain().items() if "_" in name]
    assert len(set(keys)) == len(keys) == 6


def test_printing_a_secret_does_not_show_the_seed(hospital):
    assert hospital.seed not in f"{hospital!r} {hospital} {[hospital]}"


@pytest.mark.parametrize("name", ["", "Hospital", "a b", "../a", "a" * 64])
def test_a_name_that_is_no_name_is_refused(name):
    with pytest.raises(WrongInput):
        Secret.generate(name)


def test_a_saved_secret_is_its_owners_only_and_is_never_overwritten(tmp_path, hospital):
    path = tmp_path / "key"
    hospital.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Secret.load(path) == hospital
    with pytest.raises(WrongInput, match="exists"):
        hospital.save(path)
    assert Secret.load(path) == hospital


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o610, 0o602])
def test_a_secret_that_others_may_open_is_refused(tmp_path, hospital, mode):
    path = tmp_path / "key"
    hospital.save(path)
    path.chmod(mode)
    with pytest.raises(WrongInput, match="other users") as refusal:
        Secret.load(path)
    assert refusal.value.hint.startswith("chmod 600")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        b"null",
        b"[]",
        b" " * 2000,
        b'{"format":"oathbound/secret/v1","name":"a","seed":"AAAA"}',
        b'{"format":"oathbound/secret/v2","name":"a","seed":"' + b"A" * 43 + b'="}',
        b'{"format":"oathbound/secret/v1","name":"a","seed":"' + b"A" * 42 + b'B="}',
    ],
)
def test_a_malformed_secret_is_refused_without_showing_it(tmp_path, data):
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(WrongInput) as refusal:
        Secret.load(path)
    assert "AAAA" not in str(refusal.value)


def test_a_missing_secret_and_a_folder_are_refused(tmp_path, hospital):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(WrongInput, match="cannot be read"):
            Secret.load(path)
    with pytest.raises(Unavailable):
        hospital.save(tmp_path / "none" / "key")


def test_a_party_decodes_from_its_encoding(hospital):
    party = hospital.party()
    assert Party.decode(party.encoded()) == party


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A"},
        {"format": "oathbound/party/v2"},
        {"log_ed25519": "AAAA"},
        {"log_mldsa44": ""},
        {"witness_ed25519": "A" * 42 + "B="},
        {"statement_mldsa65": None},
        {"more": "x"},
    ],
)
def test_a_party_with_one_wrong_field_is_refused(hospital, change):
    with pytest.raises(NotAuthentic):
        Party.decode(canonical(hospital.party().plain() | change))


def test_a_party_in_another_form_is_refused(hospital):
    data = hospital.party().encoded()
    for other in (b"", b"null", b"[]", data + b"\n", b" " + data, data[:-1], data.replace(b":", b": ", 1)):
        with pytest.raises(NotAuthentic):
            Party.decode(other)


def test_a_secret_that_is_too_large_is_not_read(tmp_path, hospital):
    path = tmp_path / "key"
    path.write_bytes(canonical(hospital.plain()) + b" " * 1024)
    path.chmod(0o600)
    with pytest.raises(WrongInput, match="larger"):
        Secret.load(path)
