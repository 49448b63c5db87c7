"""`oathbound VERB [OBJECT] [--option value]`: the verbs, and the one place where errors become exit codes."""

import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from oathbound import __version__
from oathbound.cli import output
from oathbound.cli.verbs import (
    admit,
    audit,
    check,
    completion,
    data,
    demo,
    doctor,
    explain,
    extensions,
    init,
    join,
    oath,
    patient,
    release,
    report,
    train,
    verify,
)
from oathbound.core.errors import Interrupted, OathboundError, Unavailable, WrongInput
from oathbound.core.exits import Exit
from oathbound.core.extras import not_installed

FULL_OR_FORBIDDEN = frozenset({errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT})
"""What the machine cannot do now; every other system error is a wrong path."""

app = typer.Typer(
    name="oathbound",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guarded(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return the command with Ctrl-C as an error of ours: Typer would end the process without a word."""

    @functools.wraps(command)
    def run_it(**options: object) -> int | None:
        try:
            return command(**options)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; what was done is kept", hint="the same command goes on where it stopped"
            ) from None

    return run_it


VERBS = (
    init,
    join,
    extensions,
    oath,
    check,
    admit,
    train,
    audit,
    release,
    verify,
    report,
    doctor,
    explain,
    demo,
    completion,
)
"""In the order of a study, as help shows them."""

for module in VERBS:
    app.command(name=module.__name__.rsplit(".", 1)[-1])(guarded(module.command))

objects = typer.Typer(rich_markup_mode=None)
objects.command("list")(guarded(data.list_sets))
objects.command("get")(guarded(data.get))
app.add_typer(objects, name="data", help="List and download public data sets.")

persons = typer.Typer(rich_markup_mode=None)
for one in (patient.receipt, patient.withdraw, patient.proof, patient.models):
    persons.command(one.__name__)(guarded(one))
app.add_typer(persons, name="patient", help="What a site owes to one patient: receipt, withdrawal, proof.")


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
    _open_streams()
    arguments = sys.argv[1:] or ["--help"]
    form = output.format_asked(arguments)
    try:
        completion.listen()
        code = int(app(arguments, prog_name="oathbound", standalone_mode=False) or Exit.DONE)
    except KeyboardInterrupt:
        output.complain(Interrupted("interrupted; what was done is kept"), form)
        code = int(Exit.INTERRUPTED)
    except (OathboundError, typer.TyperException, typer.Abort, ModuleNotFoundError, OSError) as error:
        refusal = _refusal(error)
        output.complain(refusal, form)
        code = int(refusal.exit)
    raise SystemExit(code)


def _open_streams() -> None:
    """Make stdout and stderr such that writing any text to them is possible."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this process: `>&-`
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refusal(error: Exception) -> OathboundError:
    """Return the error as one of ours; one that nobody foresaw is raised again."""
    match error:
        case OathboundError():
            return error
        case typer.TyperException():
            return WrongInput(
                error.format_message().partition("\n")[0],
                hint="oathbound --help lists the verbs, oathbound VERB --help their options",
            )
        case typer.Abort():
            return Interrupted("interrupted; what was done is kept")
        case ModuleNotFoundError() if absent := not_installed(error):
            return absent
        case OSError():
            kind = Unavailable if error.errno in FULL_OR_FORBIDDEN else WrongInput
            return kind(f"{error.strerror}: {error.filename or 'a file'}", hint="what was done is kept")
    raise error
