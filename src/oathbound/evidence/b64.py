"""Base64 with one text for one byte string (RFC 4648, section 4, and its section 3.5)."""

import base64


def encode(data: bytes) -> str:
    """Return the padded standard base64 of `data`."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that encode to exactly `text`; `ValueError` when there are none."""
    data = base64.b64decode(text, validate=True)
    if encode(data) != text:
        raise ValueError("not canonical base64")
    return data
