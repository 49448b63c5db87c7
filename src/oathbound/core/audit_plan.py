"""What is measured before release: `[policy.audit]` of a study, and the plan file of an audit without one."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.errors import WrongInput
from oathbound.core.record import Exact, Name, Record, Text
from oathbound.core.rungs import ladder_of
from oathbound.core.shape import Code, Positive


class Prompting(Record):
    """How an attacker of the disclosure test asks."""

    prompt_events: Annotated[int, Field(ge=0, le=1000)] = Field(
        description="How many events of a record the prompt begins with."
    )
    horizon: Positive = Field(description="Within how many tokens after the prompt a sensitive code counts.")
    chains: Positive = Field(description="How many continuations are drawn for each patient.")
    ladder: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=50,
        description=(
            "Rungs of attacker knowledge, from the bottom, one excess each: nothing, age-and-sex, codes-10, "
            "codes-10-dates, codes-10-values; if left out, the whole prompt, as emission."
        ),
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        try:
            ladder_of(self.ladder or (), self.prompt_events)
        except WrongInput as error:
            # pydantic turns a ValueError, and only that, into an error that names the key
            raise ValueError(f"ladder: {error.message}") from None
        return self


class SensitiveSet(Prompting):
    """The codes whose disclosure is measured; prompts are stripped of them and of what implies them."""

    name: Text = Field(description="What the codes stand for, for people.")
    codes: tuple[Code, ...] = Field(min_length=1, description="The codes whose disclosure is measured.")
    implied_by: tuple[Code, ...] = Field(
        description="Codes that give them away; prompts are stripped of these too."
    )


class TrajectoryPlan(Record):
    """How generated continuations of records are compared with the true ones."""

    prompt_events: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="How many events of a record the prompt begins with."
    )
    horizon: Positive = Field(description="How many tokens after the prompt are compared.")
    chains: Positive = Field(description="How many continuations are drawn for each patient.")


class PerturbationPlan(Record):
    """How identifiers are changed, to see whether the sensitive answers of [policy.audit.sensitive] fall."""

    years: Annotated[int, Field(ge=1, le=10)] = Field(
        description="By how many years at most the age is changed, up and down."
    )
    days: Annotated[int, Field(ge=1, le=3660)] = Field(
        description="By how many days dates are moved: all together, and all but the first."
    )


class AuditPlan(Record):
    """What is measured before release."""

    alpha: Exact = Field(gt=0, le=Decimal("0.1"), description="The two-sided error rate of every verdict.")
    minimum_patients: Annotated[int, Field(ge=10)] = Field(
        description="Nothing is measured, or shown, of fewer patients than this."
    )
    sensitive: SensitiveSet | None = Field(
        default=None, description="What the disclosure test looks for; only for models of a vocabulary."
    )
    perturbation: PerturbationPlan | None = Field(
        default=None, description="How identifiers are changed; needs [policy.audit.sensitive]."
    )
    trajectories: TrajectoryPlan | None = Field(
        default=None, description="How continuations are compared; only for models of a vocabulary."
    )


class HarmSets(Prompting):
    """Sets of the catalogue of harm, in place of codes: what they are is looked up in the model's vocabulary.

    A study lists codes, since a set may grow with the version of oathbound.
    """

    sets: tuple[Name, ...] = Field(
        min_length=1, description="Sets of the catalogue (docs/audits/harm-classes.md), such as infectious."
    )


class PlanFile(AuditPlan):
    """A plan, as people write it."""

    format: Literal["oathbound/audit-plan/v1"] = Field(description="The version of the plan file.")
    harm: HarmSets | None = Field(
        default=None, description="Sets of sensitive codes, in place of a list of codes in [sensitive]."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.harm is not None and self.sensitive is not None:
            raise ValueError("harm and sensitive are two ways to say the same: one of them")
        return self
