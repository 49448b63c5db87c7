"""`oathbound VERB [OBJECT] [--option value]`: the verbs, and the one place where errors become exit codes."""

import errno
import os
import sys
from typing import Annotated

import typer

from oathbound import __version__
from oathbound.cli import output
from oathbound.cli.verbs import admit, audit, check, demo, init, join, oath, release, report, train, verify
from oathbound.core.errors import OathboundError
from oathbound.core.exits import Exit

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

for module in (init, join, oath, check, admit, train, audit, release, verify, report, demo):
    app.command(name=module.__name__.rsplit(".", 1)[-1])(module.command)


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
    try:
        code = app(standalone_mode=False)
    except OathboundError as error:
        output.complain_of(error)
        code = error.exit
    except typer.TyperException as error:
        output.complain(
            error.format_message(), "oathbound --help lists the verbs, oathbound VERB --help their options"
        )
        code = Exit.WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        output.complain("interrupted; what was done is kept", "the same command goes on where it stopped")
        code = Exit.INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRAS:
            raise
        output.complain(f"{error.name} is not installed", "pip install 'oathbound[train,audit]'")
        code = Exit.UNAVAILABLE
    except BrokenPipeError:
        # the reader of our output has gone; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}:
            raise
        output.complain(f"{error.strerror}: {error.filename or 'a file'}", "what was done is kept")
        code = Exit.UNAVAILABLE
    raise SystemExit(int(code or Exit.DONE))
