"""`oathbound check`."""

from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, StudyArgument


def command(study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """Say what a study binds and what it will cost.

    Parses, cross-checks and prices the study file; reads no record.
    """
    from oathbound.cli.answers import CheckAnswer
    from oathbound.cli.words import extension_lines, privacy_words
    from oathbound.workflow.check import price
    from oathbound.workflow.folders import StudyFolder

    policy = StudyFolder.open(study).policy
    cost = price(policy)
    lines = [
        f"policy   {policy.digest}",
        f"sites    {', '.join(site.name for site in policy.sites)}; at least {policy.min_sites} in every sum",
        f"model    {cost.weights:,} weights, {cost.tokens:,} {'tokens' if policy.vocabulary else 'inputs'}",
        f"plan     {cost.steps} steps of about {cost.expected_batch} patients",
        f"rounds   of at most {policy.training.round_steps} steps; before each, consents are read again",
        f"privacy  {privacy_words(policy.budget, cost.epsilon)}, for all {cost.attempts} attempts",
        *(f"gate     {gate.test} {gate.metric} at most {gate.at_most}" for gate in policy.gates),
        *(f"code     {line}" for line in extension_lines(policy)),
    ]
    data = CheckAnswer(
        policy=policy.digest,
        weights=cost.weights,
        tokens=cost.tokens,
        expected_batch=cost.expected_batch,
        steps=cost.steps,
        attempts=cost.attempts,
        epsilon=cost.epsilon,
    )
    answer("\n".join(lines), data, form)
