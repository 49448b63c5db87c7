"""Privacy events: what was done to patients' records, as data. Epsilon is computed from them, never stored.

The vocabulary of `dp_accounting`'s `DpEvent`, cut to the mechanisms that oathbound trains with.
"""

from typing import Annotated, Literal

from pydantic import Field

from oathbound.core.bands import MOST_BANDS
from oathbound.core.record import Count, Exact, Record


class Noised(Record):
    """Repeated sums over patients, with discrete Gaussian noise shares from every site.

    Each patient adds at most `ring_norm` (an integer l2 norm) to a vector of `dimension` ring elements, and
    each site adds discrete Gaussian noise of parameter `share_sigma` per coordinate. `honest_shares` is the
    least number of shares in an opened sum that the attacker does not know: sites in the sum less colluding
    sites; `shares` is the number of all of them. `tail` bounds the total variation distance of one draw of
    the sampler from the exact discrete Gaussian. A person is a patient of at most `sites_per_patient` of the
    sites.
    """

    ring_norm: Annotated[int, Field(gt=0, lt=2**31)]
    share_sigma: Exact = Field(ge=8)
    honest_shares: Annotated[int, Field(ge=2, le=1000)]
    shares: Annotated[int, Field(ge=2, le=1000)]
    dimension: Annotated[int, Field(gt=0, le=2**40)]
    tail: Exact = Field(ge=0, lt=1)
    sites_per_patient: Annotated[int, Field(ge=1, le=50)]
    attempts: Count


class SampledGaussian(Noised):
    """Poisson-sampled sums: each attempt includes each patient independently with chance `sampling_rate`."""

    mechanism: Literal["sampled-gaussian"]
    sampling_rate: Exact = Field(gt=0, le=1)


class BandedToeplitz(Noised):
    """Sums over fixed groups that take turns, correlated over as many attempts as there are groups.

    Each patient is, at a site, in one of b groups, where b is the number of `coefficients`; attempt t is of
    the group t mod b. What is noised in attempt t is c_0 times the sum of its group, plus c_j times that of
    the group of attempt t - j, for 1 <= j < b.
    """

    mechanism: Literal["banded-toeplitz"]
    coefficients: tuple[Annotated[int, Field(ge=1, le=2**16)], ...] = Field(
        min_length=2, max_length=MOST_BANDS
    )


class Unbounded(Record):
    """Records were used without a bound: no epsilon holds for the patients whose records these were."""

    mechanism: Literal["unbounded"]
    attempts: Count


Bounded = SampledGaussian | BandedToeplitz
"""An event that an epsilon can be computed from."""

PrivacyEvent = Annotated[Bounded | Unbounded, Field(discriminator="mechanism")]
