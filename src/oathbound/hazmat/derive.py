"""Keys from keys: HKDF-SHA256 (RFC 5869), with an info that no other derivation has."""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DERIVED_BYTES: Final = 32


def derive(secret: bytes, label: bytes, *parts: bytes) -> bytes:
    """Return 32 bytes that depend on everything given: HKDF without salt, one block.

    `label` is a protocol's constant and holds no line feed. The info is the label, a line feed, and each part
    after its length (32 bits, little-endian), so that two lists of parts never make one info.
    """
    info = b"".join((label, b"\n", *(len(part).to_bytes(4, "little") + part for part in parts)))
    return HKDF(algorithm=SHA256(), length=DERIVED_BYTES, salt=None, info=info).derive(secret)
