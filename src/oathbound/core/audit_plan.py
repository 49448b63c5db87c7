"""What is measured before release: `[policy.audit]` of a study, and the plan file of an audit without one."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.errors import WrongInput
from oathbound.core.finding import Canaries
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


class ProbePlan(Record):
    """From which prompts a probe reads [policy.audit.sensitive]; it is fitted on the reference patients."""

    prompt_events: Annotated[int, Field(ge=0, le=1000)] = Field(
        description="How many events of a record the prompt holds whose representation is probed."
    )


class Attribute(Record):
    """An attribute of a person that an attacker infers from the rest of the record."""

    name: Name = Field(description="What the attribute is called in findings.")
    codes: tuple[Code, ...] = Field(
        min_length=2, max_length=50, description="The candidates, of which a record states one."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.codes)) < len(self.codes):
            raise ValueError("an attribute lists a code twice")
        return self


class CanaryPlan(Record):
    """How many invented patients are planted in a sibling of the model, and how many are guessed."""

    planted: Canaries = Field(
        description="How many are invented; a coin says of each whether the sibling trains on it."
    )
    guesses: Canaries = Field(
        description="Of how many the attacker says in or out, one half each; the others are left open."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.guesses % 2 or self.guesses > self.planted:
            raise ValueError("guesses must be even, and no more than planted")
        return self


class ReconstructionPlan(Record):
    """For how many members it is tried to bring a recording back from what training sends."""

    targets: Annotated[int, Field(ge=20, le=1000)] = Field(
        description="How many members of each site are attacked, drawn by the committed seed."
    )
    decoys: Annotated[int, Field(ge=1, le=999)] = Field(
        description=(
            "Among how many held-out patients' recordings the target's own must be the most alike; "
            "by chance it is once in decoys + 1."
        )
    )


class LinkagePlan(Record):
    """Among how many people another recording of a person is looked for."""

    gallery: Annotated[int, Field(ge=40, le=1000)] = Field(
        description=(
            "Among how many members it is looked for, and among as many held-out patients; of fewer with two "
            "recordings, among all."
        )
    )


class CodeGroup(Record):
    """Patients whose records state one of these codes."""

    name: Name = Field(description="What the group is called in findings.")
    codes: tuple[Code, ...] = Field(
        min_length=1, description="Codes of which a patient of the group states one, as records spell them."
    )


class GroupPlan(Record):
    """One partition of every site's patients, fixed before there is a model: the first rule decides.

    The oldest; who states a rare code; the listed groups, in their order; everybody else is of `others`.
    """

    oldest: Annotated[int, Field(ge=1, le=150)] | None = Field(
        default=None, description="From what age on, in years at the end of the record, a patient is old."
    )
    rare: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="A code is rare that at most so many state of the site's members and held-out together.",
    )
    listed: tuple[CodeGroup, ...] = Field(
        default=(), max_length=20, description="Further groups, by the codes that their patients state."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(self.names) == 1:
            raise ValueError("a partition needs a rule: oldest, rare or listed")
        if len(set(self.names)) < len(self.names) or {"oldest", "rare-code"} & {g.name for g in self.listed}:
            raise ValueError("listed names a group twice, or one as oldest, rare-code or others are named")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The groups, in the order of their rules; the last is `others`."""
        ruled = [("oldest", self.oldest), ("rare-code", self.rare)]
        return (*(name for name, rule in ruled if rule), *(group.name for group in self.listed), "others")


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
    probe: ProbePlan | None = Field(
        default=None, description="What a probe reads from representations; needs [policy.audit.sensitive]."
    )
    attributes: tuple[Attribute, ...] | None = Field(
        default=None, min_length=1, max_length=20, description="Attributes that an attacker infers."
    )
    canaries: CanaryPlan | None = Field(
        default=None, description="Patients planted in a sibling, to bound epsilon from below."
    )
    reconstruction: ReconstructionPlan | None = Field(
        default=None, description="Recordings that an attacker brings back; only for models of recordings."
    )
    linkage: LinkagePlan | None = Field(
        default=None, description="Recordings that are linked to their person; only for models of recordings."
    )
    groups: GroupPlan | None = Field(
        default=None, description="The groups of patients that are measured each by itself."
    )

    @model_validator(mode="after")
    def _numbers_do_not_tell_of_each_other(self) -> Self:
        """Two counts of nearly the same people differ by those few who are in one of them alone."""
        names = [attribute.name for attribute in self.attributes or ()]
        if len(set(names)) < len(names):
            raise ValueError("attributes: two have one name")
        candidates = [code for attribute in self.attributes or () for code in attribute.codes]
        if len(set(candidates)) < len(candidates):
            raise ValueError("attributes: two share a code, so their numbers would tell who has the others")
        listed = {code for group in (self.groups.listed if self.groups else ()) for code in group.codes}
        others = {*candidates, *(self.sensitive.codes if self.sensitive else ())}
        if listed & others:
            raise ValueError("groups: a listed code is sensitive too, or of an attribute: count it once")
        return self


class HarmSets(Prompting):
    """Sets of the catalogue of harm, in place of codes: what they are is looked up in the model's vocabulary.

    A study lists codes, since a set may grow with the version of oathbound.
    """

    sets: tuple[Name, ...] = Field(
        min_length=1, description="Sets of the catalogue (docs/audits/harm-classes.md), such as infectious."
    )
    files: tuple[Text, ...] = Field(
        default=(),
        max_length=100,
        description="Files of further sets (spec/harm.md), beside the plan, which `sets` can name too.",
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
