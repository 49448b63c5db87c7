"""The step message of training, as bytes: `spec/training.md`. The secure sum's are framed in the same way.

A message has one encoding; anything else is refused. A message is a magic line, the header's length (32 bits,
little-endian), the header as canonical JSON, and a payload whose length the receiver knows, or bounds.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.errors import NotAuthentic, ProtocolRefused, WrongInput
from oathbound.core.record import Digest, Record

STEP_MAGIC: Final = b"oathbound/step/v1\n"
MOST_ANNOUNCEMENT_BYTES: Final = 16_384
"""Of the secure sum's announcement in a step message: two headers and 50 signatures fit."""

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


@dataclass(frozen=True, slots=True)
class Step:
    """From the coordinator to each site: compute your share at these weights (float32 [d])."""

    label: Label
    weights: NDArray[np.float32]

    def encode(self, announcement: bytes) -> bytes:
        """Return the message, with the announcement of the secure sum that the share goes into."""
        return frame(STEP_MAGIC, self.label.plain(), weight_bytes(self.weights) + announcement)

    @classmethod
    def decode(cls, data: bytes, dimension: int) -> tuple[Self, bytes]:
        """Return the step in `data`, with the weights that its label names, and the announcement.

        Raises `ProtocolRefused`. The announcement is as it came: the secure sum's client reads it.
        """
        weight_end = _WORD * dimension
        header, payload = unframe(STEP_MAGIC, data, weight_end, more=MOST_ANNOUNCEMENT_BYTES)
        try:
            label = Label.parse(header, what="a message's header")
        except WrongInput as error:
            raise ProtocolRefused(error.message) from None
        if digest(payload[:weight_end]) != label.model:
            raise ProtocolRefused("a step's weights are not the ones that it names")
        weights = np.frombuffer(payload, dtype="<f4", count=dimension).astype(np.float32)
        return cls(label, weights), payload[weight_end:]


def weight_bytes(weights: NDArray[np.float32]) -> bytes:
    """Return the bytes of weights that messages carry and that `model` digests."""
    return weights.astype("<f4").tobytes()


def frame(magic: bytes, header: dict[str, Any], payload: bytes) -> bytes:
    """Return `magic`, the length of the canonical header, the header, and the payload."""
    text = canonical(header)
    return b"".join((magic, len(text).to_bytes(_LENGTH, "little"), text, payload))


def unframe(magic: bytes, data: bytes, payload_bytes: int, *, more: int = 0) -> tuple[dict[str, Any], bytes]:
    """Return header and payload of what `frame` made, or raise `ProtocolRefused`.

    The payload has `payload_bytes`, and at most so many `more`.
    """
    start = len(magic) + _LENGTH
    if len(data) < start or not data.startswith(magic):
        raise ProtocolRefused(f"not a message of the kind {magic.decode().strip()}")
    size = int.from_bytes(data[len(magic) : start], "little")
    if size > _MAX_HEADER or not payload_bytes <= len(data) - start - size <= payload_bytes + more:
        raise ProtocolRefused("a message of the wrong length")
    try:
        header = from_canonical(data[start : start + size], what="a message's header")
    except NotAuthentic as error:
        raise ProtocolRefused(error.message) from None
    if not isinstance(header, dict):
        raise ProtocolRefused("a message's header is not an object")
    return header, data[start + size :]
