"""Whom a verifier trusts: names and fingerprints, compared out of band, never taken from a bundle.

The file is TOML; its page is `spec/trust.md`:

    format = "oathbound/trust/v1"

    [[party]]
    name = "hospital-a"
    fingerprint = "sha256:..."
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.record import Digest, Name, Record
from oathbound.evidence.keys import Party

_MAX_BYTES: Final = 1024 * 1024
_HINT: Final = "every party prints its fingerprint when it joins; compare it with them, not with the bundle"


class TrustedParty(Record):
    """A name and the fingerprint that was compared with its owner."""

    name: Name = Field(description="The party's name.")
    fingerprint: Digest = Field(
        description="The digest of its public keys, compared with its owner out of band."
    )


class Trust(Record):
    """The parties that a verifier trusts: at least one, each name and each fingerprint once."""

    format: Literal["oathbound/trust/v1"] = Field(description="The version of the trust file.")
    party: Annotated[tuple[TrustedParty, ...], Field(min_length=1)] = Field(
        description="Everybody whose signatures are believed; a bundle with another party is refused."
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = {party.name for party in self.party}
        fingerprints = {party.fingerprint for party in self.party}
        if not len(names) == len(fingerprints) == len(self.party):
            raise ValueError("a name or a fingerprint stands twice")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the trust in a TOML file, or raise `WrongInput`."""
        what = f"the trust file {path}"
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise WrongInput(f"{what} is larger than {_MAX_BYTES} bytes")
            values = tomllib.loads(data.decode())
        except OSError as error:
            raise WrongInput(f"{what} cannot be read: {error.strerror}", hint=_HINT) from None
        except (ValueError, RecursionError) as error:
            raise WrongInput(f"{what} is not TOML: {error}", hint=_HINT) from None
        return cls.parse(values, what=what)

    def admit(self, parties: Iterable[Party]) -> Mapping[str, Party]:
        """Return the parties by fingerprint; `NotAuthentic` if there are none, or one is not in the file."""
        trusted = {party.fingerprint: party.name for party in self.party}
        admitted = {party.fingerprint: party for party in parties}
        for fingerprint, party in admitted.items():
            if trusted.get(fingerprint) != party.name:
                raise NotAuthentic(f"{party.name} with {fingerprint} is not in the trust file", hint=_HINT)
        if not admitted:
            raise NotAuthentic("there is no party whose signatures could be trusted")
        return admitted
