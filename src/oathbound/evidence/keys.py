"""Who signs: one root seed per party, and one pair of keys per purpose, classical and post-quantum.

    purpose      classical   post-quantum   signs
    statement    Ed25519     ML-DSA-65      DSSE envelopes (`envelope`); Ed25519 also secure sums
    log          Ed25519     ML-DSA-44      checkpoints of the party's own log (`note`)
    witness      Ed25519     ML-DSA-44      checkpoints of other parties' logs (`note`)

Every key is HKDF-SHA256 (RFC 5869) of the root seed with its own label, so that a signature made for one
purpose can never serve another, and one small file is all that a site keeps. What the one key of two uses
signs begins differently for each. The page is `spec/keys.md`.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PrivateKey,
    MLDSA44PublicKey,
    MLDSA65PrivateKey,
    MLDSA65PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import AfterValidator, Field

from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.core.record import Name, Record
from oathbound.evidence import b64
from oathbound.evidence.durable import synchronise

PARTY_FORMAT: Final = "oathbound/party/v1"
SECRET_FORMAT: Final = "oathbound/secret/v1"  # noqa: S105 (the name of a file format)
_MAX_SECRET_BYTES: Final = 1024


def _base64_of(length: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(b64.decode(text)) != length:
            raise ValueError(f"not the base64 of {length} bytes")
        return text

    return AfterValidator(check)


_Seed = Annotated[str, _base64_of(32)]
_Ed25519 = Annotated[str, _base64_of(32)]
_MLDSA44 = Annotated[str, _base64_of(1312)]
_MLDSA65 = Annotated[str, _base64_of(1952)]


class PublicKey(Protocol):
    """What all public keys of `cryptography` used here have in common."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise `InvalidSignature` unless `signature` is one of `data`."""


def verify(key: PublicKey, signature: bytes, message: bytes, *, what: str) -> None:
    """Raise `NotAuthentic` naming `what`, unless `signature` is this key's signature of `message`."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise NotAuthentic(f"{what} does not verify") from None


class Party(Record):
    """A party's public keys, as base64 of their raw encodings (RFC 8032, FIPS 204), under its own name."""

    format: Literal["oathbound/party/v1"]
    name: Name
    statement_ed25519: _Ed25519
    statement_mldsa65: _MLDSA65
    log_ed25519: _Ed25519
    log_mldsa44: _MLDSA44
    witness_ed25519: _Ed25519
    witness_mldsa44: _MLDSA44

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the party in `data`, or raise `NotAuthentic` unless `data` is exactly its `encoded()`."""
        what = "the file of a party's public keys"
        value = from_canonical(data, what=what)
        try:
            return cls.parse(value if isinstance(value, dict) else {}, what=what)
        except WrongInput as error:
            raise NotAuthentic(error.message) from None

    def encoded(self) -> bytes:
        """Return the canonical bytes: what is exchanged, and what the fingerprint is the digest of."""
        return canonical(self.plain())

    @property
    def fingerprint(self) -> str:
        """The digest of the encoded party: what two people compare by telephone."""
        return digest(self.encoded())

    def statement_keys(self) -> tuple[Ed25519PublicKey, MLDSA65PublicKey]:
        """Return the keys that verify this party's envelopes."""
        return (
            Ed25519PublicKey.from_public_bytes(b64.decode(self.statement_ed25519)),
            MLDSA65PublicKey.from_public_bytes(b64.decode(self.statement_mldsa65)),
        )

    def log_keys(self) -> tuple[Ed25519PublicKey, MLDSA44PublicKey]:
        """Return the keys that verify the checkpoints of this party's logs."""
        return (
            Ed25519PublicKey.from_public_bytes(b64.decode(self.log_ed25519)),
            MLDSA44PublicKey.from_public_bytes(b64.decode(self.log_mldsa44)),
        )

    def witness_keys(self) -> tuple[Ed25519PublicKey, MLDSA44PublicKey]:
        """Return the keys that verify this party's cosignatures of others' checkpoints."""
        return (
            Ed25519PublicKey.from_public_bytes(b64.decode(self.witness_ed25519)),
            MLDSA44PublicKey.from_public_bytes(b64.decode(self.witness_mldsa44)),
        )


class Secret(Record):
    """A party's root seed, as base64 of 32 bytes. Printing a secret does not show the seed."""

    format: Literal["oathbound/secret/v1"]
    name: Name
    seed: _Seed = Field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Self:
        """Return a new secret from the system's random source; `WrongInput` when `name` is not a `Name`."""
        seed = b64.encode(os.urandom(32))
        return cls.parse({"format": SECRET_FORMAT, "name": name, "seed": seed}, what="the party's name")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the secret in the file; `WrongInput` also when another user of the machine may open it."""
        what = f"the secret key file {path}"
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MAX_SECRET_BYTES + 1) if stat.S_ISREG(mode) else b""
        except OSError as error:
            raise WrongInput(f"{what} cannot be read: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise WrongInput(f"{what} is open to other users of this machine", hint=f"chmod 600 {path}")
        if len(data) > _MAX_SECRET_BYTES:
            raise WrongInput(f"{what} is larger than {_MAX_SECRET_BYTES} bytes")
        return cls.parse(data, what=what)

    def save(self, path: Path) -> None:
        """Write a new file that only its owner can read, durably. `WrongInput` when the file exists."""
        # Written beside its place and linked when whole: a crash leaves no half of a key under its name.
        unfinished = path.with_name(f".{path.name}.new")
        try:
            unfinished.unlink(missing_ok=True)
            file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(canonical(self.plain()) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            path.hardlink_to(unfinished)
            synchronise(path.parent)
        except FileExistsError:
            raise WrongInput(f"{path} exists", hint="a key is never overwritten; name another file") from None
        except OSError as error:
            raise Unavailable(f"the secret key file {path} cannot be written: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def party(self) -> Party:
        """Return the public keys."""
        statement, log, witness = self.statement_keys(), self.log_keys(), self.witness_keys()
        return Party(
            format=PARTY_FORMAT,
            name=self.name,
            statement_ed25519=b64.encode(statement[0].public_key().public_bytes_raw()),
            statement_mldsa65=b64.encode(statement[1].public_key().public_bytes_raw()),
            log_ed25519=b64.encode(log[0].public_key().public_bytes_raw()),
            log_mldsa44=b64.encode(log[1].public_key().public_bytes_raw()),
            witness_ed25519=b64.encode(witness[0].public_key().public_bytes_raw()),
            witness_mldsa44=b64.encode(witness[1].public_key().public_bytes_raw()),
        )

    def statement_keys(self) -> tuple[Ed25519PrivateKey, MLDSA65PrivateKey]:
        """Return the keys that sign this party's envelopes."""
        return (
            Ed25519PrivateKey.from_private_bytes(self._derive("statement/ed25519")),
            MLDSA65PrivateKey.from_seed_bytes(self._derive("statement/ml-dsa-65")),
        )

    def log_keys(self) -> tuple[Ed25519PrivateKey, MLDSA44PrivateKey]:
        """Return the keys that sign the checkpoints of this party's logs."""
        return (
            Ed25519PrivateKey.from_private_bytes(self._derive("log/ed25519")),
            MLDSA44PrivateKey.from_seed_bytes(self._derive("log/ml-dsa-44")),
        )

    def witness_keys(self) -> tuple[Ed25519PrivateKey, MLDSA44PrivateKey]:
        """Return the keys that cosign the checkpoints of other parties' logs."""
        return (
            Ed25519PrivateKey.from_private_bytes(self._derive("witness/ed25519")),
            MLDSA44PrivateKey.from_seed_bytes(self._derive("witness/ml-dsa-44")),
        )

    def audit_nonce(self, policy_digest: str) -> str:
        """Return what seeds this party's audits of one study; it is committed to before there is a model."""
        return digest(self._derive(f"audit-nonce/{policy_digest}"))

    def _derive(self, label: str) -> bytes:
        info = b"oathbound/key/v1/" + label.encode("ascii")
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(b64.decode(self.seed))
