"""`oathbound admit`."""

import time
from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption, StudyArgument


def command(site: SiteOption, study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """At a site: draw a cohort by consent.

    Records x consent -> cohort, and a statement.
    """
    from oathbound.cli.answers import AdmitAnswer  # noqa: PLC0415
    from oathbound.workflow.admit import admit_site  # noqa: PLC0415
    from oathbound.workflow.folders import StudyFolder  # noqa: PLC0415

    admission = admit_site(StudyFolder.open(study), site, now=int(time.time()))
    lines = [
        f"{site}: {admission.considered:,} patients considered, counts rounded to 5",
        f"{admission.members:>8,}  members",
        f"{admission.held_out:>8,}  held out",
        f"{_shown(admission.reference):>8}  reference",
    ]
    lines += [f"{_shown(each.patients):>8}  not admitted: {each.reason}" for each in admission.excluded]
    if admission.unreadable_consents != 0:
        lines.append(f"{_shown(admission.unreadable_consents):>8}  consents that could not be read")
    if admission.simulated:
        lines.append(f"simulated: {admission.simulated}")
    answer("\n".join(lines), AdmitAnswer(admission=admission), form)


def _shown(count: int | None) -> str:
    return "<10" if count is None else f"{count:,}"
