"""`oathbound check`."""

from dataclasses import asdict
from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, StudyArgument
from oathbound.cli.words import privacy_words


def command(study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """Say what a study binds and what it will cost.

    Parses, cross-checks and prices the study file; reads no record.
    """
    from oathbound.workflow.check import price  # noqa: PLC0415
    from oathbound.workflow.folders import StudyFolder  # noqa: PLC0415

    policy = StudyFolder.open(study).policy
    cost = price(policy)
    lines = [
        f"policy   {policy.digest}",
        f"sites    {', '.join(site.name for site in policy.sites)}; at least {policy.min_sites} in every sum",
        f"model    {cost.weights:,} weights, {cost.tokens:,} tokens",
        f"plan     {cost.steps} steps of about {cost.expected_batch} patients",
        f"privacy  {privacy_words(policy.budget, cost.epsilon)}, for all {cost.attempts} attempts",
        *(f"gate     {gate.test} {gate.metric} at most {gate.at_most}" for gate in policy.gates),
    ]
    data = {"format": "oathbound/check/v1", "policy": policy.digest, **asdict(cost)}
    data["epsilon"] = None if cost.epsilon is None else str(cost.epsilon)
    answer("\n".join(lines), data, form)
