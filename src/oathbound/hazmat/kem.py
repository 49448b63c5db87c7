"""A secret between two parties, by X25519 (RFC 7748) and ML-KEM-768 (FIPS 203): safe while either of them is.

One party encapsulates, the other decapsulates. Both secrets go into one HKDF, together with both public keys,
the ciphertext and what the caller names, so that the result is another one where the two saw anything
differently (Giacon, Heuer, Poettering 2018: a combiner over the whole transcript).

Nothing here says whose a public key or a ciphertext is: the caller must have checked a signature of each.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.derive import derive
from oathbound.hazmat.random import random_bytes

PUBLIC_BYTES: Final = 32 + 1184
CIPHERTEXT_BYTES: Final = 1088

_X25519_BYTES: Final = 32
_MLKEM_SEED_BYTES: Final = 64
_LABEL: Final = b"oathbound/hybrid-kem/v1"


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """One party's two private keys, made together and used in one agreement of keys."""

    _x25519: X25519PrivateKey = field(repr=False)
    _mlkem: MLKEM768PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, random: Callable[[int], bytes] = random_bytes) -> Self:
        """Return new keys: 32 bytes of `random` for X25519, then 64 for ML-KEM's seed."""
        return cls(
            X25519PrivateKey.from_private_bytes(random(_X25519_BYTES)),
            MLKEM768PrivateKey.from_seed_bytes(random(_MLKEM_SEED_BYTES)),
        )

    @property
    def public(self) -> bytes:
        """Both public keys, raw: X25519 (32 bytes), then ML-KEM-768 (1184)."""
        return self._x25519.public_key().public_bytes_raw() + self._mlkem.public_key().public_bytes_raw()

    def encapsulate(self, peer: bytes, context: bytes) -> tuple[bytes, bytes]:
        """Return a secret with the owner of the public keys `peer`, and the ciphertext that it needs.

        The ciphertext's randomness is the library's own. `ProtocolRefused` unless `peer` is two public keys.
        """
        x25519, mlkem = _public(peer)
        with_mlkem, ciphertext = mlkem.encapsulate()
        transcript = (self.public, peer, ciphertext, context)
        return derive(self._exchange(x25519) + with_mlkem, _LABEL, *transcript), ciphertext

    def decapsulate(self, peer: bytes, ciphertext: bytes, context: bytes) -> bytes:
        """Return the secret that the owner of `peer` encapsulated, or another one where anything differs.

        `ProtocolRefused` unless `peer` is two public keys and the ciphertext has the right length.
        """
        if len(ciphertext) != CIPHERTEXT_BYTES:
            raise ProtocolRefused("a ciphertext of the wrong length")
        x25519, _ = _public(peer)
        transcript = (peer, self.public, ciphertext, context)
        return derive(self._exchange(x25519) + self._mlkem.decapsulate(ciphertext), _LABEL, *transcript)

    def _exchange(self, peer: X25519PublicKey) -> bytes:
        try:
            return self._x25519.exchange(peer)
        except ValueError:  # the all-zero secret of a point of small order (RFC 7748, 6.1)
            raise ProtocolRefused("a public key that gives everybody the same secret") from None


def check_public(peer: bytes) -> None:
    """Raise `ProtocolRefused` unless `peer` is two public keys with which a secret can be made."""
    KeyPair.generate().encapsulate(peer, b"")


def _public(peer: bytes) -> tuple[X25519PublicKey, MLKEM768PublicKey]:
    try:
        return (
            X25519PublicKey.from_public_bytes(peer[:_X25519_BYTES]),
            MLKEM768PublicKey.from_public_bytes(peer[_X25519_BYTES:]),
        )
    except ValueError:
        raise ProtocolRefused("public keys of the wrong length, or that are none (FIPS 203, 7.2)") from None
