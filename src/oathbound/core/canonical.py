"""One byte string for one value: RFC 8785 canonical JSON, without floats."""

import hashlib
import json
from typing import Any

import rfc8785

from oathbound.core.errors import NotAuthentic

MAX_JSON_BYTES = 8 * 1024 * 1024


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 form of `value`. Floats raise `TypeError`: exact numbers are decimal text."""
    _refuse_floats(value)
    return rfc8785.dumps(value)


def from_canonical(data: bytes, *, what: str) -> Any:
    """Return the value in `data`, or raise `NotAuthentic` unless `data` is exactly its canonical form."""
    if len(data) > MAX_JSON_BYTES:
        raise NotAuthentic(f"{what} is larger than {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(data)
        if canonical(value) == data:
            return value
    except (ValueError, TypeError, RecursionError, rfc8785.CanonicalizationError):
        pass
    raise NotAuthentic(f"{what} is not canonical JSON (RFC 8785, no floats)")


def digest(data: bytes) -> str:
    """Return `sha256:` and the hexadecimal SHA-256 of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Return the digest of the canonical form of `value`."""
    return digest(canonical(value))


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a float cannot be signed; write it as decimal text")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_floats(item)
