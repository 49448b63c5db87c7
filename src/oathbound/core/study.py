"""The study file: what every site signs (`[policy]`), and what only changes the speed (`[run]`).

`spec/study.md` describes each key. A `Policy` that parses is coherent: cross-checks between its keys are
made here, so that no later step has to ask again.
"""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.canonical import digest_of
from oathbound.core.record import Digest, Exact, Name, Record, Text

Purpose = Annotated[str, Field(pattern=r"^[A-Z]{2,20}$")]
"""A code of HL7 v3 PurposeOfUse, such as `HRESCH`."""

DataClass = Annotated[str, Field(pattern=r"^[A-Z]{2,20}$")]
"""A sensitivity label of HL7 v3 ActCode, such as `SUD`, that a patient may withhold."""

LEAST_HONEST = 2
"""An opened sum must hold the shares of at least two sites that do not collude."""

Code = Annotated[Text, Field(max_length=200)]

Positive = Annotated[int, Field(ge=1, le=10_000_000)]


class Member(Record):
    """A party to the study: its name, and the fingerprint of its public keys, compared out of band."""

    name: Name
    fingerprint: Digest


class Consenting(Record):
    """What patients are asked for: purposes of training and of audit, and the classes of data used.

    Every patient admitted must allow both purposes, whichever part the draw puts them in. `staleness_hours`
    is the oldest that a cohort may be when training starts.
    """

    training_purpose: Purpose
    audit_purpose: Purpose
    classes: tuple[DataClass, ...]
    staleness_hours: Annotated[int, Field(ge=1, le=24 * 366)]


class Drawing(Record):
    """How admitted patients are drawn, at random, into members, held-out and reference, at each site.

    `window` takes the patients whose random position in [0, 1) lies in it, so that studies with disjoint
    windows have disjoint patients. The shares are of the admitted; the rest are members.
    """

    window: tuple[Exact, Exact]
    held_out: Exact = Field(gt=0, lt=1)
    reference: Exact = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        low, high = self.window
        if not 0 <= low < high <= 1:
            raise ValueError("window must be two numbers with 0 <= first < second <= 1")
        if self.held_out + self.reference >= 1:
            raise ValueError("held_out and reference leave no members")
        return self


class Vocabulary(Record):
    """What a model can see, from public knowledge alone; a code that is not listed becomes UNK.

    `edges` are the inner edges of a code's value bins, ascending, from published reference ranges. `ages`
    and `gaps` are the inner edges of the age bands (years) and of the time between events (days).
    """

    codes: tuple[Code, ...] = Field(min_length=1, max_length=100_000)
    edges: dict[Code, tuple[Exact, ...]]
    ages: tuple[Exact, ...]
    gaps: tuple[Exact, ...]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.codes)) != len(self.codes):
            raise ValueError("codes holds a code twice")
        unknown = sorted(set(self.edges) - set(self.codes))
        if unknown:
            raise ValueError(f"edges names a code that codes does not list: {unknown[0]}")
        for edges in (self.ages, self.gaps, *self.edges.values()):
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError("edges must ascend")
        return self


class Architecture(Record):
    """The model's shape; `seed` fixes its first weights, which are public."""

    name: Literal["event-transformer"]
    layers: Annotated[int, Field(ge=1, le=24)]
    width: Annotated[int, Field(ge=8, le=2048)]
    heads: Annotated[int, Field(ge=1, le=32)]
    length: Annotated[int, Field(ge=8, le=4096)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


class Training(Record):
    """The plan of training: public constants, equal at every site.

    `members` is the planned number N of members over all sites; the divisor of every step is `sampling_rate`
    * N. `attempts` is the most that may be charged, `steps` the number that completes the plan.
    """

    members: Positive
    sampling_rate: Exact = Field(gt=0, le=1)
    steps: Positive
    attempts: Positive
    learning_rate: Exact = Field(gt=0, le=10)
    warmup: Annotated[int, Field(ge=0)]
    ring_norm: Annotated[int, Field(ge=256, le=2**14)]
    clip: Exact = Field(gt=0)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.attempts < self.steps:
            raise ValueError("attempts must be at least steps")
        return self


class Budget(Record):
    """The bound on how much a model may depend on one patient: (epsilon, delta), unit and neighbours.

    `noise_multiplier` is the standard deviation of the honest sites' noise over the l2 norm of one patient.
    `sites_per_patient` is how many sites one person may be a member at; only 1 is supported, an assumption
    that reports print.
    """

    epsilon: Exact = Field(gt=0, le=1000)
    delta: Exact = Field(gt=0, lt=1)
    unit: Literal["patient"]
    neighbours: Literal["add-remove"]
    noise_multiplier: Exact = Field(gt=0, le=1000)
    sites_per_patient: Literal[1]


class Gate(Record):
    """A bound on one metric of one test: the upper end of its interval must stay at or below `at_most`."""

    test: Name
    metric: Name
    at_most: Exact


class SensitiveSet(Record):
    """The codes whose disclosure is measured; prompts are stripped of them and of what implies them."""

    name: Text
    codes: tuple[Code, ...] = Field(min_length=1)
    implied_by: tuple[Code, ...]
    prompt_events: Annotated[int, Field(ge=0, le=1000)]
    horizon: Positive
    chains: Positive


class AuditPlan(Record):
    """What is measured before release; `alpha` is the two-sided error rate of every verdict."""

    alpha: Exact = Field(gt=0, lt=Decimal("0.5"))
    minimum_patients: Annotated[int, Field(ge=10)]
    sensitive: SensitiveSet


class Policy(Record):
    """The promise: everything that a site signs, and nothing else. Its digest names the study everywhere."""

    study: Name
    purpose: Text
    coordinator: Member
    sites: tuple[Member, ...] = Field(min_length=2, max_length=50)
    min_sites: Annotated[int, Field(ge=2)]
    colluding: Annotated[int, Field(ge=0)]
    dishonest_witnesses: Annotated[int, Field(ge=0)]
    aggregator: Literal["trusted"]
    privacy: Literal["patient-dp", "none"]
    budget: Budget | None = None
    consent: Consenting
    drawing: Drawing
    vocabulary: Vocabulary
    model: Architecture
    training: Training
    audit: AuditPlan
    gates: tuple[Gate, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        parties = (self.coordinator, *self.sites)
        for attribute in ("name", "fingerprint"):
            if len({getattr(party, attribute) for party in parties}) != len(parties):
                raise ValueError(f"two parties share a {attribute}")
        if not self.min_sites <= len(self.sites):
            raise ValueError("min_sites is more than the sites listed")
        if self.min_sites - self.colluding < LEAST_HONEST:
            raise ValueError("min_sites less colluding must be at least 2, or one site's sum is open")
        others = len(self.sites) - 1
        if (others + self.dishonest_witnesses) // 2 + 1 > others:
            raise ValueError(
                "dishonest_witnesses is too many: a site's log could never have enough honest ones"
            )
        if (self.privacy == "patient-dp") != (self.budget is not None):
            raise ValueError('privacy = "patient-dp" and [policy.budget] need each other')
        unknown = sorted(
            {*self.audit.sensitive.codes, *self.audit.sensitive.implied_by} - set(self.vocabulary.codes)
        )
        if unknown:
            raise ValueError(f"audit.sensitive names a code that vocabulary does not list: {unknown[0]}")
        if len({(gate.test, gate.metric) for gate in self.gates}) != len(self.gates):
            raise ValueError("two gates for one metric of one test")
        return self

    @property
    def digest(self) -> str:
        """The digest of the canonical form: what an oath is sworn to."""
        return digest_of(self.plain())

    def site(self, name: str) -> Member | None:
        """Return the site of that name, or None."""
        return next((site for site in self.sites if site.name == name), None)

    def witnesses_needed(self, operator: str) -> int:
        """Return the least k with 2k > w + f: w sites do not operate the log, f of them are dishonest."""
        eligible = sum(site.name != operator for site in self.sites)
        return (eligible + self.dishonest_witnesses) // 2 + 1


class Run(Record):
    """How this machine runs the study: changes speed, never the promise; nobody signs it.

    `sites` is the folder that holds the site folders, relative to the study file; `threads` is the number of
    threads that torch may use, 0 for torch's own choice.
    """

    engine: Literal["local"]
    sites: Text
    threads: Annotated[int, Field(ge=0, le=256)]


class Study(Record):
    """A study file."""

    format: Literal["oathbound/study/v1"]
    policy: Policy
    run: Run

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Return the study in a decoded TOML file; `WrongInput` names the key that is wrong."""
        return cls.parse(data, what="study file")
