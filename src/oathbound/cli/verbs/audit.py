"""`oathbound audit`."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format, answer, bar
from oathbound.cli.verbs.options import (
    FormatOption,
    HeldOutOption,
    MembersOption,
    PlanOption,
    RecordsOption,
    ReferenceOption,
    given_records,
)
from oathbound.core.errors import WrongInput
from oathbound.core.exits import Exit

if TYPE_CHECKING:
    from oathbound.audit.work import Machine
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
ReferenceModelsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--reference-model",
        metavar="DIR",
        help="A model that trained on nobody here, to compare with; up to four. Needs reference patients.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the findings here, too.")
]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, max=1024, help="How many processes share the work.")
]


_MOST_REFERENCES = 4


class Device(StrEnum):
    """Where a model is computed."""

    CPU = "cpu"
    CUDA = "cuda"


DeviceOption = Annotated[
    Device, typer.Option("--device", help="cuda: on the GPUs, of which each process takes the next.")
]


def command(
    model: ModelArgument,
    site: SiteOption = None,
    members: MembersOption = None,
    held_out: HeldOutOption = None,
    reference: ReferenceOption = None,
    reference_model: ReferenceModelsOption = None,
    records: RecordsOption = None,
    plan: PlanOption = None,
    out: OutOption = None,
    name: NameOption = None,
    vocabulary: VocabularyOption = None,
    endpoint: EndpointOption = None,
    processes: ProcessesOption = 1,
    device: DeviceOption = Device.CPU,
    form: FormatOption = Format.TEXT,
) -> int | None:
    """At a site, or without a study: attack a model with its own patients.

    With --site: runs every test of the study, and states each finding, also of a test that could not run.
    With --members and --held-out, or --records: any model, without a study; findings, and no verdict.
    """
    from oathbound.audit.work import Machine

    machine = Machine(processes, device.value)
    if site is None:
        asked = _asked(model, name, vocabulary, endpoint)
        references = tuple(reference_model or ())
        return _folder(asked, members, held_out, reference, records, references, plan, out, machine, form)
    if any((members, held_out, reference, reference_model, records, plan, out, name, vocabulary, endpoint)):
        raise WrongInput(
            "--site audits in a study, which says itself what is audited", hint="leave out the rest"
        )
    _site(Path(model), site, machine, form)
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


def _site(model: Path, site: str, machine: "Machine", form: Format) -> None:
    from oathbound.cli.answers import AuditAnswer
    from oathbound.cli.words import finding_lines
    from oathbound.workflow.audit import audit_site
    from oathbound.workflow.folders import StudyFolder

    study = StudyFolder.open(model.parent)
    with bar("audit", even=False) as watch:
        findings = audit_site(study, model, site, now=int(time.time()), machine=machine, watch=watch)
    text = "\n".join(line for finding in findings for line in finding_lines(finding))
    answer(text, AuditAnswer(findings=findings), form)


def _folder(
    model: "Path | ServedModel",
    members: Path | None,
    held_out: Path | None,
    reference: Path | None,
    records: Path | None,
    references: tuple[Path, ...],
    plan: Path | None,
    out: Path | None,
    machine: "Machine",
    form: Format,
) -> int:
    """Audit without a study; the exit code says that there is no verdict."""
    from oathbound.cli.answers import AuditAnswer
    from oathbound.cli.words import folder_audit_lines
    from oathbound.core.folder_audit import NO_VERDICT
    from oathbound.workflow.audit_folder import audit_folder, read_plan

    if len(references) > _MOST_REFERENCES:
        raise WrongInput(f"at most {_MOST_REFERENCES} reference models", hint="more add little")
    given = given_records(members, held_out, reference, records)
    asked, now = read_plan(plan), int(time.time())
    with bar("audit", even=False) as watch:
        audit = audit_folder(
            model,
            given,
            asked,
            output=out,
            now=now,
            machine=machine,
            references=references,
            watch=watch,
        )
    said = AuditAnswer(
        findings=audit.findings,
        attempt=audit.attempt,
        known=audit.known,
        unread=audit.unread or 0,
        no_verdict=NO_VERDICT,
    )
    page = (f"a page of it: oathbound report {out} -o {out.with_suffix('.html')}",) if out else ()
    answer("\n".join((*folder_audit_lines(audit), NO_VERDICT, *page)), said, form)
    return Exit.INCONCLUSIVE
