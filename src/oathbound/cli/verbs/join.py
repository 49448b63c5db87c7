"""`oathbound join`."""

from pathlib import Path
from typing import Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder of this site.")],
    site: SiteOption,
    form: FormatOption = Format.TEXT,
) -> None:
    """At a site: make its folder and keys, and print the fingerprint to exchange."""
    from oathbound.workflow.join import join  # noqa: PLC0415 - a verb imports what it needs, when it is called

    party = join(folder, site)
    text = "\n".join(
        (
            f"{site}: {party.fingerprint}",
            "",
            "Tell the coordinator by telephone, for the study file; and verifiers, for their trust files.",
            f"Next: describe records and consents in {folder / 'site.toml'}",
        )
    )
    answer(text, {"format": "oathbound/join/v1", "name": party.name, "fingerprint": party.fingerprint}, form)
