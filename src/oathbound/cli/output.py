"""What a person, or a script, sees: the answer on stdout and nothing else there; the rest on stderr."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from oathbound.core.errors import OathboundError
from oathbound.workflow.watch import Watch, unwatched

if TYPE_CHECKING:
    from oathbound.cli.answers import Answer


_BAR: Final = 16
"""Columns of a progress bar: of eighty, most are for what is being done."""


class Format(StrEnum):
    """How an answer is written, and an error."""

    TEXT = "text"
    JSON = "json"


def format_asked(arguments: Sequence[str]) -> Format:
    """Return the format that a command line asks for, also of one that cannot be parsed."""
    asked = "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
    return Format.JSON if asked else Format.TEXT


def answer(text: str, data: "Answer", form: Format) -> None:
    """Print the answer, as text or as JSON."""
    say(data.encoded() if form is Format.JSON else text)


def say(text: str) -> None:
    """Print lines of an answer; a full disk is an `OSError`, a reader that has gone is not."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be written again, in vain, when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Where the reader has gone nothing is left to say to it, and the exit code still says the verdict.
        if not isinstance(error, BrokenPipeError):
            raise


def note(text: str) -> None:
    """Print a remark for a person, outside the answer."""
    with suppress(OSError):  # nobody is left to be told
        sys.stderr.write(text + "\n")


def complain(error: OathboundError, form: Format) -> None:
    """Print an error: one line and a hint, or one JSON object; with the step of `verify` that refused."""
    step = getattr(error, "step", 0)
    if form is Format.JSON:
        from oathbound.cli.answers import ErrorAnswer  # noqa: PLC0415

        said = ErrorAnswer(
            error=error.message,
            kind=type(error).__name__,
            hint=error.hint or None,
            exit=error.exit.value,
            step=step or None,
        ).encoded()
    else:
        said = f"error: step {step}: {error.message}" if step else f"error: {error.message}"
        said += f"\nhint: {error.hint}" if error.hint else ""
    note(said)


@contextmanager
def bar(title: str, *, even: bool = True) -> Iterator[Watch]:
    """Show a progress bar on stderr while the block runs; nothing where stderr is not a terminal.

    Where the parts are `even`, each about as long as another, the time that is left is shown, too; or else
    the time that has passed.
    """
    if not sys.stderr.isatty():
        yield unwatched
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(_BAR),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn() if even else TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, words="")
        yield lambda done, total, words="": progress.update(task, completed=done, total=total, words=words)
