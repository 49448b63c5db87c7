"""What all parties know before the first secure sum of a run: who sums, and how many are enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from oathbound.core.errors import WrongInput
from oathbound.core.study import LEAST_HONEST, Policy, quorum


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers that `spec/secure-sum.md` proves from: n sites, c of them colluding, at least m in a sum.

    `WrongInput` unless 0 <= c <= n - 2 and t <= m <= n, where t is the quorum. Then m - c >= 2: a sum holds
    two honest sites at least.
    """

    sites: int
    colluding: int
    least: int

    def __post_init__(self) -> None:
        if not 0 <= self.colluding <= self.sites - LEAST_HONEST:
            raise WrongInput(
                f"a secure sum of {self.sites} sites cannot protect against {self.colluding} that collude",
                hint="at least two sites must be honest: lower colluding",
            )
        if not self.quorum <= self.least <= self.sites:
            raise WrongInput(
                f"with {self.sites} sites, {self.colluding} colluding, a sum holds {self.quorum} at least",
                hint=f"set min_sites from {self.quorum} to {self.sites}",
            )

    @property
    def quorum(self) -> int:
        """How many must sign a list, and how many shares give a seed back: t = floor((n + c) / 2) + 1."""
        return quorum(self.sites, self.colluding)


@dataclass(frozen=True, slots=True)
class Terms:
    """One run's secure sums. A site's place is its number in the policy's order, from 1.

    `plan` is the policy's digest; `keys` verify what each site signs; vectors have `dimension` words.
    """

    run: str
    plan: str
    sites: tuple[str, ...]
    keys: tuple[Ed25519PublicKey, ...]
    thresholds: Thresholds
    dimension: int

    def __post_init__(self) -> None:
        if not len(self.sites) == len(self.keys) == self.thresholds.sites or self.dimension < 1:
            raise WrongInput("a secure sum needs one key for each site, and a vector of one word at least")
        if len({key.public_bytes_raw() for key in self.keys}) != len(self.keys):
            # else one site's signature of a list would count for two
            raise WrongInput("two sites of a secure sum have one key")

    @classmethod
    def of(cls, policy: Policy, *, run: str, keys: Mapping[str, Ed25519PublicKey], dimension: int) -> Self:
        """Return the terms of a run of `policy`; `keys` are by site, from the parties that it names."""
        sites = tuple(site.name for site in policy.sites)
        if keys.keys() != set(sites):
            raise WrongInput("a secure sum needs the keys of exactly the policy's sites")
        return cls(
            run=run,
            plan=policy.digest,
            sites=sites,
            keys=tuple(keys[site] for site in sites),
            thresholds=Thresholds(len(sites), policy.colluding, policy.min_sites),
            dimension=dimension,
        )

    def place(self, site: str) -> int:
        """Return a site's place, or raise `WrongInput`."""
        if site not in self.sites:
            raise WrongInput(f"{site} is not a site of this run")
        return self.sites.index(site) + 1

    def name(self, place: int) -> str:
        """Return the name of the site at `place`."""
        return self.sites[place - 1]

    def key(self, place: int) -> Ed25519PublicKey:
        """Return what verifies the signatures of the site at `place`."""
        return self.keys[place - 1]
