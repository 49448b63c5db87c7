"""Signed statements: an in-toto Statement v1 in a DSSE v1 envelope, signed classically and post-quantum.

Both signatures are always required, and both are of one party. The identity of a statement is the digest of
what is signed, the DSSE pre-authentication encoding: ML-DSA signatures are randomised, so two envelopes of
one statement differ. The page is `spec/statement.md`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints

from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.record import Digest, Record
from oathbound.evidence import b64
from oathbound.evidence.keys import Party, Secret, verify

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
MAX_ENVELOPE_BYTES: Final = 65_535
"""An envelope is a leaf of a log, and C2SP tlog-tiles gives a leaf's length two bytes."""

_Algorithm = Annotated[str, StringConstraints(pattern=r"^sha256$")]
_Hex256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Uri = Annotated[str, StringConstraints(pattern=r"^https://[!-~]{1,300}$")]
_SubjectName = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,300}$")]


class Subject(Record):
    """A thing that a statement speaks about, and `{"sha256": ...}`, its one digest in hexadecimal."""

    name: _SubjectName
    digest: Annotated[dict[_Algorithm, _Hex256], Field(min_length=1)]


class Statement(Record):
    """An in-toto Statement v1. `predicate` holds JSON values without floats and without nulls."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    type_uri: Literal["https://in-toto.io/Statement/v1"] = Field(
        default=STATEMENT_TYPE, validation_alias="_type", serialization_alias="_type"
    )
    subject: Annotated[tuple[Subject, ...], Field(min_length=1)]
    predicate_type: _Uri = Field(validation_alias="predicateType", serialization_alias="predicateType")
    predicate: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement whose two signatures by `signer` hold. `identity` is how other statements cite it."""

    statement: Statement
    signer: Party
    identity: Digest


_SIGNATURE: Final = r'\{"keyid":"([a-z0-9:#-]*)","sig":"([A-Za-z0-9+/=]*)"\}'
_ENVELOPE: Final = re.compile(
    rf'\{{"payload":"([A-Za-z0-9+/=]*)","payloadType":"{re.escape(PAYLOAD_TYPE)}",'
    rf'"signatures":\[{_SIGNATURE},{_SIGNATURE}\]\}}'
)
"""The one canonical form: to match it costs next to nothing, to parse what somebody crafted may cost much."""


def pre_authentication_encoding(payload: bytes) -> bytes:
    """Return what DSSE v1 signs: `DSSEv1`, the payload's type and the payload, with their lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode("ascii"), len(payload), payload)


def identity(statement: Statement) -> Digest:
    """Return the identity that the statement has, or will have, whoever signs it."""
    return digest(pre_authentication_encoding(canonical(statement.plain())))


def sign(statement: Statement, secret: Secret) -> bytes:
    """Return the envelope; `WrongInput` when it would be larger than a leaf of a log may be."""
    payload = canonical(statement.plain())
    message = pre_authentication_encoding(payload)
    classical, post_quantum = secret.statement_keys()
    made = (classical.sign(message), post_quantum.sign(message))
    keyids = _keyids(secret.party().fingerprint)
    signatures = [{"keyid": keyid, "sig": b64.encode(sig)} for keyid, sig in zip(keyids, made, strict=True)]
    data = canonical({"payload": b64.encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures})
    if len(data) > MAX_ENVELOPE_BYTES:
        raise WrongInput(
            f"a signed statement of {len(data)} bytes is too large: a log takes {MAX_ENVELOPE_BYTES}",
            hint="put what is large in a file of the bundle, and its digest in the statement",
        )
    return data


def open_envelope(data: bytes, parties: Mapping[str, Party]) -> Signed:
    """Return the verified statement in an envelope, or raise `NotAuthentic`.

    `parties` are the trusted parties by fingerprint. The payload is not read before both signatures hold.
    """
    encoded, *signed = _parts(data)
    keyids, made = tuple(signed[::2]), signed[1::2]
    fingerprint = keyids[0].partition("#")[0]
    signer = parties.get(fingerprint)
    if signer is None:
        raise NotAuthentic("an envelope is signed by a party that is not trusted")
    if keyids != _keyids(fingerprint):
        raise NotAuthentic(f"an envelope of {signer.name} needs one Ed25519 and one ML-DSA-65 signature")
    try:
        payload = b64.decode(encoded)
        signatures = [b64.decode(each) for each in made]
    except ValueError:
        raise NotAuthentic(f"an envelope of {signer.name} holds base64 that is not canonical") from None
    message = pre_authentication_encoding(payload)
    classical, post_quantum = signer.statement_keys()
    whose = f"signature of {signer.name} on a statement"
    verify(classical, signatures[0], message, what=f"the Ed25519 {whose}")
    verify(post_quantum, signatures[1], message, what=f"the ML-DSA-65 {whose}")
    return Signed(_statement(payload), signer, digest(message))


def _keyids(fingerprint: str) -> tuple[str, str]:
    return f"{fingerprint}#ed25519", f"{fingerprint}#ml-dsa-65"


def _parts(data: bytes) -> tuple[str, ...]:
    """Return the payload, and each signature's key and value, as they are written in an envelope."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise NotAuthentic(f"an envelope is larger than {MAX_ENVELOPE_BYTES} bytes")
    found = _ENVELOPE.fullmatch(data.decode("latin-1"))
    if found is None:
        raise NotAuthentic("an envelope is not in the one form that oathbound writes")
    return found.groups()


def _statement(payload: bytes) -> Statement:
    value = from_canonical(payload, what="a statement")
    try:
        statement = Statement.parse(value if isinstance(value, dict) else {}, what="a statement")
    except WrongInput as error:
        raise NotAuthentic(error.message) from None
    if canonical(statement.plain()) != payload:
        raise NotAuthentic("a statement is not in the one form that oathbound signs")
    return statement
