"""`oathbound report`."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption
from oathbound.core.errors import WrongInput


class Kind(StrEnum):
    """What is made."""

    PAGE = "page"
    CARD = "model-card"


def command(
    subject: Annotated[
        Path, typer.Argument(metavar="FILE", help="A bundle, or findings of an audit without a study.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="What to write; a model card is printed without it."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Of a bundle: whom you trust, names and fingerprints, compared out of band.",
        ),
    ] = None,
    kind: Annotated[
        Kind, typer.Option("--as", help="One HTML page, or a Markdown section for a model card.")
    ] = Kind.PAGE,
    form: FormatOption = Format.TEXT,
) -> None:
    """Write a page about a bundle, or about findings without a study.

    Verifies a bundle first. The page is one self-contained HTML file. Findings without a study are not
    signed, and have no verdict; the page says so first.
    """
    from oathbound.cli.answers import ReportAnswer
    from oathbound.evidence.verify import Verified
    from oathbound.workflow.folders import write_file
    from oathbound.workflow.report import card_of, check_card, check_page, page_of, read_subject

    if out is None and kind is Kind.PAGE:
        raise WrongInput("a page is written to a file", hint="name it with -o, or ask for --as model-card")
    if out is not None:
        (check_page if kind is Kind.PAGE else check_card)(out)
    about, digest = read_subject(subject, trust, now=int(time.time()))
    text = page_of(about, digest) if kind is Kind.PAGE else card_of(about, digest)
    data = ReportAnswer(
        page=None if out is None else str(out),
        verdict=about.judgement.verdict.value if isinstance(about, Verified) else None,
        card=text if out is None else None,
    )
    if out is not None:
        write_file(out, text.encode())
    answer(text.rstrip("\n") if out is None else f"wrote {out}", data, form)
