"""Kill a process before each effect that outlives it, one effect at a time.

For tests of whatever keeps state in a folder: a verb, an engine, a store. An effect is a file that is opened
for writing, a write that is synchronised, a rename, a link, a folder made, a name removed, or an SQLite COMMIT.
Between two of them a crash leaves the same folder, so killing before each leaves every folder that a killed
process can leave. What a power cut leaves besides is `oathbound.testing.powercut`'s to say.

The work runs in a forked child. Fork from a process without threads: torch with one, polars not yet used.
"""

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

KILLED: Final = 9
FAILED: Final = 70
"""Exit codes of a child that was killed, and of one whose work raised."""

_NAMED: Final = frozenset(
    {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
)
"""The audit events of effects: Python raises each just before it does what it names, the path first."""

Point = Callable[[str], None]
"""Marks an effect of the caller's own, by a name for people: a message that is about to leave, say."""


def effects(work: Callable[[Point], object], folder: Path) -> list[str]:
    """Run the work in a child to its end, and return the effects that it had below `folder`, in order.

    Raises `ChildFailed` if it raised.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        with os.fdopen(writable, "w") as seen:
            code = _run(work, folder, lambda name: print(name, file=seen))
        os._exit(code)
    os.close(writable)
    with os.fdopen(readable) as seen:
        names = seen.read().splitlines()
    if (code := _ended(child)) != 0:
        raise ChildFailed(f"the work ended with {code}")
    return names


def kill(work: Callable[[Point], object], folder: Path, before: int) -> bool:
    """Run the work in a child that ends abruptly before effect number `before`, from 0.

    Returns whether it was killed: False if the work has fewer effects. Raises `ChildFailed` if it raised first.
    """
    child = os.fork()
    if child == 0:
        left = before

        def count(_: str) -> None:
            nonlocal left
            if left == 0:
                os._exit(KILLED)
            left -= 1

        os._exit(_run(work, folder, count))
    code = _ended(child)
    if code not in {0, KILLED}:
        raise ChildFailed(f"the work ended with {code}")
    return code == KILLED


class ChildFailed(Exception):
    """The work raised: its traceback is on stderr."""


def _run(work: Callable[[Point], object], folder: Path, point: Point) -> int:
    """Tell `point` of each effect below `folder` just before it happens; return the child's exit code."""
    _watch(folder.resolve(), point)
    try:
        work(point)
    except Exception:  # noqa: BLE001 - a child says what happened and ends, whatever it was
        traceback.print_exc()
        return FAILED
    return 0


def _watch(folder: Path, point: Point) -> None:
    def inside(path: object) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        absolute = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - `resolve` would follow a link
        return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else None

    def traced(statement: str) -> None:
        if statement == "COMMIT":
            point("sqlite commit")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _NAMED or (name := inside(arguments[0])) is None:
            return
        there = os.path.lexists(arguments[0])
        if event == "open":
            changes = arguments[2] & os.O_TRUNC if there else arguments[2] & os.O_CREAT
        else:
            changes = there != (event == "os.mkdir")
        if changes:
            point(f"{event.removeprefix('os.')} {name}")

    connect = sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(traced)
        return connection

    def synchronise(_: int) -> None:
        # A killed process has lost nothing that it wrote: only a power cut tells what was synchronised.
        point("fsync")

    sqlite3.connect = connected
    os.fsync = synchronise
    sys.addaudithook(hook)


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
