"""The file of an audit without a study: what was found of a model, and no verdict. Nobody signs it."""

from typing import Annotated, Final, Literal

from pydantic import Field

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.canonical import canonical, from_canonical
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.finding import DidNotRun, Finding
from oathbound.core.record import Count, Record

BEGINNING: Final = b'{"attempt":'
"""The first bytes of the file."""

NO_VERDICT: Final = "no verdict: without a study there are no gates to hold the findings against"

MOST_PATIENTS: Final = 1_000_000_000
"""More than there are of any model; limits of larger counts take long."""

Percent = Annotated[int, Field(ge=0, le=100)]


class FolderAudit(Record):
    """What an audit without a study found, as its output file says it.

    `attempt` counts models, plans and lists of patients in one log of attempts, from 1. `known` is the share
    of the patients' events that the vocabulary lists, in per cent; None for a model without one, or where
    nothing ran. `unread` is the share of the patients whose records could not be read, rounded up to a
    multiple of 5; None where all could.
    """

    format: Literal["oathbound/findings/v1"] = "oathbound/findings/v1"
    attempt: Annotated[Count, Field(ge=1)]
    plan: AuditPlan
    known: Percent | None = None
    unread: Annotated[int, Field(ge=5, le=100, multiple_of=5)] | None = None
    findings: tuple[Finding, ...] = Field(min_length=1)

    def written(self) -> bytes:
        """Return the file's bytes."""
        return canonical(self.plain()) + b"\n"


def read_folder_audit(data: bytes, *, what: str) -> FolderAudit:
    """Return the audit in a file's bytes.

    Raises `NotAuthentic` unless they are exactly what is written of it, and `WrongInput` where they are no
    findings, are of several models or sites, of one test twice, or of a test or version that is not known.
    """
    audit = FolderAudit.parse(from_canonical(data.removesuffix(b"\n"), what=what), what=what)
    if audit.written() != data:
        raise NotAuthentic(f"{what} is not in the one form that oathbound writes")
    findings = audit.findings
    if len({(finding.model, finding.site) for finding in findings}) > 1:
        raise WrongInput(f"{what} holds findings about several models, or of several sites")
    if len({finding.test for finding in findings}) < len(findings):
        raise WrongInput(f"{what} holds two findings of one test")
    for finding in findings:
        known = CATALOGUE.get(finding.test)
        if known is None or known.version != finding.version:
            raise WrongInput(
                f"{what} is of version {finding.version} of the test {finding.test}, which is not known here",
                hint="use the version of oathbound that wrote the findings",
            )
        _check_counts(finding, what)
    return audit


_COUNTS: Final = ("members", "held_out", "member_others", "held_out_others")


def _check_counts(finding: Finding, what: str) -> None:
    measures = () if isinstance(finding.outcome, DidNotRun) else finding.outcome.measures
    for measure in measures:
        counts = [getattr(measure, name, 0) for name in _COUNTS]
        if max(counts) > MOST_PATIENTS:
            raise WrongInput(f"{what} counts more patients than there are")
