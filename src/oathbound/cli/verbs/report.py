"""`oathbound report`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, TrustOption


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to report on.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The HTML page to write.")],
    trust: TrustOption,
    form: FormatOption = Format.TEXT,
) -> None:
    """Write a page about a bundle.

    Verifies the bundle first. The page is one self-contained HTML file.
    """
    from oathbound.cli.answers import ReportAnswer
    from oathbound.evidence.bundle import read_bundle
    from oathbound.evidence.trust import Trust
    from oathbound.workflow.report import write_report

    verified = write_report(read_bundle(bundle), Trust.load(trust), out, now=int(time.time()))
    data = ReportAnswer(page=str(out), verdict=verified.judgement.verdict.value)
    answer(f"wrote {out}", data, form)
