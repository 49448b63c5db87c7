"""`doctor`: whether a site is set up as it should be. It tells nothing of a record, and changes nothing."""

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from oathbound.core.errors import OathboundError, Refused, Unavailable, WrongInput
from oathbound.core.extras import not_installed
from oathbound.data.fhir import read_consents
from oathbound.data.store import SiteStore
from oathbound.evidence.note import witnesses
from oathbound.evidence.predicates import Admission, Oath
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file
from oathbound.workflow.ledgers import check_remembered
from oathbound.workflow.notary import check_sworn, said_by
from oathbound.workflow.records import source_of
from oathbound.workflow.site_kit import read_json, wrong_in_authorization, wrong_in_resources

LEAST_FREE_BYTES: Final = 1024**3
FLARE: Final = ((2, 9), (2, 10))
"""The versions of FLARE that were tried: from the first, and before the second."""

_OPEN_TO_OTHERS: Final = 0o077
_KIT_HINT: Final = "python -P -m oathbound.workflow.site_kit KIT writes both files; then start FLARE again"


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at; `wrong` says what is wrong with it, and is empty where nothing is."""

    what: str
    wrong: str = ""
    hint: str = ""


def examine(study: StudyFolder, name: str, *, kit: Path | None, now: int) -> tuple[Examined, ...]:
    """Look at a site of a study, and at its FLARE kit if one is given.

    Raises `WrongInput` for a name that the study does not have, or where the site has no folder.
    """
    site = study.site(name)
    looks: list[tuple[str, Callable[[], Iterator[Examined]]]] = [
        ("keys", lambda: _keys(study, site)),
        ("modes", lambda: _closed((site.path / "keys", site.state))),
        ("folder", lambda: _folder(site)),
        ("consents", lambda: _consents(site)),
        ("records", lambda: _records(study, site)),
        ("policy", lambda: _policy(study, site)),
        ("state", lambda: _state(site)),
        ("clock", lambda: _clock(study, site, now)),
    ]
    if kit is not None:
        looks.append(("flare", lambda: _flare(name, kit)))
    found = (each for what, look in looks for each in _looked(what, look))
    return tuple({each.wrong or each.what: each for each in found}.values())  # what several looks meet, once


def _looked(what: str, look: Callable[[], Iterator[Examined]]) -> Iterator[Examined]:
    """Yield what a look finds; one that cannot be finished is something wrong, too."""
    try:
        yield from look()
    except OathboundError as error:
        yield Examined(what, error.message, error.hint)
    except ModuleNotFoundError as error:
        if (absent := not_installed(error)) is None:
            raise
        yield Examined(what, absent.message, absent.hint)


def _keys(study: StudyFolder, site: SiteFolder) -> Iterator[Examined]:
    secret, member = site.secret(), study.policy.site(site.file.name)
    yield Examined("the secret key is the site's alone")
    same = member is not None and secret.party().fingerprint == member.fingerprint
    yield Examined(
        "the policy names this key",
        "" if same else "the policy names another fingerprint",
        "" if same else "compare it with whoever wrote study.toml, and correct it before anybody swears",
    )


def _closed(paths: Iterable[Path]) -> Iterator[Examined]:
    for path in paths:
        if path.exists():
            open_ = stat.S_IMODE(path.stat().st_mode) & _OPEN_TO_OTHERS
            yield Examined(
                f"{path.name} is closed to other users",
                f"{path} may be opened by other users of this machine" if open_ else "",
                f"chmod go-rwx {path}" if open_ else "",
            )


def _folder(site: SiteFolder) -> Iterator[Examined]:
    writable = os.access(site.path, os.W_OK)
    yield Examined("the folder can be written", "" if writable else f"{site.path} cannot be written")
    free = shutil.disk_usage(site.path).free
    yield Examined("the disk has space", "" if free >= LEAST_FREE_BYTES else "less than 1 GiB is free")


def _consents(site: SiteFolder) -> Iterator[Examined]:
    if not site.consents.exists():
        raise WrongInput(
            f"{site.consents} is not there",
            hint="export the patients' FHIR Consents into it, or correct [consents] in site.toml",
        )
    read_consents(site.consents)
    yield Examined("consents can be read")


def _records(study: StudyFolder, site: SiteFolder) -> Iterator[Examined]:
    """Open the source as `admit` would; what it holds is not told, nor how much."""
    source_of(site, study.policy).subjects()
    yield Examined("the records can be opened")


def _policy(study: StudyFolder, site: SiteFolder) -> Iterator[Examined]:
    """Compare the study file with what the site has sworn to, if it has."""
    party = site.secret().party()
    leaves = site.said().get(study.policy.study, [])
    if said_by(party, leaves, Oath):
        check_sworn(party, leaves, study.policy)
        yield Examined("the policy is the one that the site swore to")


def _state(site: SiteFolder) -> Iterator[Examined]:
    """Compare the site's state with what its logs say that it did."""
    party = site.secret().party()
    if site.state.exists():
        with SiteStore.open(site.state) as store:
            check_remembered(site, store)
    elif any(said_by(party, leaves, Admission) for leaves in site.said().values()):
        raise Refused(
            f"{site.state} is gone, and the site has admitted patients",
            hint="restore it: what was charged must not be forgotten",
        )
    yield Examined("the state has forgotten nothing that the site's logs say")


def _clock(study: StudyFolder, site: SiteFolder, now: int) -> Iterator[Examined]:
    """Compare the clock with the times at which checkpoints were cosigned that the site has seen."""
    memories = sorted((site.path / "witness").glob("*.note"))
    trusted = {party.fingerprint: party for party in study.parties().values()} if memories else {}
    latest = max(
        (seen.time for memory in memories for seen in witnesses(read_file(memory), trusted)), default=0
    )
    behind = now < latest
    yield Examined(
        "the clock is not behind what was cosigned",
        "this machine's clock is behind the time of a cosignature" if behind else "",
        "set it by a time server" if behind else "",
    )


def _flare(name: str, kit: Path) -> Iterator[Examined]:
    for file, wrong_in in (
        ("authorization.json", wrong_in_authorization),
        ("resources.json", wrong_in_resources),
    ):
        wrong = "; ".join(wrong_in(read_json(kit / "local" / file)))
        yield Examined(
            f"{file} lets jobs be data", f"{file}: {wrong}" if wrong else "", _KIT_HINT if wrong else ""
        )
    client = read_json(kit / "startup" / "fed_client.json").get("client", {})
    called = client.get("fqsn", client.get("name", name)) if isinstance(client, dict) else ""
    yield Examined("FLARE calls the site by its name", "" if called == name else f"FLARE calls it {called!r}")
    yield from _closed(sorted((kit / "startup").glob("*.key")))
    try:
        found = version("nvflare")
    except PackageNotFoundError:
        raise Unavailable("nvflare is not installed", hint="pip install 'oathbound[nvflare]'") from None
    number = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    tried = FLARE[0] <= number < FLARE[1]
    yield Examined(
        "this FLARE was tried",
        "" if tried else f"nvflare {found} was never tried",
        "" if tried else "pip install 'oathbound[nvflare]'",
    )
