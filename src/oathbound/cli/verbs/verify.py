"""`oathbound verify`."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, TrustOption
from oathbound.core.errors import NotAcceptable, WrongInput


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to verify.")],
    trust: TrustOption,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Also check that this folder is the model.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Verify as of this time (ISO 8601); now, if not given."),
    ] = None,
    form: FormatOption = Format.TEXT,
) -> int:
    """Verify a bundle, offline.

    Order, budget and verdict are recomputed; nothing is believed.
    """
    from oathbound.cli.answers import VerifyAnswer  # noqa: PLC0415
    from oathbound.cli.words import judgement_lines, privacy_words  # noqa: PLC0415
    from oathbound.evidence.bundle import read_bundle  # noqa: PLC0415
    from oathbound.evidence.trust import Trust  # noqa: PLC0415
    from oathbound.evidence.verify import verify  # noqa: PLC0415
    from oathbound.workflow.model_files import model_files  # noqa: PLC0415

    verified = verify(read_bundle(bundle), Trust.load(trust), at=_seconds(at))
    if model is not None and model_files(model) != verified.model.files:
        raise NotAcceptable(f"{model} is not the model that this bundle is about")
    policy, judgement = verified.policy, verified.judgement
    decided = datetime.fromtimestamp(verified.decided, UTC)
    lines = [
        *(f"ok  {number:2}  {step}" for number, step in enumerate(verified.steps, start=1)),
        "",
        f"study    {policy.study}, sworn to by {', '.join(site.name for site in policy.sites)}",
        f"model    {verified.model.model}",
        f"privacy  {privacy_words(policy.budget, verified.epsilon)}",
        "order    self-asserted: every witness is a party to the study",
        f"decided  {decided:%Y-%m-%d %H:%M:%S} UTC, by its witnesses' clocks",
        *judgement_lines(judgement),
    ]
    data = VerifyAnswer(
        study=policy.study,
        policy=verified.policy_digest,
        model=verified.model.model,
        epsilon=verified.epsilon,
        verdict=judgement.verdict.value,
        reason=judgement.sentence,
        decided=verified.decided,
        steps=verified.steps,
    )
    answer("\n".join(lines), data, form)
    return judgement.verdict.exit


def _seconds(at: str | None) -> int:
    if at is None:
        return int(time.time())
    try:
        moment = datetime.fromisoformat(at)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise WrongInput(f"not a time: {at}", hint="such as 2026-11-21 or 2026-11-21T18:00:00Z") from None
