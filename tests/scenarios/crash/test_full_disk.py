"""A site's state, a log and a file on a disk that fills up: what was said to be kept is kept."""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from oathbound.core.errors import Unavailable
from oathbound.data.store import SiteStore
from oathbound.evidence.log import Log
from oathbound.workflow.folders import write_file

STUDY, POLICY = "study", "sha256:" + "0" * 64
MANY = 10**6
ORIGIN = "oathbound.invalid/study/north"

CHARGES = """
import resource, sys
from pathlib import Path
from oathbound.core.errors import Unavailable
from oathbound.data.store import SiteStore

path = Path(sys.argv[1])
with SiteStore.open(path) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    for attempt in range(1, 10**6):
        try:
            store.charge("study", attempt, 10**6)
        except Unavailable as error:
            print(error.message)
            break
        print(attempt)
"""
"""Charge until no file may grow beyond 200,000 bytes; print every charge that returned, then the error."""


def reserved(path: Path) -> SiteStore:
    """Return a store in which a study can charge."""
    store = SiteStore.open(path)
    store.record_cohort(STUDY, POLICY, {"members": range(50), "held_out": range(50, 60)}, as_of=0)
    store.reserve(STUDY, Decimal(1), Decimal("1e-6"), Decimal(10), Decimal("1e-5"))
    return store


def test_a_site_s_state_is_durable_with_each_transaction(tmp_path: Path):
    """SQLite keeps a power cut's promise only with these; sqlite.org/pragma.html#pragma_synchronous."""
    with SiteStore.open(tmp_path / "state.sqlite") as store:
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        full = 2
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (full,)
        assert store._connection.execute("PRAGMA fullfsync").fetchone() == (1,)


def test_a_state_that_is_full_says_so_and_loses_nothing(tmp_path: Path):
    with reserved(tmp_path / "state.sqlite") as store:
        store.charge(STUDY, 1, MANY)
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match="the disk is full") as refused:
            store.record_cohort(
                "another", POLICY, {"members": range(9000), "held_out": range(9000, 9100)}, as_of=0
            )
        assert refused.value.hint == "nothing was changed"
        assert not store.holds_cohort("another")
        store._connection.execute("PRAGMA max_page_count = 4294967294")
        store.record_cohort(
            "another", POLICY, {"members": range(9000), "held_out": range(9000, 9100)}, as_of=0
        )
        assert store.charged(STUDY).highest == 1


def test_a_charge_that_returned_is_kept_when_the_file_cannot_grow(tmp_path: Path):
    """A real limit of the system's, met in the middle of a write: every charge is whole, or refused."""
    reserved(tmp_path / "state.sqlite").close()
    command = [sys.executable, "-c", CHARGES, str(tmp_path / "state.sqlite")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    *charged, refusal = ran.stdout.splitlines()
    assert "cannot be written here" in refusal
    assert charged == [str(attempt) for attempt in range(1, len(charged) + 1)]
    with SiteStore.open(tmp_path / "state.sqlite") as store:
        assert (store.charged(STUDY).count, store.charged(STUDY).highest) == (len(charged), len(charged))
        store.charge(STUDY, len(charged) + 1, MANY)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of its own, of 384 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mount") or libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"size=384k") != 0:
        pytest.skip("this machine lets nobody mount a small disk here: its filling up is not tried")
    yield folder
    libc.umount2(bytes(folder), 2)


def test_a_real_disk_fills_up(small: Path):
    """The state, a log and a file take turns until there is no space: each keeps exactly what it said."""
    kept: dict[str, object] = {}
    ballast = small / "ballast"
    ballast.write_bytes(bytes(60_000))
    with reserved(small / "state.sqlite") as store, Log.open(small / "log", ORIGIN) as log:
        with pytest.raises(Unavailable, match=r"No space left|the disk is full"):
            fill_up(small, store, log, kept)
        assert (store.charged(STUDY).count, log.size) == (kept["charges"], kept["leaves"])
        assert (small / "file").read_bytes() == kept["file"]
        assert not list(small.rglob("*.new")), "what could not be finished does not stay in the way"
        ballast.unlink()
        store.charge(STUDY, store.charged(STUDY).highest + 1, MANY)
        log.append(b"next")
        write_file(small / "file", b"next")


def fill_up(small: Path, store: SiteStore, log: Log, kept: dict[str, object]) -> None:
    """Write on, and note in `kept` what each said that it has."""
    for number in count(1):
        store.charge(STUDY, number, MANY)
        kept["charges"] = number
        log.append(b"%d" % number * 300)
        kept["leaves"] = number
        write_file(small / "file", data := (b"%d" % (number % 10)) * 30_000)
        kept["file"] = data
