"""Options that several verbs share, described once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format
from oathbound.core.errors import WrongInput

if TYPE_CHECKING:
    from oathbound.workflow.given_records import Folders, Split

StudyArgument = Annotated[
    Path, typer.Argument(metavar="STUDY", help="The study's folder, or its study file.")
]

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The model's folder, inside its study's.")
]

SiteOption = Annotated[
    str, typer.Option("--site", metavar="NAME", help="The site that does this, by its name.")
]

TrustOption = Annotated[
    Path,
    typer.Option(
        "--trust", metavar="FILE", help="Whom you trust: names and fingerprints, compared out of band."
    ),
]

FormatOption = Annotated[Format, typer.Option("--format", help="How the answer is written.")]

MembersOption = Annotated[
    Path | None,
    typer.Option("--members", metavar="MEDS", help="Without a study: records that the model trained on."),
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option("--held-out", metavar="MEDS", help="Without a study: records that it never saw."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option("--reference", metavar="MEDS", help="Records of others, for the attacker to learn from."),
]
RecordsOption = Annotated[
    Path | None,
    typer.Option(
        "--records",
        metavar="MEDS",
        help="Instead: all records, with subject splits: train are members, tuning is reference.",
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Without a study: what is measured, as TOML."),
]


def given_records(
    members: Path | None, held_out: Path | None, reference: Path | None, records: Path | None
) -> "Folders | Split":
    """Return where the records of an audit without a study are; `WrongInput` where that is not said."""
    from oathbound.workflow.given_records import Folders, Split

    if records is not None and not any((members, held_out, reference)):
        return Split(records)
    if records is None and members is not None and held_out is not None:
        return Folders(members, held_out, reference)
    raise WrongInput(
        "an audit takes --site, or --members and --held-out, or --records",
        hint="oathbound audit --help says what each is",
    )
