import os

import pytest

from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.evidence import log as log_module
from oathbound.evidence import merkle
from oathbound.evidence.log import Log
from oathbound.evidence.note import cosign, sign_checkpoint

ORIGIN = "oathbound/study/hospital-a"


@pytest.fixture
def unsynchronised(monkeypatch):
    """Spare hundreds of waits for the disk where durability is not what is tested."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def checkpoint(log, secret, size=None):
    hashes = log.leaf_hashes()[:size]
    return sign_checkpoint(ORIGIN, len(hashes), merkle.root(hashes), secret)


def test_a_log_is_what_was_appended_also_when_opened_again(tmp_path):
    with Log.open(tmp_path / "log", ORIGIN) as log:
        assert (log.size, log.leaves(), log.checkpoint(), log.checkpoints()) == (0, (), None, ())
        assert [log.append(leaf) for leaf in (b"a", b"b", b"c")] == [0, 1, 2]
        assert log.root() == merkle.root([merkle.leaf_hash(leaf) for leaf in (b"a", b"b", b"c")])
        before = log.root()
    with Log.open(tmp_path / "log", ORIGIN) as log:
        assert (log.leaves(), log.root(), log.size) == ((b"a", b"b", b"c"), before, 3)
        assert log.append(b"d") == 3


def test_appending_a_leaf_again_returns_its_index(tmp_path):
    with Log.open(tmp_path, ORIGIN) as log:
        assert [log.append(leaf) for leaf in (b"a", b"b", b"a")] == [0, 1, 0]
    with Log.open(tmp_path, ORIGIN) as log:
        assert (log.append(b"b"), log.size) == (1, 2)


def test_leaves_are_one_to_65535_bytes(tmp_path):
    with Log.open(tmp_path, ORIGIN) as log:
        for leaf in (b"", bytes(65_536)):
            with pytest.raises(WrongInput):
                log.append(leaf)
        log.append(bytes(65_535))
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.leaves() == (bytes(65_535),)


def test_one_writer_at_a_time(tmp_path):
    with Log.open(tmp_path, ORIGIN), pytest.raises(Unavailable, match="in use"):
        Log.open(tmp_path, ORIGIN)
    Log.open(tmp_path, ORIGIN).close()


@pytest.mark.usefixtures("unsynchronised")
def test_leaves_are_read_while_somebody_writes(tmp_path):
    leaves = [b"%d" % number for number in range(300)]
    assert Log.read(tmp_path / "log") == []
    with Log.open(tmp_path / "log", ORIGIN) as log:
        for leaf in leaves:
            log.append(leaf)
        assert Log.read(tmp_path / "log") == leaves
        log.append(b"more")


def test_a_file_that_is_replaced_while_it_is_read_is_looked_for_again(tmp_path, monkeypatch):
    with Log.open(tmp_path / "log", ORIGIN) as log:
        log.append(b"a")
    reads, times = log_module._read, iter([True])

    def read(path):
        if next(times, False):
            with Log.open(tmp_path / "log", ORIGIN) as log:
                log.append(b"b")
        return reads(path)

    monkeypatch.setattr(log_module, "_read", read)
    assert Log.read(tmp_path / "log") == [b"a", b"b"]


def test_checkpoints_are_kept_and_cosigned_ones_replace_bare_ones(tmp_path, hospital, other):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        first = checkpoint(log, hospital)
        log.write_checkpoint(first)
        assert log.checkpoint() == first
        log.append(b"b")
        log.append(b"c")
        second = checkpoint(log, hospital, 2)
        log.write_checkpoint(second)
        cosigned = cosign(second, other, 1_790_000_000)
        log.write_checkpoint(cosigned)
        assert log.checkpoints() == (first, cosigned)
        assert (tmp_path / "checkpoint").read_bytes() == cosigned
        with pytest.raises(NotAuthentic, match="older"):
            log.write_checkpoint(first)
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.checkpoints() == (first, cosigned)
        assert log.checkpoint() == cosigned
        with pytest.raises(NotAuthentic, match="older"):
            log.write_checkpoint(first)


def test_a_checkpoint_of_other_leaves_or_another_log_is_refused(tmp_path, hospital):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        for note in (
            sign_checkpoint(ORIGIN, 1, bytes(32), hospital),
            sign_checkpoint(ORIGIN, 2, log.root(), hospital),
            sign_checkpoint(ORIGIN + "2", 1, log.root(), hospital),
            b"",
        ):
            with pytest.raises(NotAuthentic):
                log.write_checkpoint(note)
        assert log.checkpoint() is None


@pytest.mark.usefixtures("unsynchronised")
def test_the_tiles_are_those_of_the_specification(tmp_path, hospital):
    """A reader that knows only tlog-tiles finds leaves and root of a log of 600 leaves."""
    with Log.open(tmp_path, ORIGIN) as log:
        for number in range(600):
            log.append(b"leaf %d" % number)
        log.write_checkpoint(checkpoint(log, hospital))
        expected, leaves = log.root(), log.leaves()
    tile = tmp_path / "tile"
    level0 = b"".join((tile / "0" / name).read_bytes() for name in ("000", "001", "002.p/88"))
    hashes = [level0[start : start + 32] for start in range(0, len(level0), 32)]
    assert merkle.root(hashes) == expected
    level1 = (tile / "1" / "000.p" / "2").read_bytes()
    assert level1 == merkle.root(hashes[:256]) + merkle.root(hashes[256:512])
    assert merkle.node_hash(merkle.node_hash(level1[:32], level1[32:]), merkle.root(hashes[512:])) == expected
    bundle = b"".join((tile / "entries" / name).read_bytes() for name in ("000", "001", "002.p/88"))
    assert bundle == b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves)
    with Log.open(tmp_path, ORIGIN) as log:
        assert (log.root(), log.size) == (expected, 600)


def test_tiles_of_a_checkpoint_stay_when_the_log_grows(tmp_path, hospital):
    with Log.open(tmp_path, ORIGIN) as log:
        for number in range(6):
            log.append(b"%d" % number)
            if number == 2:
                log.write_checkpoint(checkpoint(log, hospital))
    assert {file.name for file in (tmp_path / "tile" / "entries" / "000.p").iterdir()} == {"3", "6"}


def test_numbers_of_tiles_above_999(tmp_path):
    with Log.open(tmp_path, ORIGIN) as log:
        assert log._tile("0", 1_234_067, 256) == tmp_path / "tile" / "0" / "x001" / "x234" / "067"
        assert log._tile("0", 0, 5) == tmp_path / "tile" / "0" / "000.p" / "5"


@pytest.mark.usefixtures("unsynchronised")
@pytest.mark.parametrize("leaves", [1, 3, 256])
@pytest.mark.parametrize("stop", ["fsync", "replace"])
def test_a_crash_in_an_append_leaves_the_old_log(tmp_path, monkeypatch, leaves, stop):
    with Log.open(tmp_path, ORIGIN) as log:
        for number in range(leaves):
            log.append(b"%d" % number)
        before = log.leaves()

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.replace" if stop == "replace" else "os.fsync", fail)
        monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # a crash cleans nothing up
        with pytest.raises(Unavailable, match="No space"):
            log.append(b"lost")
        assert log.leaves() == before
        monkeypatch.undo()
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.leaves() == before
        assert log.append(b"next") == leaves


def test_a_crash_between_rename_and_tidying_leaves_the_new_log(tmp_path, monkeypatch):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        log.append(b"b")
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.leaves() == (b"a", b"b")


def test_a_crash_between_the_two_copies_of_a_checkpoint_keeps_the_new_one(tmp_path, hospital):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        log.write_checkpoint(checkpoint(log, hospital))
        old = (tmp_path / "checkpoint").read_bytes()
        log.append(b"b")
        new = checkpoint(log, hospital)
        log.write_checkpoint(new)
    (tmp_path / "checkpoint").write_bytes(old)
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.checkpoint() == new


def test_a_crash_in_writing_a_checkpoint_keeps_the_one_before(tmp_path, hospital, monkeypatch):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        kept = checkpoint(log, hospital)
        log.write_checkpoint(kept)
        log.append(b"b")

        def fail(file, target):
            if target.parent.name == "checkpoints":
                raise OSError(28, "No space left on device")
            file.rename(target)

        monkeypatch.setattr("pathlib.Path.replace", fail)
        monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # a crash cleans nothing up
        with pytest.raises(Unavailable, match="No space"):
            log.write_checkpoint(checkpoint(log, hospital))
        monkeypatch.undo()
    with Log.open(tmp_path, ORIGIN) as log:
        assert log.checkpoints() == (kept,)


def test_leaves_are_synchronised_before_they_are_renamed(tmp_path, monkeypatch):
    steps = []
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        fsync, replace = os.fsync, type(tmp_path).replace
        monkeypatch.setattr("os.fsync", lambda file: (steps.append("fsync"), fsync(file)))
        monkeypatch.setattr(
            "pathlib.Path.replace", lambda path, target: (steps.append("rename"), replace(path, target))
        )
        log.append(b"b")
    assert steps == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "twice", "empty", "rename"])
def test_damaged_leaves_are_refused(tmp_path, hospital, damage):
    with Log.open(tmp_path, ORIGIN) as log:
        for leaf in (b"aaaa", b"bbbb", b"cccc"):
            log.append(leaf)
        log.write_checkpoint(checkpoint(log, hospital))
    file = tmp_path / "tile" / "entries" / "000.p" / "3"
    data = file.read_bytes()
    if damage == "remove":
        file.unlink()
    elif damage == "rename":
        file.rename(file.with_name("4"))
    else:
        file.write_bytes(
            {"flip": data.replace(b"b", b"x", 1), "cut": data[:-1], "twice": data[:6] * 3, "empty": b""}[
                damage
            ]
        )
    with pytest.raises(NotAuthentic):
        Log.open(tmp_path, ORIGIN)
    file.with_name("4").unlink(missing_ok=True)
    file.write_bytes(data)
    Log.open(tmp_path, ORIGIN).close()  # and the refusal let go of the lock


def test_damage_is_seen_also_without_a_checkpoint(tmp_path):
    with Log.open(tmp_path, ORIGIN) as log:
        for leaf in (b"aaaa", b"bbbb", b"cccc"):
            log.append(leaf)
    file = tmp_path / "tile" / "entries" / "000.p" / "3"
    data = file.read_bytes()
    for damaged in (b"", data[:-1], data[:-5], data[:6], data + b"\0", data + data[:6], data[:6] * 3):
        file.write_bytes(damaged)
        with pytest.raises(NotAuthentic):
            Log.open(tmp_path, ORIGIN)


@pytest.mark.usefixtures("unsynchronised")
def test_leaves_after_an_unfinished_file_are_refused(tmp_path):
    with Log.open(tmp_path, ORIGIN) as log:
        for number in range(257):
            log.append(b"%d" % number)
    entries = tmp_path / "tile" / "entries"
    (entries / "000.p").mkdir(exist_ok=True)
    (entries / "000.p" / "1").write_bytes((entries / "000").read_bytes()[:3])
    (entries / "000").unlink()
    with pytest.raises(NotAuthentic, match="unfinished"):
        Log.open(tmp_path, ORIGIN)


def test_another_origin_is_refused(tmp_path, hospital):
    with Log.open(tmp_path, ORIGIN) as log:
        log.append(b"a")
        log.write_checkpoint(checkpoint(log, hospital))
    with pytest.raises(NotAuthentic, match="is not of"):
        Log.open(tmp_path, ORIGIN + "2")


def test_a_place_that_cannot_hold_a_log_is_unavailable(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        Log.open(tmp_path / "file", ORIGIN)
