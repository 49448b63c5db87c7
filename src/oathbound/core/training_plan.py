"""The plan of training and its budget: `[policy.training]` and `[policy.budget]` of the study file."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.bands import MOST_BANDS
from oathbound.core.local_training import LocalTraining
from oathbound.core.record import Exact, Record
from oathbound.core.shape import Positive


class Training(Record):
    """The plan of training: public constants, equal at every site."""

    members: Positive = Field(
        description=(
            "The planned number N of members over all sites; every sum is divided by sampling_rate times N."
        )
    )
    sampling_rate: Exact = Field(
        gt=0, le=1, description="The chance of each member to be in a step, by a coin of its own."
    )
    steps: Positive = Field(description="The number of steps that completes the plan.")
    attempts: Positive = Field(
        description="The most that may be charged; a step that was interrupted costs one more."
    )
    round_steps: Positive = Field(
        description="Consents are read anew, and withdrawals take effect, after at most so many steps."
    )
    learning_rate: Exact = Field(gt=0, le=10, description="Of the optimiser, after the warm-up.")
    warmup: Annotated[int, Field(ge=0)] = Field(
        description="Steps in which the learning rate rises to its value."
    )
    ring_norm: Annotated[int, Field(ge=256, le=2**14)] = Field(
        description="The largest l2 norm of one patient's update, as an integer: exact; unused with local."
    )
    clip: Exact = Field(
        gt=0,
        description=(
            "The norm of one patient's gradient that ring_norm stands for; with local, the most that a site "
            "may move any weight between two sums."
        ),
    )
    local: LocalTraining | None = Field(
        default=None,
        description=(
            "Several steps at each site between two sums, with privacy none alone; left out, each step is a "
            "sum of gradients."
        ),
    )
    bands: Annotated[int, Field(ge=2, le=MOST_BANDS)] | None = Field(
        default=None,
        description=(
            "For sites that cannot prove that they sample at random (DP-FTRL): members are in so many fixed "
            "groups, which take turns, and noise is correlated over so many steps. sampling_rate is then "
            "1 / bands, attempts is steps, and a step that is lost ends the study."
        ),
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.attempts < self.steps:
            raise ValueError("attempts must be at least steps")
        if self.local and self.local.takes_the_mean and (self.learning_rate != 1 or self.warmup):
            raise ValueError(
                f'{self.local.algorithm} takes the mean of the sites: learning_rate must be "1", warmup 0; '
                "the sites' own rate is local.learning_rate"
            )
        if self.bands is not None and self.bands * self.sampling_rate != 1:
            raise ValueError(
                "sampling_rate must be exactly 1 / bands, such as 0.05 for 20: so there are 2, 4, 5, 8, 10, "
                "16, 20, 25, 32, 40, 50 or 64 bands"
            )
        if self.bands is not None and self.attempts != self.steps:
            raise ValueError("with bands attempts must be steps: no step can be tried twice")
        return self


class Budget(Record):
    """The bound on how much a model may depend on one patient: (epsilon, delta), unit and neighbours."""

    epsilon: Exact = Field(
        gt=0, le=1000, description="The most that all attempts together may spend, at delta."
    )
    delta: Exact = Field(gt=0, lt=1, description="The probability with which the bound may fail.")
    unit: Literal["patient"] = Field(description="Who is protected: all records of one patient together.")
    neighbours: Literal["add-remove"] = Field(
        description="What the bound compares: the data with, and without, one patient."
    )
    noise_multiplier: Exact = Field(
        gt=0,
        le=1000,
        description="The standard deviation of the honest sites' noise, over the norm of one patient.",
    )
    sites_per_patient: Annotated[int, Field(ge=1, le=50)] = Field(
        description=(
            "At how many sites one person may be a member: an assumption, which reports print. Every member "
            "is accounted as one of so many."
        )
    )

    @property
    def protected(self) -> str:
        """Who is protected, in words."""
        return (
            self.unit
            if self.sites_per_patient == 1
            else f"{self.unit} of up to {self.sites_per_patient} sites"
        )
