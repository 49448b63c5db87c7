"""Local training: several steps at each site between two sums, in studies that bound nothing."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.record import Exact, Record


class LocalTraining(Record):
    """`[policy.training.local]`: what each site does with the weights before it sends how they changed."""

    algorithm: Literal["fedavg", "fedprox", "fedadam"] = Field(
        description=(
            "What is done between two sums: fedavg, the sites' mean change is added to the weights; fedprox, "
            "the same, and sites are held to the weights that they got; fedadam, Adam takes the mean change "
            "for a gradient."
        )
    )
    steps: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="Steps of each site between two sums, each with a new draw of its members."
    )
    learning_rate: Exact = Field(
        gt=0, le=10, description="Of the steps at a site, which are plain gradient descent."
    )
    proximal: Exact | None = Field(
        default=None,
        gt=0,
        le=1000,
        description=(
            "fedprox alone: mu, by how much a site is held to the weights that it got; times the learning "
            "rate at most 1."
        ),
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.algorithm == "fedprox") != (self.proximal is not None):
            raise ValueError("fedprox, and nothing else, needs proximal")
        if (self.proximal or Decimal(0)) * self.learning_rate > 1:
            raise ValueError("proximal times learning_rate is above 1: each step would overshoot")
        return self

    @property
    def takes_the_mean(self) -> bool:
        """Whether the next weights are the mean of the sites', and not a step of Adam."""
        return self.algorithm != "fedadam"
