"""`oathbound init`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new study's folder.")],
    example: Annotated[
        bool,
        typer.Option("--example", help="Also keys, three invented hospitals and a trust file to play with."),
    ] = False,
    form: FormatOption = Format.TEXT,
) -> None:
    """Make a commented study file and the coordinator's keys."""
    from oathbound.workflow import init  # noqa: PLC0415

    if example:
        party = init.init_example(folder, now=int(time.time()))
        steps = f"Next, for each of {', '.join(init.SITES)}: oathbound oath --site NAME {folder}"
    else:
        party = init.init(folder)
        steps = f"Next: at each hospital `oathbound join`; put the fingerprints into {folder / 'study.toml'}"
    text = f"wrote {folder / 'study.toml'}\ncoordinator: {party.fingerprint}\n{steps}"
    answer(text, {"format": "oathbound/init/v1", "coordinator": party.fingerprint}, form)
