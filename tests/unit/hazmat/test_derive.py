from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from oathbound.hazmat.derive import DERIVED_BYTES, derive


def test_it_is_hkdf():
    info = b"label\n" + b"\3\0\0\0one" + b"\0\0\0\0"
    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(b"secret")
    assert derive(b"secret", b"label", b"one", b"") == expected
    assert len(expected) == DERIVED_BYTES


def test_parts_cut_otherwise_give_another_key():
    cuts = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), (b"a", b"b", b"c")]
    keys = {derive(b"secret", b"label", *parts) for parts in cuts}
    keys |= {derive(b"secret", b"label2", b"abc"), derive(b"other", b"label", b"abc")}
    assert len(keys) == len(cuts) + 2
