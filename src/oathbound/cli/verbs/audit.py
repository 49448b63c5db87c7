"""`oathbound audit`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption
from oathbound.core.errors import WrongInput
from oathbound.core.exits import Exit

if TYPE_CHECKING:
    from oathbound.workflow.audit_folder import ServedModel

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The model's folder: a study's, inside it; or any, also of Hugging Face; or https://host/v1.",
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Of an endpoint: the model's name there.")
]
VocabularyOption = Annotated[
    Path | None,
    typer.Option("--vocabulary", metavar="FILE", help="Of an endpoint: its codes, vocabulary.json."),
]
EndpointOption = Annotated[
    Path | None,
    typer.Option("--endpoint", metavar="FILE", help="Of an endpoint: how it is asked, as TOML."),
]
SiteOption = Annotated[
    str | None, typer.Option("--site", metavar="NAME", help="In a study: the site that audits.")
]
MembersOption = Annotated[
    Path | None,
    typer.Option("--members", metavar="MEDS", help="Without a study: records that the model trained on."),
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option("--held-out", metavar="MEDS", help="Without a study: records that it never saw."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option("--reference", metavar="MEDS", help="Records of others, for the attacker to learn from."),
]
RecordsOption = Annotated[
    Path | None,
    typer.Option(
        "--records",
        metavar="MEDS",
        help="Instead: all records, with subject splits: train are members, tuning is reference.",
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Without a study: what is measured, as TOML."),
]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the findings here, too.")
]


def command(
    model: ModelArgument,
    site: SiteOption = None,
    members: MembersOption = None,
    held_out: HeldOutOption = None,
    reference: ReferenceOption = None,
    records: RecordsOption = None,
    plan: PlanOption = None,
    out: OutOption = None,
    name: NameOption = None,
    vocabulary: VocabularyOption = None,
    endpoint: EndpointOption = None,
    form: FormatOption = Format.TEXT,
) -> int | None:
    """At a site, or without a study: attack a model with its own patients.

    With --site: runs every test of the study, and states each finding, also of a test that could not run.
    With --members and --held-out, or --records: any model, without a study; findings, and no verdict.
    """
    if site is None:
        asked = _asked(model, name, vocabulary, endpoint)
        return _folder(asked, members, held_out, reference, records, plan, out, form)
    if any((members, held_out, reference, records, plan, out, name, vocabulary, endpoint)):
        raise WrongInput(
            "--site audits in a study, which says itself what is audited", hint="leave out the rest"
        )
    _site(Path(model), site, form)
    return None


def _asked(
    model: str, name: str | None, vocabulary: Path | None, endpoint: Path | None
) -> "Path | ServedModel":
    """Return what is audited: a folder, or a model behind an address, which needs three options more."""
    from oathbound.workflow.audit_folder import ServedModel

    served = model.startswith(("http://", "https://"))
    if served and name and vocabulary and endpoint:
        return ServedModel(model, name, vocabulary, endpoint)
    if served or name or vocabulary or endpoint:
        raise WrongInput(
            "an endpoint takes its address, --model, --vocabulary and --endpoint; a folder none of them",
            hint="docs/guides/audit-endpoint.md shows the files",
        )
    return Path(model)


def _site(model: Path, site: str, form: Format) -> None:
    from oathbound.cli.answers import AuditAnswer
    from oathbound.cli.words import finding_lines
    from oathbound.workflow.audit import audit_site
    from oathbound.workflow.folders import StudyFolder

    findings = audit_site(StudyFolder.open(model.parent), model, site, now=int(time.time()))
    text = "\n".join(line for finding in findings for line in finding_lines(finding))
    answer(text, AuditAnswer(findings=findings), form)


def _folder(
    model: "Path | ServedModel",
    members: Path | None,
    held_out: Path | None,
    reference: Path | None,
    records: Path | None,
    plan: Path | None,
    out: Path | None,
    form: Format,
) -> int:
    """Audit without a study; the exit code says that there is no verdict."""
    from oathbound.cli.answers import AuditAnswer
    from oathbound.cli.words import folder_audit_lines
    from oathbound.workflow.audit_folder import NO_VERDICT, audit_folder, read_plan
    from oathbound.workflow.given_records import Folders, Split

    given: Folders | Split
    if records is not None and not any((members, held_out, reference)):
        given = Split(records)
    elif records is None and members is not None and held_out is not None:
        given = Folders(members, held_out, reference)
    else:
        raise WrongInput(
            "an audit takes --site, or --members and --held-out, or --records",
            hint="oathbound audit --help says what each is",
        )
    audit = audit_folder(model, given, read_plan(plan), output=out, now=int(time.time()))
    said = AuditAnswer(
        findings=audit.findings, attempt=audit.attempt, known=audit.known, no_verdict=NO_VERDICT
    )
    answer("\n".join((*folder_audit_lines(audit), NO_VERDICT)), said, form)
    return Exit.INCONCLUSIVE
