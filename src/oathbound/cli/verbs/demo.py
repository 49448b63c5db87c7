"""`oathbound demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer, bar
from oathbound.cli.verbs.options import FormatOption


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier demo.")],
    form: FormatOption = Format.TEXT,
) -> None:
    """Run the whole chain here, on 17,549 real people.

    One model is refused, the other is private. Run it again to finish one that was interrupted.
    """
    from oathbound.workflow.demo import demo  # noqa: PLC0415

    stages = []
    for stage in demo(folder, now=int(time.time()), bar=bar):
        stages.append({"verb": stage.verb, "said": stage.said})
        if form is Format.TEXT:
            answer(f"{stage.verb:<8} {stage.said}", {}, form)
    closing = (
        "",
        f"Look at  {folder / 'plain.html'} and {folder / 'private.html'}",
        f"Verify   oathbound verify {folder / 'private.oath'} --trust {folder / 'trust.toml'}",
        "Next     your own records: docs/guides/own-records.md",
    )
    answer("\n".join(closing), {"format": "oathbound/demo/v1", "stages": stages}, form)
