"""`oathbound check`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import (
    FormatOption,
    HeldOutOption,
    MembersOption,
    PlanOption,
    RecordsOption,
    ReferenceOption,
    given_records,
)
from oathbound.core.errors import WrongInput

if TYPE_CHECKING:
    from oathbound.workflow.given_records import Folders, Split

CheckedArgument = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="The study's folder, or its study file; to price an audit, a model's folder."
    ),
]


def command(
    study: CheckedArgument = Path(),
    members: MembersOption = None,
    held_out: HeldOutOption = None,
    reference: ReferenceOption = None,
    records: RecordsOption = None,
    plan: PlanOption = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Say what a study binds and what it will cost; or what an audit of a model will.

    Parses, cross-checks and prices the study file; reads no record. With the records of an audit without a
    study, prices that audit: every test is run on a few of the patients, and nothing of it is shown.
    """
    if plan is not None and not any((members, held_out, reference, records)):
        raise WrongInput("a plan is priced with records", hint="give --members and --held-out, or --records")
    if any((members, held_out, reference, records)):
        _audit(study, given_records(members, held_out, reference, records), plan, form)
    else:
        _study(study, form)


def _audit(model: Path, given: "Folders | Split", plan: Path | None, form: Format) -> None:
    from oathbound.cli.answers import PriceAnswer, TestPriceAnswer
    from oathbound.cli.words import price_lines
    from oathbound.workflow.audit_folder import price_folder, read_plan

    found = tuple(price_folder(model, given, read_plan(plan)))
    said = PriceAnswer(
        tests=tuple(
            TestPriceAnswer(
                test=each.test, tokens=each.tokens, seconds=math.ceil(each.seconds), reason=each.reason
            )
            for each in found
        )
    )
    answer("\n".join(price_lines(found)), said, form)


def _study(study: Path, form: Format) -> None:
    from oathbound.cli.answers import CheckAnswer
    from oathbound.cli.words import extension_lines, privacy_words
    from oathbound.workflow.check import price
    from oathbound.workflow.folders import StudyFolder

    policy = StudyFolder.open(study).policy
    cost = price(policy)
    local = policy.training.local
    between = f" of {local.steps} local steps ({local.algorithm}), each" if local else ""
    turns = f", in {policy.training.bands} groups that take turns" if policy.training.bands else ""
    lines = [
        f"policy   {policy.digest}",
        f"sites    {', '.join(site.name for site in policy.sites)}; at least {policy.min_sites} in every sum",
        f"model    {cost.weights:,} weights, {cost.tokens:,} {'tokens' if policy.vocabulary else 'inputs'}",
        f"plan     {cost.steps} steps{between} of about {cost.expected_batch} patients{turns}",
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
