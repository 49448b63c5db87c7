import io
import zipfile
import zlib

import pytest

from oathbound.core.errors import NotAuthentic, NothingExamined, WrongInput
from oathbound.evidence import bundle
from oathbound.evidence.bundle import MAX_BYTES, MAX_ENTRIES, pack, read_bundle, unpack

ENTRIES = {"parties/a.json": b"{}", "logs/a/leaves.json": b"[]" * 100, "logs/a/checkpoint-1": b""}


def zipped(entries, *, compression=zipfile.ZIP_STORED, date=(1980, 1, 1, 0, 0, 0), **attributes):
    """Return what Python's zipfile writes when it is asked for our form, or for something close to it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, date)
            info.compress_type, info.external_attr = compression, 0o100644 << 16
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, data)
    return buffer.getvalue()


def test_a_bundle_unpacks_to_what_was_packed_whatever_the_order():
    assert unpack(pack(ENTRIES)) == ENTRIES
    assert pack(dict(reversed(ENTRIES.items()))) == pack(ENTRIES)


def test_a_bundle_is_the_zip_archive_that_others_write_and_read():
    data = pack(ENTRIES)
    assert data == zipped(sorted(ENTRIES.items()))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == ENTRIES


def test_every_changed_bit_is_refused():
    data = pack(ENTRIES)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(NotAuthentic):
                unpack(bytes(changed))


def test_every_cut_and_every_addition_is_refused():
    data = pack(ENTRIES)
    for size in range(len(data)):
        with pytest.raises(NotAuthentic):
            unpack(data[:size])
    for other in (data + b"\0", b"\0" + data, data + data, data[:100] + b"\0" + data[100:]):
        with pytest.raises(NotAuthentic):
            unpack(other)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_zip_archives_of_the_same_entries_are_refused():
    entries = sorted(ENTRIES.items())
    assert unpack(zipped(entries)) == ENTRIES
    for data in (
        zipped(entries[::-1]),
        zipped(entries + entries[:1]),
        zipped(entries, compression=zipfile.ZIP_DEFLATED),
        zipped(entries, date=(2020, 1, 1, 0, 0, 0)),
        zipped(entries, comment=b"x"),
        zipped(entries, extra=b"\x01\x00\x00\x00"),
        zipped(entries, create_system=0),
        zipped(entries, external_attr=0o120777 << 16),
        zipped([]),
    ):
        with pytest.raises(NotAuthentic):
            unpack(data)


def test_damage_is_told_from_another_form():
    data = pack(ENTRIES)
    with pytest.raises(NotAuthentic, match=r"'logs/a/leaves\.json' of the bundle was changed"):
        unpack(data.replace(b"[][]", b"[]{}", 1))
    for other in (data + b"\0", data[:-1], data.replace(b"\x21\x00", b"\x22\x00"), b""):
        with pytest.raises(NotAuthentic, match="not in the one form"):
            unpack(other)


BAD_NAMES = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    ".a",
    "A",
    "a b",
    "a\\b",
    "é",
    "a\n",
    "a" * 201,
    "con:",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_outside_the_pattern_are_refused(name):
    with pytest.raises(WrongInput):
        pack({name: b""})
    if name.isascii():
        with pytest.raises(NotAuthentic):
            unpack(bundle._archive({name: b""}))


def test_limits(monkeypatch):
    with pytest.raises(NothingExamined):
        pack({})
    with pytest.raises(NotAuthentic, match="larger"):
        unpack(bytes(MAX_BYTES + 1))
    many = {f"e{number}": b"" for number in range(MAX_ENTRIES + 1)}
    with pytest.raises(WrongInput):
        pack(many)
    with pytest.raises(NotAuthentic):
        unpack(bundle._archive(many))
    full = dict(list(many.items())[:MAX_ENTRIES])
    assert unpack(pack(full)) == full
    monkeypatch.setattr(bundle, "MAX_BYTES", len(pack(ENTRIES)))
    assert unpack(pack(ENTRIES)) == ENTRIES
    monkeypatch.setattr(bundle, "MAX_BYTES", len(pack(ENTRIES)) - 1)
    with pytest.raises(WrongInput, match="larger"):
        pack(ENTRIES)


def test_a_bomb_is_not_inflated():
    """Sizes in headers are never allocated, and compressed content is never inflated."""
    bomb = zipped([("a", bytes(10_000_000))], compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    with pytest.raises(NotAuthentic):
        unpack(bomb)
    claimed = bytearray(pack({"a": b"x"}))
    claimed[18:26] = b"\xff" * 8
    with pytest.raises(NotAuthentic):
        unpack(bytes(claimed))
    header = bundle._LOCAL.pack(b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(b""), 0, 0, 0, 0)
    with pytest.raises(NotAuthentic):
        unpack(header * (MAX_BYTES // len(header)))


def test_reading_a_file(tmp_path):
    path = tmp_path / "study.oath"
    for place in (path, tmp_path):
        with pytest.raises(WrongInput, match="cannot be read"):
            read_bundle(place)
    path.write_bytes(b"")
    with pytest.raises(NotAuthentic):
        unpack(read_bundle(path))
    path.write_bytes(pack(ENTRIES))
    assert unpack(read_bundle(path)) == ENTRIES
