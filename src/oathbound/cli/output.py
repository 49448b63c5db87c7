"""What a person sees: the answer on stdout and nothing else there; progress, notes and errors on stderr."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from rich.console import Console

from oathbound.core.errors import OathboundError
from oathbound.workflow.watch import Watch, unwatched


class Format(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"


def answer(text: str, data: dict[str, Any], form: Format) -> None:
    """Print the answer as text, or as JSON with sorted keys."""
    try:
        sys.stdout.write((json.dumps(data, indent=2, sort_keys=True) if form is Format.JSON else text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone: nothing is left to say to it, and the exit code still says the verdict.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Print a remark for a person, outside the answer."""
    sys.stderr.write(text + "\n")


def complain(message: str, hint: str = "") -> None:
    """Print an error as one line, and a hint as another."""
    note(f"error: {message}")
    if hint:
        note(f"hint: {hint}")


def complain_of(error: OathboundError) -> None:
    """Print one of our errors; with the step of `verify` that refused, if there is one."""
    step = getattr(error, "step", 0)
    complain(f"step {step}: {error.message}" if step else error.message, error.hint)


@contextmanager
def bar(title: str) -> Iterator[Watch]:
    """Show a progress bar on stderr while the block runs; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield unwatched
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - slow

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, words="")
        yield lambda done, total, words="": progress.update(task, completed=done, total=total, words=words)
