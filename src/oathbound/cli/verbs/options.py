"""Options that several verbs share, described once."""

from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format

StudyArgument = Annotated[
    Path, typer.Argument(metavar="[STUDY]", help="The study's folder, or its study file.")
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
