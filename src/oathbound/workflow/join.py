"""`join`: make a site's folder, with keys of its own."""

from collections.abc import Mapping
from pathlib import Path

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.evidence.durable import synchronise
from oathbound.evidence.keys import Party, Secret
from oathbound.workflow.folders import SiteFolder, read_party, write_file

SITE_FILE = """\
# This site's own file. It is never shared, and nobody signs it.
format = "oathbound/site/v1"
name = "{name}"

[records]                 # where the records lie; they do not leave this machine
source = "{source}"
# "meds": a folder in the MEDS layout; "table": a file whose rows are patients, or of those in its `subject`;
# "scans": a table of images' paths; "wfdb": a folder of annotated signals (docs/guides/scans-and-signals.md)

[records.options]
{options}
[consents]
path = "{consents}"  # FHIR R4 or R5 Consent resources, one to a line

[budget]                  # the most that all studies together may spend of any one patient here
epsilon = "10"
delta = "1e-5"
"""

OWN_RECORDS = {"path": "records"}
OWN_CONSENTS = "consents.ndjson"


def join(
    path: Path,
    name: str,
    *,
    source: str = "meds",
    options: Mapping[str, str] | None = None,
    consents: str = OWN_CONSENTS,
) -> Party:
    """Make the site's folder, or return the public keys of the one that is there.

    `options` are the source's; relative paths start at the site's folder. Raises `WrongInput` when the
    folder is another site's, `Unavailable` when it cannot be written.
    """
    if (path / "party.json").exists():
        party = read_party(path / "party.json")
        if party.name != name:
            raise WrongInput(f"{path} is the folder of {party.name}", hint="choose another folder")
        if not (path / "keys" / "site.key").exists():
            raise WrongInput(
                f"the secret key of {path} is gone",
                hint="restore keys/site.key from a copy: without it the site can state nothing more",
            )
        return party
    secret = secret_in(path / "keys" / "site.key", name)
    if (path / "site.toml").exists():
        # what somebody wrote there stands, a budget above all: only what was lost is made again
        if SiteFolder.open(path).file.name != name:
            raise WrongInput(f"{path} is the folder of another site", hint="choose another folder")
        write_file(path / "party.json", secret.party().encoded())
        return secret.party()
    table = options or OWN_RECORDS
    for text in (*table.values(), consents):
        if not text.isprintable() or '"' in text or "\\" in text:
            raise WrongInput("a path holds a quote, a backslash or a control character", hint="rename it")
    lines = "".join(f'{key} = "{value}"\n' for key, value in table.items())
    text = SITE_FILE.format(name=name, source=source, options=lines, consents=consents)
    ignore(path, "*\n")
    write_file(path / "site.toml", text.encode())
    write_file(path / "party.json", secret.party().encoded())
    return secret.party()


def ignore(path: Path, patterns: str) -> None:
    """Keep a folder's keys out of git, unless somebody has said already what is ignored there."""
    if not (path / ".gitignore").exists():
        write_file(path / ".gitignore", patterns.encode())


def secret_in(path: Path, name: str) -> Secret:
    """Return the secret key in the file, made if it is not there."""
    if path.exists():
        return Secret.load(path)
    secret = Secret.generate(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        synchronise(path.parent.parent)
    except OSError as error:
        raise Unavailable(f"{path.parent} cannot be made: {error.strerror}") from None
    secret.save(path)
    return secret
