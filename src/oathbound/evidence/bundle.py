"""The file that is given to others: a zip archive with exactly one form for its content.

Entries are stored, sorted by name, dated 1980-01-01, with the attributes of a plain file, and without extra
fields, comments or data descriptors. Reading walks the entries, builds the archive again and compares the
bytes, so nothing can hide in it. Any unzip program opens it. The format is PKWARE's APPNOTE 6.3; the page is
`spec/bundle.md`.
"""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zlib import crc32

from oathbound.core.errors import NotAuthentic, NothingExamined, WrongInput

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_ENTRIES: Final = 20_000

_NAME: Final = re.compile(r"(?=.{1,200}\Z)[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_VERSION: Final = 20
_MADE_ON_UNIX: Final = 3 << 8
_STORED: Final = 0
_MIDNIGHT: Final = 0
_FIRST_DAY: Final = 1 << 5 | 1
"""1980-01-01, the first date that a zip archive can hold."""
_PLAIN_FILE: Final = 0o100644 << 16


def pack(entries: Mapping[str, bytes]) -> bytes:
    """Return the archive of the entries, content by name.

    Raises `NothingExamined` when there are none, `WrongInput` when names or sizes are outside the limits.
    """
    if not entries:
        raise NothingExamined("a bundle without entries proves nothing")
    if len(entries) > MAX_ENTRIES or not all(map(_NAME.fullmatch, entries)):
        raise WrongInput(f"a bundle holds at most {MAX_ENTRIES} entries, named like logs/site-a/leaves.json")
    if _size(entries) > MAX_BYTES:
        raise WrongInput(f"a bundle is larger than {MAX_BYTES} bytes")
    return _archive(entries)


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the entries, or raise `NotAuthentic` unless `data` is exactly what `pack` makes of them."""
    if len(data) > MAX_BYTES:
        raise NotAuthentic(f"the bundle is larger than {MAX_BYTES} bytes")
    entries, sums = _entries(data)
    if not entries or not all(map(_NAME.fullmatch, entries)) or _archive(entries) != data:
        if damaged := next((name for name in entries if crc32(entries[name]) != sums[name]), ""):
            raise NotAuthentic(f"the entry {damaged!r} of the bundle was changed: its checksum does not hold")
        raise NotAuthentic("the bundle is not in the one form that oathbound writes: changed, or cut short")
    return entries


def read_bundle(path: Path) -> bytes:
    """Return the bytes of a bundle's file, at most one too many; `WrongInput` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise WrongInput(f"the bundle {path} cannot be read: {error.strerror}") from None


def _size(entries: Mapping[str, bytes]) -> int:
    headers = sum(_LOCAL.size + _CENTRAL.size + 2 * len(name) for name in entries)
    return headers + sum(map(len, entries.values())) + _END.size


def _archive(entries: Mapping[str, bytes]) -> bytes:
    """Return the archive: each entry after its local header, then the central directory, then its end."""
    local, central, offset = [], [], 0
    for name, data in sorted(entries.items()):
        raw = name.encode("ascii")
        common = (_VERSION, 0, _STORED, _MIDNIGHT, _FIRST_DAY, crc32(data), len(data), len(data), len(raw), 0)
        made_by = _MADE_ON_UNIX | _VERSION
        header = _LOCAL.pack(b"PK\x03\x04", *common) + raw
        central.append(_CENTRAL.pack(b"PK\x01\x02", made_by, *common, 0, 0, 0, _PLAIN_FILE, offset) + raw)
        local += [header, data]
        offset += len(header) + len(data)
    directory = b"".join(central)
    count = len(entries)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)
    return b"".join((*local, directory, end))


def _entries(data: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the content and the checksum of each entry, as the local headers say, unverified.

    There are none if a name stands twice, or if there are too many.
    """
    entries: dict[str, bytes] = {}
    sums: dict[str, int] = {}
    start = 0
    while data.startswith(b"PK\x03\x04", start) and len(data) - start >= _LOCAL.size:
        *_, checksum, _, size, name_size, _ = _LOCAL.unpack_from(data, start)
        name_start = start + _LOCAL.size
        content = name_start + name_size
        name = data[name_start:content].decode("ascii", "replace")
        start = content + size
        if name in entries or len(entries) == MAX_ENTRIES:
            return {}, {}
        entries[name], sums[name] = data[content:start], checksum
    return entries, sums
