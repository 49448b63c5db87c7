"""The page of an audit without a study: the same parts as a release report, and no verdict.

The findings are not signed, so the page says what a file says, and whose word that is.
"""

from typing import Final

from oathbound import __version__
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.canonical import digest_of
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.finding import DidNotRun, NotMeasurable
from oathbound.core.folder_audit import NO_VERDICT, FolderAudit
from oathbound.report.attacks import audit_attacks, audit_confidences
from oathbound.report.environment import ENVIRONMENT
from oathbound.report.limits import AVERAGES
from oathbound.report.tables import Table, count, would_tell
from oathbound.report.words import UNJUDGED_AUDIT

_FEW_KNOWN: Final = 90
"""A vocabulary that lists fewer of a hundred events is spoken of before anything else."""


def render_audit(audit: FolderAudit, *, file_digest: str) -> str:
    """Return the page as HTML text; `file_digest` is `core.canonical.digest` of the file's bytes."""
    measured = [finding for finding in audit.findings if not isinstance(finding.outcome, DidNotRun)]
    return _PAGE.render(
        audit=audit,
        version=__version__,
        said=UNJUDGED_AUDIT,
        sentence=NO_VERDICT,
        model=audit.findings[0].model,
        measured=len(measured),
        few_known=audit.known is not None and audit.known < _FEW_KNOWN,
        attacks=audit_attacks(audit),
        confidences=audit_confidences(audit),
        averages=AVERAGES,
        not_run=audit_not_run(audit),
        plan=plan_table(audit.plan),
        digests=audit_digests(audit, file_digest),
        file_digest=file_digest,
    )


def audit_not_run(audit: FolderAudit) -> Table:
    """Return what gave no number, and what the file does not speak of."""
    rows: list[tuple[str, ...]] = []
    for finding in audit.findings:
        if isinstance(finding.outcome, DidNotRun):
            rows.append((finding.test, "all of it", f"{finding.outcome.reason}; {would_tell(finding.test)}"))
            continue
        rows.extend(
            (finding.test, f"{measure.metric} of {measure.score}", measure.reason)
            for measure in finding.outcome.measures
            if isinstance(measure, NotMeasurable)
        )
    spoken = {finding.test for finding in audit.findings}
    rows.extend(
        (test, "all of it", f"the file has no finding of it; {would_tell(test)}")
        for test in sorted(CATALOGUE.keys() - spoken)
    )
    return Table("What gave no result, and why", ("Test", "Measure", "Reason"), tuple(rows))


def plan_table(plan: AuditPlan) -> Table:
    """Return what the plan asked for, in the order of its keys."""
    rows = [
        ("error rate", f"{plan.alpha}, two-sided, over all attempts"),
        ("fewest patients", count(plan.minimum_patients)),
    ]
    sensitive = plan.sensitive
    if sensitive is None:
        rows.append(("sensitive facts", "none named: their disclosure was not measured"))
    else:
        implied = f", and {count(len(sensitive.implied_by))} that imply them" if sensitive.implied_by else ""
        rows.append(("sensitive facts", f"{sensitive.name}: {count(len(sensitive.codes))} codes{implied}"))
        drawn = f"{count(sensitive.chains)} continuations of {count(sensitive.horizon)} tokens"
        rows.append(("prompts", f"the first {count(sensitive.prompt_events)} events; {drawn}"))
        rows.append(("ladder", ", ".join(sensitive.ladder or ()) or "none: the whole prompt alone"))
    return Table("What was asked for", ("Of", "Plan"), tuple(rows))


def audit_digests(audit: FolderAudit, file_digest: str) -> Table:
    """Return the digests of everything that the page is about."""
    return Table(
        "Digests (SHA-256)",
        ("Of", "Digest"),
        (
            ("the findings", file_digest),
            ("the model", audit.findings[0].model),
            ("the plan", digest_of(audit.plan.plain())),
            *((f"the seed of {finding.test}", finding.seed) for finding in audit.findings),
        ),
    )


_PAGE: Final = ENVIRONMENT.get_template("audit.html.j2")
