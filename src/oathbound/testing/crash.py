"""Kill a process before each effect that outlives it, one effect at a time.

For tests of whatever keeps state in a folder: a verb, an engine, a store. An effect is a file that is opened
to be written, a write that is synchronised, a rename, a link, a folder made, a name removed, or an SQLite
COMMIT. Between two of them a crash leaves the same folder, so killing before each leaves every folder that a
killed process can leave. A power cut also loses what was not synchronised; that is not tried here.

The work runs in a forked child. Fork from a process without threads: torch with one, polars not yet used.
"""

import errno
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

from oathbound.core.errors import Unavailable
from oathbound.core.exits import Exit

KILLED: Final = 9
FAILED: Final = 70
"""Exit codes of a child that was killed, and of one whose work raised."""

_NAMED: Final = frozenset(
    {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
)
"""The audit events of effects: Python raises each just before it does what it names, the path first."""

_NEEDS_SPACE: Final = frozenset({"open", "mkdir", "link", "fsync"})

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

    Return whether it was killed: not if the work has fewer effects. Raises `ChildFailed` if it raised first.
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


def fill(work: Callable[[Point], object], folder: Path, before: int) -> bool:
    """Run the work in a child for which the disk is full from effect number `before` on.

    Return whether the work said so, by `Unavailable`: not if it needed no space after that effect. Raises
    `ChildFailed` if it raised anything else. Renames, removals and SQLite's commits still succeed.
    """
    child = os.fork()
    if child == 0:
        left = before

        def count(name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0 and name.partition(" ")[0] in _NEEDS_SPACE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        os._exit(_run(work, folder, count))
    code = _ended(child)
    if code not in {0, Exit.UNAVAILABLE}:
        raise ChildFailed(f"the work ended with {code}")
    return code == Exit.UNAVAILABLE


class ChildFailed(Exception):
    """The work raised: its traceback is on stderr."""


def _run(work: Callable[[Point], object], folder: Path, point: Point) -> int:
    """Tell `point` of each effect below `folder` just before it happens; return the child's exit code."""
    _watch(folder.resolve(), point)
    try:
        work(point)
    except Unavailable:
        return Exit.UNAVAILABLE
    except Exception:  # noqa: BLE001 - a child says what happened and ends, whatever it was
        traceback.print_exc()
        return FAILED
    return 0


def _watch(folder: Path, point: Point) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NAMED and (name := _inside(arguments[0], folder)) and _changes(event, arguments):
            point(f"{event.removeprefix('os.')} {name}")

    def traced(statement: str) -> None:
        if statement == "COMMIT":
            point("sqlite commit")

    connect = sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(traced)
        return connection

    def synchronise(_: object) -> None:
        # A killed process loses nothing that it wrote: only a power cut tells what was synchronised.
        point("fsync")

    mock.patch.object(sqlite3, "connect", connected).start()
    mock.patch.object(os, "fsync", synchronise).start()
    sys.addaudithook(hook)


def _inside(path: object, folder: Path) -> str | None:
    """Return a path below the folder, relative to it; None for another path, or for an open file's number."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    absolute = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - `resolve` would follow a link
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else None


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an event changes the disk: removing what is not there does not."""
    there = os.path.lexists(arguments[0])
    if event == "open":
        return bool(arguments[2] & (os.O_TRUNC if there else os.O_CREAT))
    return there != (event == "os.mkdir")


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
