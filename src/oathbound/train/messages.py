"""The two messages of training, as bytes: `spec/training.md`.

A message has one encoding; anything else is refused. A message is a magic line, the header's length (32 bits,
little-endian), the header as canonical JSON, and a payload whose length the receiver knows beforehand.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.errors import NotAuthentic, ProtocolRefused, WrongInput
from oathbound.core.record import Digest, Name, Record

_STEP: Final = b"oathbound/step/v1\n"
_SHARE: Final = b"oathbound/share/v1\n"
_LENGTH: Final = 4
_MAX_HEADER: Final = 4096
_WORD: Final = 4

Ordinal = Annotated[int, Field(ge=1, le=10_000_000)]


class Label(Record):
    """Which vector this is: no two vectors that differ carry one label.

    `plan` is the digest of the policy, `model` that of the weights' bytes; `step` counts from 1 what moves
    the model, `attempt` what is charged.
    """

    run: Digest
    plan: Digest
    step: Ordinal
    attempt: Ordinal
    model: Digest


class ShareLabel(Label):
    """The label of one site's share."""

    site: Name


_AnyLabel = TypeVar("_AnyLabel", bound=Label)


@dataclass(frozen=True, slots=True)
class Step:
    """From the coordinator to each node: compute your share at these weights (float32 [d], finite)."""

    label: Label
    weights: NDArray[np.float32]

    def encode(self) -> bytes:
        """Return the message."""
        return frame(_STEP, self.label.plain(), weight_bytes(self.weights))

    @classmethod
    def decode(cls, data: bytes, dimension: int) -> Self:
        """Return the message in `data`, with the weights that its label names, or raise `ProtocolRefused`."""
        header, payload = unframe(_STEP, data, _WORD * dimension)
        label = _label(Label, header)
        if digest(payload) != label.model:
            raise ProtocolRefused("a step's weights are not the ones that it names")
        weights = np.frombuffer(payload, dtype="<f4").astype(np.float32)
        if not np.isfinite(weights).all():
            raise ProtocolRefused("a step's weights are not finite", hint="the training diverged")
        return cls(label, weights)


@dataclass(frozen=True, slots=True)
class Share:
    """From a node to the coordinator: its noised sum on the ring (uint32 [d])."""

    label: ShareLabel
    vector: NDArray[np.uint32]

    def encode(self) -> bytes:
        """Return the message."""
        return frame(_SHARE, self.label.plain(), self.vector.astype("<u4").tobytes())

    @classmethod
    def decode(cls, data: bytes, dimension: int) -> Self:
        """Return the message in `data`, or raise `ProtocolRefused`."""
        header, payload = unframe(_SHARE, data, _WORD * dimension)
        return cls(_label(ShareLabel, header), np.frombuffer(payload, dtype="<u4").astype(np.uint32))


def weight_bytes(weights: NDArray[np.float32]) -> bytes:
    """Return the bytes of weights that messages carry and that `model` digests."""
    return weights.astype("<f4").tobytes()


def frame(magic: bytes, header: dict[str, Any], payload: bytes) -> bytes:
    """Return `magic`, the length of the canonical header, the header, and the payload."""
    text = canonical(header)
    return b"".join((magic, len(text).to_bytes(_LENGTH, "little"), text, payload))


def unframe(magic: bytes, data: bytes, payload_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return header and payload of what `frame` made, or raise `ProtocolRefused`."""
    start = len(magic) + _LENGTH
    if len(data) < start or not data.startswith(magic):
        raise ProtocolRefused(f"not a message of the kind {magic.decode().strip()}")
    size = int.from_bytes(data[len(magic) : start], "little")
    if size > _MAX_HEADER or len(data) != start + size + payload_bytes:
        raise ProtocolRefused("a message of the wrong length")
    try:
        header = from_canonical(data[start : start + size], what="a message's header")
    except NotAuthentic as error:
        raise ProtocolRefused(error.message) from None
    if not isinstance(header, dict):
        raise ProtocolRefused("a message's header is not an object")
    return header, data[start + size :]


def _label(kind: type[_AnyLabel], header: dict[str, Any]) -> _AnyLabel:
    try:
        return kind.parse(header, what="a message's header")
    except WrongInput as error:
        raise ProtocolRefused(error.message) from None
