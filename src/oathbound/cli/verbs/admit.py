"""`oathbound admit`."""

import time
from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption, StudyArgument


def command(site: SiteOption, study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """At a site: records x consent -> cohort, and a statement."""
    from oathbound.workflow.admit import admit_site  # noqa: PLC0415
    from oathbound.workflow.folders import StudyFolder  # noqa: PLC0415

    admission = admit_site(StudyFolder.open(study), site, now=int(time.time()))
    lines = [
        f"{site}: {admission.considered:,} patients considered, counts rounded to 5",
        f"{admission.members:>8,}  members",
        f"{admission.held_out:>8,}  held out",
        f"{admission.reference:>8,}  reference",
    ]
    for exclusion in admission.excluded:
        patients = "<10" if exclusion.patients is None else f"{exclusion.patients:,}"
        lines.append(f"{patients:>8}  not admitted: {exclusion.reason}")
    if admission.simulated:
        lines.append(f"simulated: {admission.simulated}")
    answer("\n".join(lines), {"format": "oathbound/admit/v1", **admission.plain()}, form)
