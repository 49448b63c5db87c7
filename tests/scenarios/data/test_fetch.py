"""A data set goes to a folder of its own: once, whole, by one process at a time, through kills."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from oathbound.core.errors import NotAuthentic, OathboundError, Unavailable, WrongInput
from oathbound.data.recipes import Recipe
from oathbound.workflow.fetch import fetch, recipe_of
from oathbound.workflow.watch import unwatched

BIG = random.Random(2).randbytes(400_000)

CHILD = """
import sys
from pathlib import Path
from oathbound.data.recipes import Published, Recipe
from oathbound.workflow.fetch import fetch
from oathbound.workflow.watch import unwatched
address, folder, path, size, sha256 = sys.argv[1:]
files = (Published(path, int(size), sha256),)
recipe = Recipe("set", "1", "A set", 1, 1, address, files, "none", "none", (), "none")
fetch(recipe, Path(folder), watch=unwatched)
"""


@pytest.fixture
def recipe(server) -> Recipe:
    return Recipe(
        name="set",
        version="1",
        title="A set",
        people=1,
        sites=1,
        address=server.address,
        files=(server.publish("data/0.bin", b"zero" * 1000), server.publish("1.bin", b"one")),
        licence="none",
        terms="none",
        cite=("Somebody, 2026",),
        changes="none",
    )


def converted(recipe: Recipe, convert: Callable[[Path, Path], None]) -> Recipe:
    return replace(recipe, convert=convert, parts=("north", "south"))


def copy_by_part(tables: Path, into: Path) -> None:
    for part in ("north", "south"):
        (into / part).mkdir(parents=True)
        (into / part / "x").write_bytes((tables / "1.bin").read_bytes())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_with_its_notice_and_twice_nothing(server, paused, recipe: Recipe, tmp_path: Path):
    told: list[tuple[int, int]] = []
    fetched = fetch(
        recipe,
        tmp_path / "new" / "set",
        watch=lambda done, total, _="": told.append((done, total)),
        network=paused.network(),
    )
    assert fetched.downloaded == 2
    assert fetched.records == (tmp_path / "new" / "set" / "meds",)
    assert told == sorted(told)
    assert told[-1] == (4003, 4003)
    before = tree(tmp_path)
    assert before["new/set/meds/data/0.bin"] == b"zero" * 1000
    assert before["new/set/meds/1.bin"] == b"one"
    notice = before["new/set/SOURCE.md"].decode()
    for said in (recipe.licence, recipe.address, recipe.version, *recipe.cite):
        assert said in notice
    asked = len(server.asked)
    again = fetch(recipe, tmp_path / "new" / "set", watch=unwatched, network=paused.network())
    assert again.downloaded == 0
    assert tree(tmp_path) == before
    assert len(server.asked) == asked


def test_records_are_made_once_and_whole(paused, recipe: Recipe, tmp_path: Path):
    made: list[Path] = []

    def stops(tables: Path, into: Path) -> None:
        copy_by_part(tables, into)
        raise KeyboardInterrupt

    def makes(tables: Path, into: Path) -> None:
        made.append(into)
        copy_by_part(tables, into)

    with pytest.raises(KeyboardInterrupt):
        fetch(converted(recipe, stops), tmp_path / "set", watch=unwatched, network=paused.network())
    assert not (tmp_path / "set" / "meds").exists()
    for _ in range(2):
        fetched = fetch(converted(recipe, makes), tmp_path / "set", watch=unwatched, network=paused.network())
    assert len(made) == 1
    assert [records.name for records in fetched.records] == ["north", "south"]
    assert set(tree(tmp_path / "set")) == {
        ".lock",
        "SOURCE.md",
        "original/1.bin",
        "original/data/0.bin",
        "meds/north/x",
        "meds/south/x",
    }


def test_no_record_is_made_of_a_file_that_is_not_the_published_one(
    server, paused, recipe: Recipe, tmp_path: Path
):
    server.files["/1.bin"] = b"two"
    with pytest.raises(NotAuthentic):
        fetch(converted(recipe, copy_by_part), tmp_path / "set", watch=unwatched, network=paused.network())
    assert "original/1.bin" not in tree(tmp_path / "set")
    assert not (tmp_path / "set" / "meds").exists()


@pytest.mark.parametrize("mine", ["study.toml", "SOURCE.md", ".hidden"])
def test_a_folder_of_something_else_is_left_alone(server, paused, recipe: Recipe, tmp_path: Path, mine: str):
    (tmp_path / mine).write_text("mine")
    with pytest.raises(WrongInput, match="something else"):
        fetch(recipe, tmp_path, watch=unwatched, network=paused.network())
    assert tree(tmp_path) == {mine: b"mine"}
    assert server.asked == []


def test_another_version_needs_another_folder(paused, recipe: Recipe, tmp_path: Path):
    fetch(recipe, tmp_path, watch=unwatched, network=paused.network())
    with pytest.raises(WrongInput, match="something else"):
        fetch(replace(recipe, version="2"), tmp_path, watch=unwatched, network=paused.network())


def test_a_file_where_the_folder_should_be(paused, recipe: Recipe, tmp_path: Path):
    (tmp_path / "set").write_text("a file")
    for folder in (tmp_path / "set", tmp_path / "set" / "below"):
        with pytest.raises(OathboundError):
            fetch(recipe, folder, watch=unwatched, network=paused.network())


def test_one_process_at_a_time(paused, recipe: Recipe, tmp_path: Path):
    fetch(recipe, tmp_path, watch=unwatched, network=paused.network())
    with (tmp_path / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another oathbound"):
            fetch(recipe, tmp_path, watch=unwatched, network=paused.network())
    assert fetch(recipe, tmp_path, watch=unwatched, network=paused.network()).downloaded == 0


def test_a_name_that_no_set_has():
    with pytest.raises(WrongInput, match="mimic") as caught:
        recipe_of("mimic")
    assert "mimic-iv-demo" in caught.value.hint


def test_killed_and_gone_on(server, paused, recipe: Recipe, certificate: Path, tmp_path: Path):
    file = server.publish("big.bin", BIG)
    killed = threading.Event()

    def stalls(ask) -> None:
        ask.send_response(200)
        ask.send_header("Content-Length", str(len(BIG)))
        ask.end_headers()
        ask.wfile.write(BIG[:250_000])
        killed.wait(30)

    server.script = [stalls]
    command = [sys.executable, "-c", CHILD, server.address, str(tmp_path / "set")]
    child = subprocess.Popen(
        [*command, file.path, str(file.size), file.sha256],
        env=os.environ | {"SSL_CERT_FILE": str(certificate)},
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not _received(tmp_path):
            time.sleep(0.01)
        held = _received(tmp_path)
        assert 0 < held < len(BIG)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed.set()
    alone = replace(recipe, files=(file,), cite=())
    assert not (tmp_path / "set" / "meds" / "big.bin").exists()
    assert fetch(alone, tmp_path / "set", watch=unwatched, network=paused.network()).downloaded == 1
    assert (tmp_path / "set" / "meds" / "big.bin").read_bytes() == BIG
    assert server.asked[-1][1] is not None
    assert int(server.asked[-1][1].removeprefix("bytes=").rstrip("-")) >= held


def _received(folder: Path) -> int:
    return max((part.stat().st_size for part in folder.rglob("*.part")), default=0)
