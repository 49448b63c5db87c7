"""`oathbound audit`."""

import time

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, ModelArgument, SiteOption


def command(model: ModelArgument, site: SiteOption, form: FormatOption = Format.TEXT) -> None:
    """At a site: attack the model with its own patients.

    Runs every test, and states each finding, also of a test that could not run.
    """
    from oathbound.cli.answers import AuditAnswer
    from oathbound.cli.words import finding_lines
    from oathbound.workflow.audit import audit_site
    from oathbound.workflow.folders import StudyFolder

    findings = audit_site(StudyFolder.open(model.parent), model, site, now=int(time.time()))
    text = "\n".join(line for finding in findings for line in finding_lines(finding))
    answer(text, AuditAnswer(findings=findings), form)
