"""`oathbound join`."""

from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption
from oathbound.core.errors import WrongInput

MOST_PARTS = 100
TABLES = (".csv", ".parquet")


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder of this site.")],
    site: SiteOption,
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="PATH",
            help="The records: a folder in the MEDS layout, or a table (.csv, .parquet).",
        ),
    ] = None,
    consents: Annotated[
        Path | None,
        typer.Option("--consents", metavar="FILE", help="FHIR R4 or R5 Consent resources, one to a line."),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            "--part", metavar="I/N", help="Simulate a hospital: one of N equal parts of the records."
        ),
    ] = "",
    form: FormatOption = Format.TEXT,
) -> None:
    """At a site: make its folder and keys.

    Prints the fingerprint to exchange.
    """
    from oathbound.cli.answers import JoinAnswer
    from oathbound.workflow.join import OWN_CONSENTS, OWN_RECORDS, join

    there = (folder / "site.toml").exists()
    if there and (records or consents or part):
        raise WrongInput(f"{folder} is there already", hint=f"edit {folder / 'site.toml'}")
    for path in filter(None, (records, consents)):
        if not path.exists():
            raise WrongInput(f"{path} does not exist", hint="name where the records, or the consents, lie")
    options = {"path": str(records.resolve())} if records else dict(OWN_RECORDS)
    is_table = records is not None and records.suffix.lower() in TABLES
    if records is not None and not is_table and not records.is_dir():
        raise WrongInput(
            f"{records} is neither a folder of records nor a table",
            hint="a folder in the MEDS layout, or a file that ends in .csv or .parquet",
        )
    if is_table and records is not None:
        _check_of_patients(records, folder)
    party = join(
        folder,
        site,
        source="table" if is_table else "meds",
        options=options | _division(part),
        consents=str(consents.resolve()) if consents else OWN_CONSENTS,
    )
    verb = "found" if there else "wrote"
    text = "\n".join(
        (
            f"{site}: {party.fingerprint}",
            f"{verb} {folder / 'site.toml'}: records and consents; and {folder / 'party.json'}: public keys",
            "Tell the fingerprint to the coordinator and to verifiers, by telephone.",
        )
    )
    answer(text, JoinAnswer(name=party.name, fingerprint=party.fingerprint, made=not there), form)


def _check_of_patients(table: Path, folder: Path) -> None:
    """Refuse a table that lists scans: read as a table, each of its rows would be facts of a patient."""
    from oathbound.data.table import header_of

    if {"subject_id", "path"} <= set(header_of(table)):
        raise WrongInput(
            f"{table.name} has the columns subject_id and path: it lists scans, or is ambiguous",
            hint=f'join without --records; then in {folder / "site.toml"} write source = "scans", '
            'and path, rows and columns; or source = "table" and path, subject',
        )


def _division(part: str) -> dict[str, str]:
    if not part:
        return {}
    place, _, count = part.partition("/")
    if not (place.isdecimal() and count.isdecimal() and 1 <= int(place) <= int(count) <= MOST_PARTS):
        raise WrongInput(f"not a part: {part}", hint="such as --part 1/3")
    return {"parts": ",".join(["1"] * int(count)), "part": place}
