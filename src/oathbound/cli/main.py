"""`oathbound VERB [OBJECT] [--option value]`: the verbs, and the one place where errors become exit codes."""

import errno
import functools
import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from oathbound import __version__
from oathbound.cli import output
from oathbound.cli.verbs import admit, audit, check, demo, init, join, oath, release, report, train, verify
from oathbound.core.errors import Interrupted, OathboundError
from oathbound.core.exits import Exit

FULL_OR_FORBIDDEN = frozenset({errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT})
"""What the machine cannot do now; every other system error is a wrong path."""

EXTRAS = frozenset({"numpy", "pandas", "polars", "safetensors", "torch"})
"""Packages that a base install, which verifies, does without."""

app = typer.Typer(
    name="oathbound",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _guarded(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return the command with Ctrl-C as an error of ours: Typer would end the process without a word."""

    @functools.wraps(command)
    def guarded(**options: object) -> int | None:
        try:
            return command(**options)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; what was done is kept", hint="the same command goes on where it stopped"
            ) from None

    return guarded


for module in (init, join, oath, check, admit, train, audit, release, verify, report, demo):
    app.command(name=module.__name__.rsplit(".", 1)[-1])(_guarded(module.command))


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"oathbound {__version__}\n")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in Exit) + ".",
)
def main(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train on patients of several hospitals, attack the model before others do, prove what happened."""


def run() -> None:
    """Run the command line and end the process with one of `Exit`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except OathboundError as error:
        output.complain_of(error)
        code = error.exit
    except typer.TyperException as error:
        output.complain(
            error.format_message().partition("\n")[0],
            "oathbound --help lists the verbs, oathbound VERB --help their options",
        )
        code = Exit.WRONG_INPUT
    except typer.Abort:
        output.complain("interrupted; what was done is kept")
        code = Exit.INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRAS:
            raise
        output.complain(f"{error.name} is not installed", "pip install 'oathbound[train,audit]'")
        code = Exit.UNAVAILABLE
    except OSError as error:
        output.complain(f"{error.strerror}: {error.filename or 'a file'}", "what was done is kept")
        code = Exit.UNAVAILABLE if error.errno in FULL_OR_FORBIDDEN else Exit.WRONG_INPUT
    raise SystemExit(int(code or Exit.DONE))
