"""`oathbound train`."""

import time
from pathlib import Path

from oathbound.cli.output import Format, answer, bar
from oathbound.cli.verbs.options import FormatOption, StudyArgument


def command(study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """Train with every site, or go on where it stopped.

    Stops before the budget would break. What was charged stays charged.
    """
    from oathbound.cli.answers import TrainAnswer
    from oathbound.cli.words import privacy_words
    from oathbound.core.study import NVFLARE
    from oathbound.workflow.folders import StudyFolder
    from oathbound.workflow.train import train

    folder = StudyFolder.open(study)
    with bar("train") as advance:
        if folder.study.run.engine == NVFLARE:
            from oathbound.workflow.flare import train_over_flare

            trained = train_over_flare(folder, clock=lambda: int(time.time()), watch=advance)
        else:
            trained = train(folder, clock=lambda: int(time.time()), watch=advance)
    text = "\n".join(
        (
            f"model     {folder.model}",
            f"digest    {trained.model}",
            f"steps     {trained.steps}, in {trained.attempts} attempts",
            f"privacy   {privacy_words(folder.policy.budget, trained.epsilon)}",
            f"next      at every site: oathbound audit {folder.model} --site NAME",
        )
    )
    data = TrainAnswer(
        folder=str(folder.model),
        model=trained.model,
        steps=trained.steps,
        attempts=trained.attempts,
        epsilon=trained.epsilon,
    )
    answer(text, data, form)
