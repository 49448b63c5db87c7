"""`audit` without a study: any model that can be read, members and held-out patients, and no verdict."""

import fcntl
import hmac
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from oathbound.audit.adapters.codes import read_map
from oathbound.audit.adapters.hf_folder import read_huggingface
from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_no_test, run_tests
from oathbound.audit.harm.harm import MAX_BYTES, extended, parse_set, resolve, shipped
from oathbound.audit.kept import OnAnswer, run_key
from oathbound.audit.price import TestPrice, prices
from oathbound.audit.references import Supplied
from oathbound.audit.target import AuditedPatients, HasTokens, Target, knows
from oathbound.audit.work import ALONE, Machine, place, working
from oathbound.core.audit_plan import AuditPlan, PlanFile, Prompting
from oathbound.core.canonical import MAX_JSON_BYTES, canonical, digest_of
from oathbound.core.endpoint import EndpointSettings
from oathbound.core.errors import NothingExamined, OathboundError, Unavailable, WrongInput
from oathbound.core.folder_audit import BEGINNING, FolderAudit
from oathbound.core.record import Count, Digest, Record
from oathbound.evidence.durable import synchronise
from oathbound.models.folder import CONFIG, read_model
from oathbound.models.tokenizer import BIRTH
from oathbound.workflow.folders import check_out, read_file, read_toml, write_file
from oathbound.workflow.given_records import Folders, Parts, Split, compared, uncompared
from oathbound.workflow.watch import AuditWatch, Watch, unwatched

ATTEMPTS: Final = "audits.jsonl"
ATTEMPTS_KEY: Final = ".audits-key"

_UNPLANNED: Final = PlanFile(format="oathbound/audit-plan/v1", alpha=Decimal("0.05"), minimum_patients=20)
_SERVED: Final = "docs/guides/audit-endpoint.md shows the files of an endpoint"


class Attempt(Record):
    """A line of `audits.jsonl`. `patients` tells lists of ids apart, for who has the key beside the log.

    A digest of ids could be guessed at: it is an HMAC-SHA-256, hexadecimal, under that key.
    """

    format: Literal["oathbound/audit-attempt/v1"]
    at: Count
    models: tuple[Digest, ...]
    plan: Digest
    patients: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model behind an address: its name there, and the files that say its codes and how it is asked."""

    url: str
    name: str
    vocabulary: Path
    settings: Path


def read_plan(path: Path | None) -> PlanFile:
    """Return the plan in a TOML file; without one, alpha 0.05, 20 patients at least, nothing sensitive."""
    if path is None:
        return _UNPLANNED
    file = PlanFile.parse(read_toml(path), what=str(path))
    if file.harm is None:
        return file
    beside = tuple(str(path.parent / name) for name in file.harm.files)
    return file.model_copy(update={"harm": file.harm.model_copy(update={"files": beside})})


def resolved(file: PlanFile, target: Target) -> AuditPlan:
    """Return the plan with the codes of the sets that it names, out of the model's vocabulary.

    Raises `WrongInput` for a model without codes, and what `resolve` raises.
    """
    plan = {name: getattr(file, name) for name in AuditPlan.model_fields}
    if file.harm is not None:
        codes: tuple[str, ...] = getattr(target, "codes", ())
        if not codes:
            raise WrongInput("the model has no vocabulary of codes", hint="take [harm] out of the plan")
        asked = {name: getattr(file.harm, name) for name in Prompting.model_fields}
        own = (parse_set(read_file(Path(name), most=MAX_BYTES), what=name) for name in file.harm.files)
        catalogue = extended(shipped(), own)
        plan["sensitive"] = resolve(codes, file.harm.sets, Prompting(**asked), catalogue=catalogue)
    try:
        return AuditPlan(**plan)
    except ValidationError as error:
        raise WrongInput(
            f"the plan and the sets that it names contradict each other: {error.errors()[0]['msg']}"
        ) from None


def audit_folder(
    model: Path | ServedModel,
    given: Folders | Split,
    file: PlanFile,
    *,
    output: Path | None,
    now: int,
    machine: Machine = ALONE,
    references: Sequence[Path] = (),
    watch: Watch = unwatched,
) -> FolderAudit:
    """Run every test on a model that no study trained; write what was found to `output`, if it is given.

    What the model answered is kept beside `output` until the audit ends, so that it can go on after a kill.
    `watch` is told of the tests done, and of the answers. `references` are models of others, which trained on
    nobody of this audit: that is the word of whoever gives them.

    The attempt is logged in `audits.jsonl` beside `output`, or else in the current folder, before any records
    are compared: whoever reads findings should know how often somebody tried. Nobody signs that log, and
    whoever owns the folder can take it away. Raises `WrongInput` for a model or records that are wrong, and
    where members and held-out patients overlap; `NothingExamined` where the model knows no code of them;
    `Unavailable` where a server does not answer any more.
    """
    here = (output or Path()).parent
    if output is not None:
        if not here.is_dir():
            raise WrongInput(f"{here} is not a folder", hint="write to a file in a folder that is there")
        check_out(output, BEGINNING)
    told = AuditWatch(watch)
    with _opened(model, here, output.name if output else "", machine, told.answer) as (target, digest):
        plan = resolved(file, target)
        others = [open_target(path) for path in references]
        for other, _ in others:
            place(other, machine.device)
        read = given.read(here)
        attempt = _log_attempt(here, (digest, *(its for _, its in others)), plan, read.parts, now)
        known = None
        try:
            patients = compared(read.parts)
        except NothingExamined as error:  # too few: inconclusive, and no error
            findings = run_no_test(error.message, plan, model=digest)
        else:
            known = _known(target, patients) if isinstance(target, HasTokens) else None
            refers_to = Supplied(tuple(other for other, _ in others)) if others else None
            findings = run_tests(
                target, patients, plan, model=digest, refers_to=refers_to, on_test=told.begin
            )
        failure: OathboundError | None = getattr(target, "failure", None)
        if failure is not None:  # an endpoint's connection; what tests said of it is no finding
            raise failure
        audit = FolderAudit(
            attempt=attempt, plan=plan, known=known, unread=read.unread or None, findings=findings
        )
        if output is not None:
            write_file(output, audit.written())
    return audit


def price_folder(model: Path, given: Folders | Split, file: PlanFile) -> Iterator[TestPrice]:
    """Yield what an audit of a model in a folder is expected to cost, a test at a time.

    Raises what `audit_folder` raises; nothing is logged, since the patients are not compared, and nothing of
    what is found is kept or shown.
    """
    if str(model).startswith(("http:", "https:")):
        raise WrongInput("an endpoint cannot be priced: what it takes is its own", hint="give a folder")
    began = time.perf_counter()
    target, _ = open_target(model)
    plan = resolved(file, target)
    with tempfile.TemporaryDirectory() as room:
        patients = uncompared(given.read(Path(room)).parts)
        if isinstance(target, HasTokens):
            _known(target, patients)
        yield from prices(target, patients, plan, began=began)


@contextmanager
def _opened(
    model: Path | ServedModel, here: Path, label: str, machine: Machine, on_answer: OnAnswer
) -> Iterator[tuple[Target, str]]:
    if isinstance(model, Path):
        target, digest = open_target(model)
        with working(
            target,
            digest,
            keep=here,
            label=label,
            machine=machine,
            opener=open_target,
            arguments=(model,),
            on_answer=on_answer,
        ):
            yield target, digest
        return
    if machine != ALONE:
        raise WrongInput(
            "--processes and --device are for a model in a folder", hint="endpoint.toml has concurrency"
        )
    # httpx is needed for this alone
    from oathbound.audit.adapters.endpoint import open_endpoint  # noqa: PLC0415

    said = read_file(model.vocabulary, hint=_SERVED, most=MAX_JSON_BYTES)
    codes = read_map(said, what=str(model.vocabulary))
    settings = EndpointSettings.parse(read_toml(model.settings), what=str(model.settings))
    with open_endpoint(
        model.url, model.name, codes, settings, keep=here, label=label, on_answer=on_answer
    ) as opened:
        yield opened


def open_target(path: Path) -> tuple[Target, str]:
    """Return the model in a folder of oathbound's, or of Hugging Face's, and its digest.

    Raises `WrongInput` for a folder that is neither, and what `read_model` and `read_huggingface` raise.
    """
    if not path.is_dir():
        raise WrongInput(f"{path} is not a folder", hint="give the model's folder")
    config = read_file(path / CONFIG, hint="a model's folder holds config.json", most=MAX_JSON_BYTES)
    if b'"oathbound/model/v1"' not in config:
        return read_huggingface(path)
    loaded = read_model(path)
    return target_of(loaded.model, loaded.encoder), loaded.digest


def _known(target: HasTokens, patients: AuditedPatients) -> int:
    """Return how many of a hundred events the vocabulary lists; `NothingExamined` if none."""
    stated = Counter(event.code for patient in patients.evaluated for event in patient.events)
    del stated[BIRTH]  # seen as an age, or not at all
    listed = sum(count for code, count in stated.items() if knows(target, code))
    if not listed:
        raise NothingExamined(
            "the model's vocabulary knows none of the codes of the records",
            hint="map the records to the codes that the model was trained on",
        )
    return 100 * listed // stated.total()


def _log_attempt(here: Path, models: tuple[Digest, ...], plan: AuditPlan, parts: Parts, now: int) -> int:
    """Append an attempt to the log, and return its number; an exact replay has the number of the first.

    `models` are the model under audit, and then its reference models.

    Where the key beside the log is lost, no earlier line is of the same patients: the number is only higher.
    """
    path = here / ATTEMPTS
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # of two at once, one is the second
            earlier = _attempts(path)
            key, _ = run_key(here / ATTEMPTS_KEY)
            line = Attempt(
                format="oathbound/audit-attempt/v1",
                at=now,
                models=models,
                plan=digest_of(plan.plain()),
                patients=_patients_mac(key, parts),
            )
            file.write(canonical(line.plain()) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        synchronise(path.absolute().parent)
    except OSError as error:
        raise Unavailable(
            f"the attempt cannot be logged in {path}: {error.strerror}", hint="give -o in a folder of yours"
        ) from None
    tried = list(dict.fromkeys((each.models, each.plan, each.patients) for each in (*earlier, line)))
    return tried.index((line.models, line.plan, line.patients)) + 1


def _patients_mac(key: bytes, parts: Parts) -> str:
    mac = hmac.new(key, digestmod="sha256")
    for name in sorted(parts):
        ids = parts[name].ids.astype("<i8").tobytes()  # they ascend
        mac.update(name.encode() + b"\n" + len(ids).to_bytes(8, "little") + ids)
    return mac.hexdigest()


def _attempts(path: Path) -> list[Attempt]:
    lines = read_file(path, most=MAX_JSON_BYTES).splitlines()
    try:
        return [Attempt.parse(json.loads(line), what=str(path)) for line in lines]
    except (ValueError, TypeError, RecursionError):
        raise WrongInput(f"{path} is not a log of attempts", hint="restore it, or move it away") from None
