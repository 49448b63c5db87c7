import pytest

from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat import kem
from oathbound.hazmat.derive import derive
from oathbound.hazmat.kem import CIPHERTEXT_BYTES, PUBLIC_BYTES, KeyPair

EARLIER, LATER = KeyPair.generate(), KeyPair.generate()
SECRET, CIPHERTEXT = EARLIER.encapsulate(LATER.public, b"context")


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_both_have_one_secret():
    assert LATER.decapsulate(EARLIER.public, CIPHERTEXT, b"context") == SECRET
    assert (len(LATER.public), len(CIPHERTEXT), len(SECRET)) == (PUBLIC_BYTES, CIPHERTEXT_BYTES, 32)
    assert EARLIER.encapsulate(LATER.public, b"context")[0] != SECRET


def test_whatever_differs_gives_another_secret():
    others = [
        LATER.decapsulate(EARLIER.public, CIPHERTEXT, b"other"),
        LATER.decapsulate(KeyPair.generate().public, CIPHERTEXT, b"context"),
        LATER.decapsulate(EARLIER.public, flipped(CIPHERTEXT, 0), b"context"),
        LATER.decapsulate(EARLIER.public, flipped(CIPHERTEXT, CIPHERTEXT_BYTES - 1), b"context"),
        LATER.decapsulate(flipped(EARLIER.public, 3), CIPHERTEXT, b"context"),  # X25519's half
        LATER.decapsulate(flipped(EARLIER.public, PUBLIC_BYTES - 1), CIPHERTEXT, b"context"),  # ML-KEM's
        KeyPair.generate().decapsulate(EARLIER.public, CIPHERTEXT, b"context"),
    ]
    assert len({SECRET, *others}) == len(others) + 1


def test_either_half_keeps_the_secret():
    # who knows all of one half, and all that is public, still needs the other
    transcript = (EARLIER.public, LATER.public, CIPHERTEXT, b"context")
    x25519 = LATER._exchange(kem._public(EARLIER.public)[0])
    mlkem = LATER._mlkem.decapsulate(CIPHERTEXT)
    assert derive(x25519 + mlkem, kem._LABEL, *transcript) == SECRET
    for guess in (x25519 + bytes(32), bytes(32) + mlkem):
        assert derive(guess, kem._LABEL, *transcript) != SECRET


@pytest.mark.parametrize(
    "public", [b"", LATER.public[:-1], LATER.public + b"x", LATER.public[:32] + b"\xff" * 1184]
)
def test_what_is_no_public_key_is_refused(public):
    with pytest.raises(ProtocolRefused):
        EARLIER.encapsulate(public, b"")
    with pytest.raises(ProtocolRefused):
        LATER.decapsulate(public, CIPHERTEXT, b"")


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_point_of_small_order_is_refused(point):
    with pytest.raises(ProtocolRefused, match="same secret"):
        EARLIER.encapsulate(point + LATER.public[32:], b"")


@pytest.mark.parametrize("ciphertext", [b"", CIPHERTEXT[:-1], CIPHERTEXT + b"x"])
def test_a_ciphertext_has_one_length(ciphertext):
    with pytest.raises(ProtocolRefused, match="wrong length"):
        LATER.decapsulate(EARLIER.public, ciphertext, b"")


def test_keys_are_not_printed():
    assert repr(EARLIER) == "KeyPair()"
