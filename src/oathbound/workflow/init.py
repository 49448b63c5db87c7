"""`init`: a commented study file and the coordinator's keys; with an example, sites to play with as well."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template

from oathbound.core.errors import WrongInput
from oathbound.data.invented import invent_records
from oathbound.data.simulate import generate_consents
from oathbound.evidence.keys import Party
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, read_party, write_file
from oathbound.workflow.join import ignore, join, secret_in
from oathbound.workflow.records import source_of
from oathbound.workflow.release import trust_of

SITES = ("north", "east", "south")
INVENTED_PATIENTS = 240
"""At each site of the example."""

NAME = re.compile("[a-z][a-z0-9-]{0,62}")

_PLACEHOLDER = "paste the fingerprint that `oathbound join` printed at this site"


def init(path: Path, parties: Sequence[Path]) -> Party:
    """Make a study's folder with a study file to fill in, and return the coordinator's public keys.

    `parties` are files of sites' public keys, as far as they are there; the file has places for the others.
    """
    known = [read_party(file) for file in parties]
    members = [(party.name, party.fingerprint) for party in known]
    members += [(name, _PLACEHOLDER) for name in SITES[len(members) :]]
    coordinator = write_study(path, "study.toml", members, folder="sites")
    for party in known:  # every site needs the others' keys, also where no folder is shared
        write_file(path / "parties" / f"{party.name}.json", party.encoded())
    return coordinator


def init_example(path: Path, *, now: int) -> Party:
    """Make a study of three invented hospitals that runs as it is, with their folders and a trust file."""
    study_name(path)
    parties = []
    for number, name in enumerate(SITES, start=1):
        site = path / "sites" / name
        parties.append(join(site, name))
        invent_records(site / "records", patients=INVENTED_PATIENTS, seed=number)
        write_simulated_consents(SiteFolder.open(site), now=now)
    members = [(party.name, party.fingerprint) for party in parties]
    coordinator = write_study(path, "study.toml", members, folder="sites")
    write_trust(path / "trust.toml", StudyFolder.open(path))
    return coordinator


def study_name(path: Path) -> str:
    """Return the name of the study in a folder, which is the folder's; `WrongInput` if it cannot be one."""
    name = path.resolve().name
    if not NAME.fullmatch(name):
        raise WrongInput(
            f"a study cannot be named {name!r}, after its folder",
            hint="choose a folder of lower-case letters, digits and hyphens, beginning with a letter",
        )
    return name


def write_study(path: Path, template: str, sites: Sequence[tuple[str, str]], *, folder: str) -> Party:
    """Write a template's study file and the coordinator's keys; `WrongInput` if another study is there."""
    name = study_name(path)
    secret = secret_in(path / "keys" / "coordinator.key", "coordinator")
    party = secret.party()
    tables = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "{print_}"\n\n' for name, print_ in sites
    )
    text = Template((files("oathbound.workflow") / "templates" / template).read_text()).substitute(
        study=name, coordinator=party.fingerprint, sites=tables, folder=folder
    )
    file = path / "study.toml"
    if file.exists() and read_file(file) != text.encode():
        raise WrongInput(f"{file} exists", hint="a study is not overwritten; name another folder")
    ignore(path, "keys/\nrun/\nsites/\n")
    write_file(path / "parties" / "coordinator.json", party.encoded())
    write_file(file, text.encode())
    return party


def write_trust(path: Path, study: StudyFolder) -> None:
    """Write a trust file of everybody in the policy: for examples alone, where nobody can be telephoned."""
    lines = ['format = "oathbound/trust/v1"', ""]
    for party in trust_of(study).party:
        lines += ["[[party]]", f'name = "{party.name}"', f'fingerprint = "{party.fingerprint}"', ""]
    write_file(path, "\n".join(lines).encode())


def write_simulated_consents(site: SiteFolder, *, now: int) -> None:
    """Write a consent for most of the site's subjects, unless the site has a file of consents."""
    if site.consents.exists():
        return
    subjects: Iterable[int] = source_of(site).subjects()
    resources = generate_consents(subjects, datetime.fromtimestamp(now, UTC), seed=1)
    write_file(site.consents, "".join(json.dumps(resource) + "\n" for resource in resources).encode())
