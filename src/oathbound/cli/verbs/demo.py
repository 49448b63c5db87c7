"""`oathbound demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer, bar, say
from oathbound.cli.verbs.options import FormatOption


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier demo.")],
    cohort: Annotated[
        str,
        typer.Option(
            "--cohort",
            metavar="NAME",
            help=(
                "nafld: records of 17,549 people. heart: a table of 920 people of four real hospitals. "
                "nodules: outlines of 875 people's lung nodules."
            ),
        ),
    ] = "nafld",
    form: FormatOption = Format.TEXT,
) -> None:
    """Run the whole chain here, on 17,549 real people.

    One model is refused, the other is private. Run it again to finish one that was interrupted.
    """
    from oathbound.cli.answers import DemoAnswer, DemoStage
    from oathbound.workflow.demo import demo

    stages = []
    for stage in demo(folder, cohort, now=int(time.time()), bar=bar):
        stages.append(DemoStage(verb=stage.verb, said=stage.said))
        if form is Format.TEXT:
            say(f"{stage.verb:<8} {stage.said}")
    closing = (
        "",
        f"Look at  {folder / 'plain.html'} and {folder / 'private.html'}",
        f"Verify   oathbound verify {folder / 'private.oath'} --trust {folder / 'trust.toml'}",
        "Next     your own records: docs/guides/own-records.md",
    )
    answer("\n".join(closing), DemoAnswer(stages=tuple(stages)), form)
