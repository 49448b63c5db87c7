"""The folders on disk: a study's, kept by its coordinator, and a site's, kept by a hospital.

STUDY/study.toml          the policy, and how this machine runs it
STUDY/keys/               the coordinator's secret key
STUDY/parties/            public keys of every party
STUDY/log/                the study's log, with its cosigned checkpoints
STUDY/model/              the model, once trained; run/ what a resumed training needs

SITE/site.toml            where records and consents lie; never shared
SITE/keys/                the site's secret key
SITE/party.json           the site's public keys
SITE/state.sqlite         consents, cohorts and budgets
SITE/studies/<study>/log/ the site's own log of one study
SITE/witness/             the last checkpoint that the site cosigned of each log
"""

import fcntl
import os
import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from oathbound.core.errors import NotAuthentic, Refused, Unavailable, WrongInput
from oathbound.core.record import Exact, Name, Record, Text
from oathbound.core.study import Member, Policy, Study
from oathbound.evidence.durable import replace_file
from oathbound.evidence.heads import origin
from oathbound.evidence.keys import Party, Secret
from oathbound.evidence.log import Log

MAX_TOML_BYTES = 16 * 1024 * 1024
MAX_OUT_BYTES = 64 * 1024 * 1024


class RecordsAt(Record):
    """Where a site's records lie: the kind of source, and its options as text."""

    source: Name = Field(
        description=(
            "The kind of source: meds, a folder in the MEDS layout; table, a file whose rows are patients; "
            "scans, a table of PNG, npz or DICOM files; wfdb, a folder of signals with annotated beats; "
            "nafld, heart and nodules, the cohorts of the demos."
        )
    )
    options: dict[str, str] = Field(
        description="Its options, which `oathbound explain KIND` tells; paths start at the site's folder."
    )


class ConsentsAt(Record):
    """The site's FHIR R4 or R5 Consent resources, one to a line (NDJSON)."""

    path: Text = Field(description="The file, relative to the site's folder.")


class SiteBudget(Record):
    """The most that the site lets all studies together spend of any one patient."""

    epsilon: Exact = Field(ge=0, description="The most epsilon of all studies together, at delta.")
    delta: Exact = Field(ge=0, lt=1, description="The most delta of all studies together.")


class SiteFile(Record):
    """A site's own file: never shared, and signed by nobody."""

    format: Literal["oathbound/site/v1"] = Field(description="The version of the site's file.")
    name: Name = Field(description="The site's name, as studies list it.")
    records: RecordsAt = Field(description="Where the records lie; they do not leave this machine.")
    consents: ConsentsAt = Field(description="FHIR Consent resources, one to a line.")
    budget: SiteBudget = Field(
        description="The most that all studies together may spend of any one patient here."
    )


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """One hospital's folder."""

    path: Path
    file: SiteFile

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the site in the folder; `WrongInput` when there is none, or its site.toml is wrong."""
        file = path / "site.toml"
        read = read_toml(file, hint="make one with: oathbound join DIR --site NAME")
        return cls(path, SiteFile.parse(read, what=str(file)))

    @property
    def state(self) -> Path:
        """The SQLite file of consents, cohorts and budgets."""
        return self.path / "state.sqlite"

    @property
    def consents(self) -> Path:
        """The file of consents."""
        return self.path / self.file.consents.path

    def secret(self) -> Secret:
        """Return the site's secret key; `WrongInput` for that of another party."""
        secret = Secret.load(self.path / "keys" / "site.key")
        if secret.name != self.file.name:
            raise WrongInput(
                f"the key in {self.path} is of {secret.name}, and site.toml of {self.file.name}",
                hint="correct the name in site.toml",
            )
        return secret

    def log(self, policy: Policy) -> Log:
        """Return the site's own log of one study, made if it is not there."""
        return Log.open(self.path / "studies" / policy.study / "log", origin(policy, self.file.name))

    def said(self) -> dict[str, list[bytes]]:
        """Return the leaves of the site's own logs, by study, also of those that are in use."""
        return {log.parent.name: Log.read(log) for log in sorted(self.path.glob("studies/*/log"))}


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """A study's folder, on the coordinator's machine."""

    path: Path
    study: Study

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the study in the folder, or of the study file; `WrongInput` when it is missing or wrong."""
        file = path if path.suffix == ".toml" else path / "study.toml"
        read = read_toml(file, hint="name the study's folder; a new one is made with: oathbound init DIR")
        return cls(file.parent, Study.of(read, what=str(file)))

    @property
    def policy(self) -> Policy:
        """What every site signs."""
        return self.study.policy

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.path / "model"

    @property
    def snapshot(self) -> Path:
        """The state of a training that is under way."""
        return self.path / "run" / "snapshot"

    def secret(self) -> Secret:
        """Return the coordinator's secret key."""
        return Secret.load(self.path / "keys" / "coordinator.key")

    def log(self) -> Log:
        """Return the study's log."""
        return Log.open(self.path / "log", origin(self.policy, self.policy.coordinator.name))

    def site(self, name: str) -> SiteFolder:
        """Return the folder of one of the study's sites; `WrongInput` for another name."""
        if self.policy.site(name) is None:
            names = ", ".join(site.name for site in self.policy.sites)
            raise WrongInput(f"{name} is not a site of this study", hint=f"its sites are: {names}")
        site = SiteFolder.open(self.path / self.study.run.sites / name)
        if site.file.name != name:
            raise WrongInput(
                f"{site.path / 'site.toml'} is of {site.file.name}, not of {name}", hint="correct its name"
            )
        return site

    def sites(self) -> list[SiteFolder]:
        """Return the folders of all sites, in the policy's order."""
        return [self.site(site.name) for site in self.policy.sites]

    def parties(self) -> dict[str, Party]:
        """Return the public keys of all parties by name, each checked against the policy's fingerprint."""
        return {member.name: self._party(member.name, member.fingerprint) for member in self._members()}

    def keep_party(self, party: Party) -> None:
        """Keep a party's public keys with the study, checked against the policy's fingerprint."""
        member = next((member for member in self._members() if member.name == party.name), None)
        if member is None or member.fingerprint != party.fingerprint:
            raise NotAuthentic(
                f"the keys of {party.name} are not those that the study names",
                hint="compare the fingerprint with the person who keeps the keys, and correct study.toml",
            )
        write_file(self.path / "parties" / f"{party.name}.json", party.encoded())

    def locked(self) -> AbstractContextManager[None]:
        """Hold the study for one verb at a time; `Unavailable` while another process holds it."""
        return alone(self.path / ".lock", "another oathbound is at work on this study")

    def _members(self) -> list[Member]:
        return [self.policy.coordinator, *self.policy.sites]

    def _party(self, name: str, fingerprint: str) -> Party:
        file = self.path / "parties" / f"{name}.json"
        if not file.exists():
            raise Refused(
                f"{name} did not swear to the policy yet",
                hint=f"at {name}: oathbound oath --site {name} STUDY",
            )
        party = read_party(file)
        if party.fingerprint != fingerprint:
            raise NotAuthentic(f"the keys of {name} are not those that the study names")
        return party


@contextmanager
def alone(lock: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock file for one process at a time; `Unavailable`, which says `otherwise`, where it is held."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"{lock.parent} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Unavailable(otherwise, hint="wait until it has ended, then try again") from None
    try:
        yield
    finally:
        os.close(descriptor)


def read_party(path: Path) -> Party:
    """Return the public keys in the file; `WrongInput` if unreadable, `NotAuthentic` if malformed."""
    return Party.decode(read_file(path, hint="a party's public keys come from its own `oathbound join`"))


def read_file(path: Path, *, hint: str = "", most: int = MAX_TOML_BYTES) -> bytes:
    """Return the file's bytes; `WrongInput` when it is missing (`hint`), unreadable or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except OSError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise WrongInput(f"{path} is larger than {most} bytes")
    return data


def read_toml(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Return the TOML file as a mapping; `WrongInput` when it cannot be read or is not TOML."""
    try:
        # some editors begin a file with a byte order mark
        return tomllib.loads(read_file(path, hint=hint).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{path} is not TOML: {error}") from None


def check_out(path: Path, beginning: bytes) -> None:
    """Refuse to write over anything but an earlier file of the same kind, which begins so."""
    if path.is_dir():
        raise WrongInput(f"{path} is a folder", hint="name a file")
    if path.exists() and not read_file(path, most=MAX_OUT_BYTES).startswith(beginning):
        raise WrongInput(f"{path} is something else, and is not overwritten", hint="name another file")


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone can read; raises what `check_new` raises."""
    check_new(path)
    write_file(path, data, mode=0o600)


def check_new(path: Path) -> None:
    """Refuse, before anything is done, a file that is there (`WrongInput`) or cannot be made."""
    if path.exists():
        raise WrongInput(f"{path} is there already, and is not overwritten", hint="name another file")
    if not os.access(path.parent, os.W_OK):
        raise Unavailable(
            f"{path} cannot be written", hint="name a file in a folder that is there, and yours"
        )


def write_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the file durably: a reader sees the old bytes or the new ones, also after a power cut.

    `mode` is less what the process' mask takes away.
    """
    try:
        replace_file(path, data, mode=mode)
    except BlockingIOError:
        raise Unavailable(
            f"another oathbound is writing {path}", hint="wait until it has ended, then try again"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written: {error.strerror}", hint="is the disk full, or read-only?"
        ) from None
