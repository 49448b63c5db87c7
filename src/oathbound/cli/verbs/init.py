"""`oathbound init`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption
from oathbound.core.errors import WrongInput


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new study's folder.")],
    example: Annotated[
        bool,
        typer.Option("--example", help="Also keys, three invented hospitals and a trust file to play with."),
    ] = False,
    party: Annotated[
        list[Path] | None,
        typer.Option(
            "--party", metavar="FILE", help="A site's party.json; once for each site that has joined."
        ),
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Make a study file and the coordinator's keys."""
    from oathbound.cli.answers import InitAnswer
    from oathbound.workflow import init

    if example and party:
        raise WrongInput("--example makes its own sites, and takes no --party", hint="leave one of them out")
    if example:
        coordinator = init.init_example(folder, now=int(time.time()))
        steps = f"Next, for each of {', '.join(init.SITES)}: oathbound oath --site NAME {folder}"
    else:
        coordinator = init.init(folder, party or [])
        steps = (
            f"Next: read {folder / 'study.toml'} and change what is not so; then: oathbound check {folder}"
        )
    text = f"wrote {folder / 'study.toml'}\ncoordinator: {coordinator.fingerprint}\n{steps}"
    answer(text, InitAnswer(study=str(folder), coordinator=coordinator.fingerprint), form)
