"""Cut the power at every moment of every durable write: what is left is the old or the new, and whole."""

import os
from pathlib import Path

import pytest

from oathbound.core.errors import NotAuthentic
from oathbound.evidence import merkle
from oathbound.evidence.keys import Secret
from oathbound.evidence.log import Log
from oathbound.evidence.note import cosign, decode, sign_checkpoint
from oathbound.workflow.folders import write_file

ORIGIN = "oathbound.invalid/study/north"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def test_a_file_in_a_new_folder_is_there_whole_or_not_at_all(power_cuts, disk: Path, tmp_path: Path):
    def check(left: Path, *, ended: bool) -> None:
        file = left / "run" / "deep" / "snapshot"
        assert (file.read_bytes() == b"new" * 1000) if ended or file.exists() else True
        write_file(file, b"again")
        assert file.read_bytes() == b"again"

    file = disk / "run" / "deep" / "snapshot"
    assert power_cuts(disk, lambda: write_file(file, b"new" * 1000), check, tmp_path / "left") >= 8


def test_a_file_that_is_replaced_is_the_old_or_the_new(power_cuts, disk: Path, tmp_path: Path):
    seen: set[bytes] = set()

    def check(left: Path, *, ended: bool) -> None:
        data = (left / "file").read_bytes()
        seen.add(data)
        assert data in ({b"new" * 1000} if ended else {b"old", b"new" * 1000})

    (disk / "file").write_bytes(b"old")
    power_cuts(disk, lambda: write_file(disk / "file", b"new" * 1000), check, tmp_path / "left")
    assert len(seen) == 2, "the power was cut on both sides of the rename"


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_log_keeps_what_it_said_it_has(power_cuts, disk: Path, tmp_path: Path, before: int):
    """Two leaves and two checkpoints later the log is one of those it was, in order, and goes on."""
    north, east = Secret.generate("north"), Secret.generate("east")
    history: list[tuple[int, bytes | None]] = []

    def remember(log: Log) -> None:
        history.append((log.size, log.checkpoint()))

    def write() -> None:
        with Log.open(disk / "a" / "log", ORIGIN) as log:
            remember(log)
            for leaf in (b"x" * 700, b"y" * 700):
                log.append(leaf)
                remember(log)
            note = sign_checkpoint(ORIGIN, log.size, log.root(), north)
            log.write_checkpoint(note)
            remember(log)
            log.write_checkpoint(cosign(note, east, 1_800_000_000))
            remember(log)

    def check(left: Path, *, ended: bool) -> None:
        with Log.open(left / "a" / "log", ORIGIN) as log:
            now = (log.size, log.checkpoint())
            assert now in history
            assert now == history[-1] or not ended
            if now[1] is not None:
                assert (left / "a" / "log" / "checkpoint").read_bytes() == now[1]
                assert decode(now[1])[0].root == log.root()
            log.append(b"next")
            log.write_checkpoint(sign_checkpoint(ORIGIN, log.size, log.root(), north))
            assert log.root() == merkle.root(log.leaf_hashes())

    if before:
        with Log.open(disk / "a" / "log", ORIGIN) as log:
            for number in range(before):
                log.append(b"%d" % number)
    assert power_cuts(disk, write, check, tmp_path / "left") > 50


def test_a_model_is_there_whole_or_not_at_all(power_cuts, disk: Path, tmp_path: Path):
    pytest.importorskip("torch", reason="models are an extra")
    from oathbound.core.shape import EventTransformer, Vocabulary  # noqa: PLC0415 - after the check above
    from oathbound.models.family import encoder_of  # noqa: PLC0415 - after the check above
    from oathbound.models.folder import read_model, write_model  # noqa: PLC0415 - after the check above
    from oathbound.models.transformer import build  # noqa: PLC0415 - after the check above

    digests = []

    def check(left: Path, *, ended: bool) -> None:
        folder = left / "study" / "model"
        if ended or folder.exists():
            assert read_model(folder).digest == digests[0]
        else:
            write_model(folder, model, vocabulary)

    def write() -> None:
        digests.append(write_model(disk / "study" / "model", model, vocabulary))

    vocabulary = Vocabulary.parse(
        {"codes": ["a", "b"], "edges": {}, "ages": [], "gaps": []}, what="vocabulary"
    )
    shape = EventTransformer(name="event-transformer", layers=1, width=8, heads=1, length=8, seed=1)
    model = build(shape, encoder_of(shape, vocabulary).size)
    assert power_cuts(disk, write, check, tmp_path / "left") >= 8


def without_fsync(path: Path) -> None:
    path.with_name("unfinished").write_bytes(b"new" * 1000)
    path.with_name("unfinished").replace(path)


def without_the_folder(path: Path) -> None:
    with path.with_name("unfinished").open("wb") as file:
        file.write(b"new" * 1000)
        file.flush()
        os.fsync(file.fileno())
    path.with_name("unfinished").replace(path)


def in_place(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"new" * 1000)
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("careless", [without_fsync, without_the_folder, in_place])
def test_the_disk_tells_careless_writers(power_cuts, disk: Path, tmp_path: Path, careless):
    """The test of the test: each of the three loses something."""

    def check(left: Path, *, ended: bool) -> None:
        data = (left / "file").read_bytes()
        if data not in ({b"new" * 1000} if ended else {b"old", b"new" * 1000}):
            raise NotAuthentic("neither old nor new")

    (disk / "file").write_bytes(b"old")
    with pytest.raises(NotAuthentic, match="neither"):
        power_cuts(disk, lambda: careless(disk / "file"), check, tmp_path / "left")
