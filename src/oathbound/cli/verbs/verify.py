"""`oathbound verify`."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, TrustOption
from oathbound.core.errors import NotAcceptable, WrongInput

if TYPE_CHECKING:
    from oathbound.cli.answers import PatientCohort
    from oathbound.evidence.trust import Trust
    from oathbound.evidence.verify import Verified


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to verify.")],
    trust: TrustOption,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Also check that this folder is the model.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Verify as of this time (ISO 8601); now, if not given."),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="A patient's receipt: also check what it proves."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", metavar="FILE", help="The patient's proof, with --receipt.")
    ] = None,
    form: FormatOption = Format.TEXT,
) -> int:
    """Verify a bundle, offline.

    Order, budget and verdict are recomputed; nothing is believed. With a receipt and a proof, one patient
    learns in which cohorts they are.
    """
    from oathbound.cli.answers import VerifyAnswer
    from oathbound.cli.words import judgement_lines, privacy_words
    from oathbound.evidence.bundle import read_bundle
    from oathbound.evidence.trust import Trust
    from oathbound.evidence.verify import verify
    from oathbound.workflow.model_files import model_files

    if (receipt is None) != (proof is None):
        raise WrongInput("--receipt and --proof need each other", hint="a site gives both to its patient")
    trusted = Trust.load(trust)
    verified = verify(read_bundle(bundle), trusted, at=_seconds(at))
    if model is not None and model_files(model) != verified.model.files:
        raise NotAcceptable(f"{model} is not the model that this bundle is about")
    policy, judgement = verified.policy, verified.judgement
    decided = datetime.fromtimestamp(verified.decided, UTC)
    lines = [
        *(f"ok  {number:2}  {step}" for number, step in enumerate(verified.steps, start=1)),
        "",
        f"study    {policy.study}, sworn to by {', '.join(site.name for site in policy.sites)}",
        f"model    {verified.model.model}",
        f"privacy  {privacy_words(policy.budget, verified.epsilon)}",
        "order    self-asserted: every witness is a party to the study",
        f"decided  {decided:%Y-%m-%d %H:%M:%S} UTC, by its witnesses' clocks",
        *judgement_lines(judgement),
    ]
    patient = None
    if receipt is not None and proof is not None:
        patient = _patient(verified, trusted, receipt, proof)
        lines += ["", *_patient_lines(patient)]
    data = VerifyAnswer(
        study=policy.study,
        policy=verified.policy_digest,
        model=verified.model.model,
        epsilon=verified.epsilon,
        verdict=judgement.verdict.value,
        reason=judgement.sentence,
        decided=verified.decided,
        steps=verified.steps,
        patient=patient,
    )
    answer("\n".join(lines), data, form)
    return judgement.verdict.exit


def _patient(verified: "Verified", trust: "Trust", receipt: Path, proof: Path) -> tuple["PatientCohort", ...]:
    from oathbound.cli.answers import PatientCohort
    from oathbound.evidence.patient import MAX_PROOF_FILE_BYTES, PatientProof, check_patient
    from oathbound.workflow.folders import read_file

    decoded = PatientProof.decode(read_file(proof, most=MAX_PROOF_FILE_BYTES))
    _, shown = check_patient(verified, trust, read_file(receipt), decoded)
    return tuple(PatientCohort(label=each.label, as_of=each.as_of, member=each.member) for each in shown)


def _patient_lines(cohorts: Iterable["PatientCohort"]) -> Iterator[str]:
    for cohort in cohorts:
        said = "the patient is in it" if cohort.member else "the patient is not in it"
        day = f"{datetime.fromtimestamp(cohort.as_of, UTC):%Y-%m-%d}"
        yield f"{cohort.label:<18} consents as of {day}: {said}"


def _seconds(at: str | None) -> int:
    if at is None:
        return int(time.time())
    try:
        moment = datetime.fromisoformat(at)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise WrongInput(f"not a time: {at}", hint="such as 2026-11-21 or 2026-11-21T18:00:00Z") from None
