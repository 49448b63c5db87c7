"""`oathbound release`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, ModelArgument


def command(
    model: ModelArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="The bundle to write, such as a.oath.")
    ],
    form: FormatOption = Format.TEXT,
) -> int:
    """Judge the model, and write one bundle.

    The bundle is written also when the model is refused. The exit code is the verdict's.
    """
    from oathbound.cli.answers import ReleaseAnswer
    from oathbound.cli.words import judgement_lines
    from oathbound.workflow.folders import StudyFolder
    from oathbound.workflow.release import release

    released = release(StudyFolder.open(model.parent), model, out, now=int(time.time()))
    judgement = released.verified.judgement
    text = "\n".join((*judgement_lines(judgement), f"wrote {out}"))
    data = ReleaseAnswer(verdict=judgement.verdict.value, reason=judgement.sentence, bundle=str(out))
    answer(text, data, form)
    return judgement.verdict.exit
