"""`oathbound patient receipt`, `withdraw`, `proof` and `models`: what a site owes to one patient."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption

SiteFolderArgument = Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")]
PatientOption = Annotated[
    int,
    typer.Option(
        "--patient", metavar="NUMBER", min=0, max=2**63 - 1, help="The patient, by the site's own number."
    ),
]
OutOption = Annotated[
    Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write; it is the patient's to keep.")
]


def receipt(
    site: SiteFolderArgument, patient: PatientOption, out: OutOption, form: FormatOption = Format.TEXT
) -> None:
    """At a site: give a patient a signed receipt.

    It says what the patient allowed, and holds the key with which they can check what was done.
    """
    from oathbound.workflow.folders import SiteFolder
    from oathbound.workflow.patient import give_receipt

    _written(give_receipt(SiteFolder.open(site), patient, now=int(time.time())), site, out, form)


def withdraw(
    site: SiteFolderArgument, patient: PatientOption, out: OutOption, form: FormatOption = Format.TEXT
) -> None:
    """At a site: end the use of a patient's records.

    It takes effect in the next round of training and in the next audit. The receipt says since when.
    """
    from oathbound.core.errors import Unavailable
    from oathbound.workflow.folders import SiteFolder, check_new
    from oathbound.workflow.patient import withdraw as end

    check_new(out)
    signed = end(SiteFolder.open(site), patient, now=int(time.time()))
    try:
        _written(signed, site, out, form)
    except Unavailable as error:
        hint = "the withdrawal is recorded all the same; for its receipt: oathbound patient receipt"
        raise Unavailable(error.message, hint=hint) from None


def _written(signed: bytes, site: Path, out: Path, form: Format) -> None:
    from oathbound.cli.answers import PatientReceiptAnswer
    from oathbound.evidence.patient import Receipt
    from oathbound.workflow.folders import SiteFolder, write_private

    party = SiteFolder.open(site).secret().party()
    opened = Receipt.opened(signed, {party.fingerprint: party})
    write_private(out, signed)
    lines = [f"from       {opened.site}, {_day(opened.issued)}"]
    for consent in opened.consents:
        given = f", given {consent.given}" if consent.given else ""
        lines.append(f"consent    {consent.status}{given}: {consent.rule}")
    if not opened.consents:
        lines.append("consent    none")
    if opened.withdrawn is not None:
        lines.append(
            f"withdrawn  {_day(opened.withdrawn)}: in no later round of training, and no later audit"
        )
        if opened.withdrawn > opened.issued:
            lines.append(
                "clock      by this machine's clock records were used in the future: the withdrawal has the "
                "date of that use, and holds from now on"
            )
    lines.append(f"wrote      {out}: hand it to the patient and keep no copy, for it holds their key")
    if opened.withdrawn is None:
        lines.append(opened.how_to_withdraw)
    data = PatientReceiptAnswer(
        site=opened.site,
        issued=opened.issued,
        consents=opened.consents,
        withdrawn=opened.withdrawn,
        receipt=str(out),
    )
    answer("\n".join(lines), data, form)


def proof(
    site: SiteFolderArgument,
    patient: PatientOption,
    study: Annotated[str, typer.Option("--study", metavar="NAME", help="The study, by its name.")],
    out: OutOption,
    form: FormatOption = Format.TEXT,
) -> None:
    """At a site: prove where a patient was used, and where not.

    For every cohort of a study. The patient checks it with the receipt, the study's bundle and `verify`.
    """
    from oathbound.cli.answers import PatientProofAnswer
    from oathbound.workflow.folders import SiteFolder, write_private
    from oathbound.workflow.patient import prove

    made = prove(SiteFolder.open(site), patient, study)
    write_private(out, made.encode())
    text = (
        f"wrote {out}: {len(made.proofs)} proofs\n"
        f"check  oathbound verify BUNDLE --trust FILE --receipt RECEIPT --proof {out}"
    )
    data = PatientProofAnswer(site=made.site, policy=made.policy, cohorts=tuple(made.proofs), proof=str(out))
    answer(text, data, form)


def models(
    site: SiteFolderArgument,
    patient: PatientOption,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", metavar="FILE", help="A study's bundle; once for each that there is."),
    ] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="Whom you trust, to read bundles.")
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """At a site: list the models that learnt from a patient.

    Each is bounded, by patient-level privacy and a passed audit, or unbounded; unknown without its bundle.
    """
    from oathbound.cli.answers import PatientModelsAnswer, PatientStudy
    from oathbound.core.errors import WrongInput
    from oathbound.evidence.bundle import read_bundle
    from oathbound.evidence.trust import Trust
    from oathbound.evidence.verify import verify
    from oathbound.workflow.folders import SiteFolder
    from oathbound.workflow.patient import lineage

    if bundle and trust is None:
        raise WrongInput("a bundle is read with a trust file", hint="name it with --trust")
    now = int(time.time())
    verified = [verify(read_bundle(each), Trust.load(trust), at=now) for each in bundle or () if trust]
    found = lineage(SiteFolder.open(site), patient, verified)
    words = {
        "bounded": "bounded: patient-level privacy held, and the audit passed",
        "unbounded": "unbounded: to forget this patient, it has to be trained again without them",
        "unknown": "unknown: give the study's bundle with --bundle and --trust",
        "none": "did not learn from this patient",
    }
    lines = [f"{each.study:<16} {each.part:<10} {words[each.bound]}" for each in found]
    studies = tuple(
        PatientStudy(study=each.study, part=each.part, uses=each.uses, model=each.model, bound=each.bound)
        for each in found
    )
    data = PatientModelsAnswer(studies=studies)
    answer("\n".join(lines) or "no study has drawn this patient", data, form)


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
