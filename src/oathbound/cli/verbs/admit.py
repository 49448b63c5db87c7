"""`oathbound admit`."""

import time
from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption, StudyArgument


def command(site: SiteOption, study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """At a site: draw a cohort by consent.

    Records x consent -> cohort, and a statement.
    """
    from oathbound.cli.answers import AdmitAnswer
    from oathbound.workflow.admit import admit_site
    from oathbound.workflow.folders import StudyFolder

    admission = admit_site(StudyFolder.open(study), site, now=int(time.time()))
    lines = [
        f"{site}: {admission.considered:,} patients considered, counts rounded to 5",
        f"{admission.members:>8,}  members",
        f"{admission.held_out:>8,}  held out",
        f"{_shown(admission.reference):>8}  reference",
    ]
    lines += [f"{_shown(each.patients):>8}  not admitted: {each.reason}" for each in admission.excluded]
    seen = (
        (admission.unreadable_consents, "consents that could not be read"),
        (admission.rows_of_nobody, "rows of the source without a patient"),
        (admission.absent_numbers, "values of the source that are not finite, and count as absent"),
        *(
            (each.patients, f"patients have {each.code} = {each.coded_as}, which stands for not measured")
            if each.coded_as is not None
            else (each.patients, f"patients have no {each.code}, and teach nothing")
            for each in admission.missing
        ),
    )
    lines += [f"{_shown(count):>8}  {what}" for count, what in seen if count != 0]
    if admission.simulated:
        lines.append(f"simulated: {admission.simulated}")
    answer("\n".join(lines), AdmitAnswer(admission=admission), form)


def _shown(count: int | None) -> str:
    return "<10" if count is None else f"{count:,}"
