"""`oathbound data list`, `oathbound data get`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer, bar
from oathbound.cli.verbs.options import FormatOption


def list_sets(form: FormatOption = Format.TEXT) -> None:
    """List the public data sets that can be downloaded.

    Their digests are fixed in oathbound; the network is not used.
    """
    from oathbound.cli.answers import DataListAnswer, DataSetAnswer
    from oathbound.data.recipes import RECIPES

    recipes = RECIPES.values()
    lines = [
        f"{recipe.name:<14} {recipe.version:<6} {recipe.size / 1e6:>5.1f} MB  {recipe.people:,} people, "
        f"{recipe.sites} hospital{'s' * (recipe.sites > 1)}; {recipe.licence}; {recipe.title}"
        for recipe in recipes
    ]
    sets = tuple(
        DataSetAnswer(
            name=recipe.name,
            version=recipe.version,
            title=recipe.title,
            people=recipe.people,
            sites=recipe.sites,
            licence=recipe.licence,
            cite=recipe.cite,
            address=recipe.address,
            files={file.path: f"sha256:{file.sha256}" for file in recipe.files},
        )
        for recipe in recipes
    )
    answer("\n".join(lines), DataListAnswer(sets=sets), form)


def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, by its name in the list.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier try.")],
    form: FormatOption = Format.TEXT,
) -> None:
    """Download a public data set, and make its records.

    Run it again to go on with a download that was cut. Every file is checked against its published digest.
    """
    from oathbound.cli.answers import DataGetAnswer
    from oathbound.workflow.fetch import fetch, recipe_of

    recipe = recipe_of(name)
    if form is Format.TEXT:
        sys.stderr.write(f"{recipe.notice}\n\n")
    with bar(f"get {name}") as watch:
        fetched = fetch(recipe, folder, watch=watch)
    held = len(recipe.files) - fetched.downloaded
    lines = [
        f"files    {fetched.downloaded} downloaded, {held} there already; every SHA-256 is the published one",
        *(f"records  {records}" for records in fetched.records),
        "next     oathbound join DIR --site NAME --records RECORDS --consents FILE",
    ]
    data = DataGetAnswer(
        name=recipe.name,
        version=recipe.version,
        licence=recipe.licence,
        cite=recipe.cite,
        downloaded=fetched.downloaded,
        records=tuple(map(str, fetched.records)),
    )
    answer("\n".join(lines), data, form)
