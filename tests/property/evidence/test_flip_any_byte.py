"""Every byte of a bundle counts: whichever is changed, `verify` refuses, and never with a traceback.

Of the archive's own structure every byte is tried; of the files in it, which one checksum guards, one in 11.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.core.exits import Exit
from oathbound.evidence import envelope, keys, note
from oathbound.evidence.bundle import pack, unpack
from oathbound.evidence.contents import BundledLog, Contents
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

LATER = NOW + 3600


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    return Consortium.finished()


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check each pair of signature and message once: the bundles below differ in one byte each."""
    real = keys.verify

    @cache
    def holds(raw: bytes, kind: type, signature: bytes, message: bytes) -> bool:
        try:
            real(known[raw, kind], signature, message, what="it")
        except NotAuthentic:
            return False
        return True

    known: dict[tuple[bytes, type], object] = {}

    def verify_once(key, signature: bytes, message: bytes, *, what: str) -> None:
        raw = key.public_bytes_raw()
        known[raw, type(key)] = key
        if not holds(raw, type(key), signature, message):
            raise NotAuthentic(what)

    monkeypatch.setattr(envelope, "verify", verify_once)
    monkeypatch.setattr(note, "verify", verify_once)


def test_the_intact_bundle_exits_as_it_should(consortium: Consortium):
    assert verify(consortium.bundle(), consortium.trust(), at=LATER).judgement.verdict.exit is Exit.DONE


@pytest.mark.slow
def test_flipping_any_byte_of_the_file_is_refused(consortium: Consortium):
    intact_bundle, trust = consortium.bundle(), consortium.trust()
    data, flips = bytearray(intact_bundle), random.Random(1)
    alike: set[int] = set()
    for content in unpack(intact_bundle).values():
        start = intact_bundle.index(content)
        alike.update(index for index in range(start, start + len(content)) if index % 11)
    assert len(alike) < len(data) - 20_000
    for index in sorted(set(range(len(data))) - alike):
        intact = data[index]
        data[index] = intact ^ flips.randrange(1, 256)
        with pytest.raises((NotAuthentic, NotAcceptable)):
            verify(bytes(data), trust, at=LATER)
        data[index] = intact


def inside(contents: Contents, flips: random.Random) -> Iterator[tuple[str, Contents]]:
    """Yield bundles with one changed byte inside, packed again as by a forger: no checksum helps."""
    for index in range(0, len(contents.policy), 5):
        yield f"policy byte {index}", replace(contents, policy=flipped(contents.policy, index, flips))
    for name, data in contents.parties.items():
        for index in range(flips.randrange(499), len(data), 499):
            yield (
                f"{name} byte {index}",
                replace(contents, parties={**contents.parties, name: flipped(data, index, flips)}),
            )
    for name, log in contents.logs.items():
        for place, leaf in enumerate(log.leaves):
            for index in range(flips.randrange(499), len(leaf), 499):
                leaves = [*log.leaves]
                leaves[place] = flipped(leaf, index, flips)
                yield (
                    f"{name} leaf {place} byte {index}",
                    with_log(contents, name, replace(log, leaves=tuple(leaves))),
                )
        for place, signed in enumerate(log.checkpoints):
            for index in range(flips.randrange(499), len(signed), 499):
                notes = [*log.checkpoints]
                notes[place] = flipped(signed, index, flips)
                yield (
                    f"{name} note {place} byte {index}",
                    with_log(contents, name, replace(log, checkpoints=tuple(notes))),
                )


def with_log(contents: Contents, name: str, log: BundledLog) -> Contents:
    return replace(contents, logs={**contents.logs, name: log})


def flipped(data: bytes, index: int, flips: random.Random) -> bytes:
    changed = bytearray(data)
    changed[index] ^= flips.randrange(1, 256)
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.usefixtures("remembered")
def test_changing_a_byte_inside_and_packing_again_is_refused(consortium: Consortium):
    contents, trust = Contents.of(unpack(consortium.bundle())), consortium.trust()
    for what, changed in inside(contents, random.Random(2)):
        with pytest.raises((NotAuthentic, NotAcceptable)):
            pytest.fail(f"{what}: {verify(pack(changed.files()), trust, at=LATER).judgement.sentence}")


def test_a_checksum_alone_does_not_protect_a_bundle(consortium: Consortium):
    """The archive's CRC-32 is mended here, so that what refuses is a signature or a digest."""
    data = bytearray(consortium.bundle())
    files = unpack(bytes(data))
    name = next(name for name in files if name.startswith("leaves/"))
    content = files[name]
    start = bytes(data).index(content)
    old, changed = zlib.crc32(content), flipped(content, len(content) // 2, random.Random(3))
    data[start : start + len(content)] = changed
    mended = bytes(data).replace(old.to_bytes(4, "little"), zlib.crc32(changed).to_bytes(4, "little"))
    assert unpack(mended)[name] == changed
    with pytest.raises(NotAuthentic):
        verify(mended, consortium.trust(), at=LATER)
