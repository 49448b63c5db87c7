"""`oathbound doctor`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption, StudyArgument
from oathbound.core.exits import Exit

KitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="KIT", help="The site's FLARE kit, which holds startup/ and local/.", show_default=False
    ),
]


def command(
    site: SiteOption,
    study: StudyArgument = Path(),
    flare: KitOption = None,
    form: FormatOption = Format.TEXT,
) -> int:
    """At a site: say whether it is set up as it should be.

    Looks at keys and their modes, the folder, the disk and the clock, and whether consents and records can be
    read; with --flare, at what FLARE lets a job do. Tells nothing of a record, and changes nothing. Exits 11
    where something is wrong.
    """
    from oathbound.cli.answers import DoctorAnswer, ExaminedAnswer
    from oathbound.workflow.doctor import examine
    from oathbound.workflow.folders import StudyFolder

    found = examine(StudyFolder.open(study), site, kit=flare, now=int(time.time()))
    lines = []
    for each in found:
        lines.append(f"{'wrong' if each.wrong else 'ok':6} {each.wrong or each.what}")
        lines += [f"       {each.hint}"] if each.hint else []
    data = DoctorAnswer(
        site=site,
        examined=tuple(ExaminedAnswer(what=each.what, wrong=each.wrong, hint=each.hint) for each in found),
    )
    answer("\n".join(lines), data, form)
    return Exit.NOT_ACCEPTABLE if any(each.wrong for each in found) else Exit.DONE
