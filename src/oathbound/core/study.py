"""The study file: what every site signs (`[policy]`), and what only changes the speed (`[run]`).

Each key has its sentence here: `oathbound explain`, the JSON Schema and `docs/reference/` say the same.
A `Policy` that parses is coherent: cross-checks between its keys are made here, so that no later step has to
ask again.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.canonical import digest_of
from oathbound.core.record import Digest, Exact, Name, Record, Text
from oathbound.core.shape import (
    Architecture,
    ExtensionModel,
    Features,
    Recordings,
    Seen,
    Vocabulary,
    fits,
    sees,
    weights_of,
)
from oathbound.core.training_plan import Budget, Training

Purpose = Annotated[str, Field(pattern=r"^[A-Z]{2,20}$")]
"""A code of HL7 v3 PurposeOfUse, such as `HRESCH`."""

DataClass = Annotated[str, Field(pattern=r"^[A-Z]{2,20}$")]
"""A sensitivity label of HL7 v3 ActCode, such as `SUD`, that a patient may withhold."""

DuoTerm = Annotated[str, Field(pattern=r"^DUO:[0-9]{7}$")]
"""A code of GA4GH's Data Use Ontology."""

LOCAL_PROCESSES = "local-processes"
NVFLARE = "nvflare"
ENGINES = ("local", LOCAL_PROCESSES, NVFLARE)
"""The engines that oathbound has; extensions bring others."""

MOST_ROUND_STATEMENTS = 2700
"""Of rounds times one more than sites: half a bundle, which leaves room for rounds that are begun again."""

LEAST_HONEST = 2
"""An opened sum must hold the shares of at least two sites that do not collude."""


def quorum(sites: int, colluding: int) -> int:
    """Return how many sites must agree on what a secure sum opens: floor((n + c) / 2) + 1.

    Any two such sets of sites have one in common that does not collude (spec/secure-sum.md).
    """
    return (sites + colluding) // 2 + 1


class Member(Record):
    """A party to the study: its name, and the fingerprint of its public keys, compared out of band."""

    name: Name = Field(description="The party's name; its statements and its log carry it.")
    fingerprint: Digest = Field(
        description="The digest of its public keys, compared with their owner out of band."
    )


class Consenting(Record):
    """What patients are asked for: purposes of training and of audit, and the classes of data used.

    Every patient admitted must allow both purposes, whichever part the draw puts them in.
    """

    training_purpose: Purpose = Field(
        description=(
            "The purpose of use that patients must permit for training: HL7 v3 PurposeOfUse, such as HRESCH."
        )
    )
    audit_purpose: Purpose = Field(
        description="The purpose of use that they must permit for audits, such as HQUALIMP."
    )
    classes: tuple[DataClass, ...] = Field(
        description=(
            "Classes of sensitive data that the records hold, HL7 v3 ActCode; a patient may withhold each."
        )
    )
    meets: tuple[DuoTerm, ...] = Field(
        default=(),
        description=(
            "Conditions of use, GA4GH DUO codes, that the parties promise to meet, such as DUO:0000021: a "
            "consent under one of them permits only then."
        ),
    )
    staleness_hours: Annotated[int, Field(ge=1, le=24 * 366)] = Field(
        description="How old a reading of consents may be, in hours, when a round of training starts."
    )


class Drawing(Record):
    """How admitted patients are drawn, at random, into members, held-out and reference, at each site."""

    window: tuple[Exact, Exact] = Field(
        description=(
            "Takes the patients whose random position in [0, 1) lies in it; disjoint windows "
            "have disjoint patients."
        )
    )
    held_out: Exact = Field(
        gt=0,
        lt=1,
        description="The share of the admitted that is never trained on: the yardstick of the audit.",
    )
    reference: Exact = Field(
        ge=0,
        lt=1,
        description=(
            "The share of the admitted that is kept for attackers' reference models; the rest are members."
        ),
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        low, high = self.window
        if not 0 <= low < high <= 1:
            raise ValueError("window must be two numbers with 0 <= first < second <= 1")
        if self.held_out + self.reference >= 1:
            raise ValueError("held_out and reference leave no members")
        return self


class Gate(Record):
    """A bound on one metric of one test: the upper end of its interval must stay at or below `at_most`."""

    test: Name = Field(description="The audit test.")
    metric: Name = Field(description="What it measures.")
    at_most: Exact = Field(description="The upper end of the metric's interval must stay at or below this.")


Metric = Literal["auc", "auc-difference", "tpr-at-1-percent", "excess"]
"""A kind of measure that a finding can hold."""


class Extension(Record):
    """Code from outside oathbound that the study runs: an entry point, of one installed distribution.

    Every site agrees on the code, by its digest.
    """

    group: Literal["sources", "models", "audits", "engines"] = Field(
        description="What it brings: a source of records, a model, an audit test or an engine."
    )
    name: Name = Field(description="The entry point's name.")
    distribution: Name = Field(description="The installed distribution that holds it.")
    version: Annotated[Text, Field(max_length=100)] = Field(description="The distribution's version.")
    digest: Digest = Field(description="The digest of the distribution's files (spec/extensions.md).")
    measures: dict[Metric, tuple[Name, ...]] | None = Field(
        default=None, description="An audit test's metrics, and the scores that each of its findings reports."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.group == "audits") != bool(self.measures):
            raise ValueError("an audit test, and nothing else, says what it measures")
        return self


class Policy(Record):
    """The promise: everything that a site signs, and nothing else. Its digest names the study everywhere."""

    study: Name = Field(description="The study's name: part of the names of its logs.")
    purpose: Text = Field(description="What the study is for, in a sentence for people.")
    coordinator: Member = Field(
        description="Who runs the training, keeps the study's log and decides on the release."
    )
    sites: tuple[Member, ...] = Field(min_length=2, max_length=50, description="The hospitals.")
    min_sites: Annotated[int, Field(ge=2)] = Field(description="The fewest sites in a sum that is opened.")
    colluding: Annotated[int, Field(ge=0)] = Field(
        description=(
            "Sites that may put together, with the coordinator, what they know; min_sites is more than half "
            "of sites and colluding together, and at least 2 more than colluding."
        )
    )
    dishonest_witnesses: Annotated[int, Field(ge=0)] = Field(
        description="Sites that may cosign a log that was rewritten: f in the rule 2k > w + f."
    )
    aggregator: Literal["secure-sum"] = Field(
        description="Who sees a site's vector: nobody does. Sites mask it, and only the sum is opened."
    )
    privacy: Literal["patient-dp", "none"] = Field(
        description=(
            "Whether noise bounds what the model may tell of a patient; with none, all "
            "members count as unbounded."
        )
    )
    budget: Budget | None = Field(
        default=None,
        description="The bound on what the model may tell of one patient; with privacy none, left out.",
    )
    consent: Consenting = Field(description="What patients are asked for.")
    drawing: Drawing = Field(
        description="How admitted patients are drawn at random into members, held-out and reference."
    )
    vocabulary: Vocabulary | None = Field(default=None, description="What a sequence model sees.")
    features: Features | None = Field(default=None, description="What a classifier sees.")
    recordings: Recordings | None = Field(
        default=None, description="What a model of scans, or of signals, sees."
    )
    model: Architecture = Field(description="The model's kind and shape.")
    training: Training = Field(description="The plan of training.")
    audit: AuditPlan = Field(description="What is measured before release.")
    gates: tuple[Gate, ...] = Field(min_length=1, description="What the model must keep to be released.")
    extensions: tuple[Extension, ...] = Field(
        default=(), description="Code from outside oathbound that the study runs."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        parties = (self.coordinator, *self.sites)
        for attribute in ("name", "fingerprint"):
            if len({getattr(party, attribute) for party in parties}) != len(parties):
                raise ValueError(f"two parties share a {attribute}")
        self._check_sums()
        others = len(self.sites) - 1
        if (others + self.dishonest_witnesses) // 2 + 1 > others:
            raise ValueError(
                "dishonest_witnesses is too many: a site's log could never have enough honest ones"
            )
        if (self.privacy == "patient-dp") != (self.budget is not None):
            raise ValueError('privacy = "patient-dp" and [policy.budget] need each other')
        if self.budget is not None and self.budget.sites_per_patient > len(self.sites):
            raise ValueError("sites_per_patient is more than the sites listed")
        if self.privacy == "patient-dp" and self.training.local:
            raise ValueError('training.local bounds nothing: leave it out, or say privacy = "none"')
        rounds = -(-self.training.steps // self.training.round_steps)
        if rounds * (len(self.sites) + 1) > MOST_ROUND_STATEMENTS:
            raise ValueError("round_steps is too small: what the rounds state would not fit into a bundle")
        self._check_model()
        self._check_sensitive()
        self._check_planned_tests()
        if len({(extension.group, extension.name) for extension in self.extensions}) != len(self.extensions):
            raise ValueError("two extensions of one name")
        if len({(gate.test, gate.metric) for gate in self.gates}) != len(self.gates):
            raise ValueError("two gates for one metric of one test")
        return self

    def _check_sums(self) -> None:
        if not self.min_sites <= len(self.sites):
            raise ValueError("min_sites is more than the sites listed")
        if self.min_sites - self.colluding < LEAST_HONEST:
            raise ValueError("min_sites less colluding must be at least 2, or one site's sum is open")
        needed = quorum(len(self.sites), self.colluding)
        if self.min_sites < needed:
            raise ValueError(
                f"min_sites must be at least {needed} for {len(self.sites)} sites of which {self.colluding} "
                "may collude, or two sums of one step could be opened: raise it, or lower colluding"
            )
        if self.training.bands is not None and (self.budget is None or self.min_sites < len(self.sites)):
            raise ValueError("training.bands needs [policy.budget], and min_sites to be all sites")
        if self.privacy == "none" and self.min_sites < len(self.sites):
            raise ValueError(
                "without noise min_sites must be all sites: two sums that differ by one site show its vector"
            )

    def _check_model(self) -> None:
        if isinstance(self.model, ExtensionModel) and self.extension("models", self.model.name) is None:
            raise ValueError(f"no model is called {self.model.name}, and extensions names none")
        listed = [seen for seen in (self.vocabulary, self.features, self.recordings) if seen is not None]
        if len(listed) != 1 or not fits(self.model, listed[0]):
            raise ValueError(f"{self.model.name} sees {sees(self.model)}, and nothing else")

    def _check_sensitive(self) -> None:
        sensitive = self.audit.sensitive
        if sensitive is None:
            return
        if self.vocabulary is None:
            raise ValueError("audit.sensitive is for models of a vocabulary")
        unknown = sorted({*sensitive.codes, *sensitive.implied_by} - set(self.vocabulary.codes))
        if unknown:
            raise ValueError(f"audit.sensitive names a code that vocabulary does not list: {unknown[0]}")

    def _check_planned_tests(self) -> None:
        if self.audit.reconstruction and self.recordings is None:
            raise ValueError("audit.reconstruction is for models of recordings")
        if self.audit.reconstruction and self.training.local:
            raise ValueError(
                "audit.reconstruction attacks sums of gradients: leave it out with training.local"
            )
        if self.audit.linkage and self.recordings is None:
            raise ValueError("audit.linkage is for models of recordings")
        if self.audit.probe and not (self.audit.sensitive and self.drawing.reference):
            raise ValueError("audit.probe needs audit.sensitive, and reference patients in drawing")
        asked = {code for attribute in self.audit.attributes or () for code in attribute.codes}
        if asked and self.vocabulary is None:
            raise ValueError("audit.attributes is for models of a vocabulary")
        unknown = sorted(asked - set(self.vocabulary.codes)) if self.vocabulary else []
        if unknown:
            raise ValueError(f"audit.attributes names a code that vocabulary does not list: {unknown[0]}")

    @property
    def digest(self) -> str:
        """The digest of the canonical form: what an oath is sworn to."""
        return digest_of(self.plain())

    @property
    def seen(self) -> Seen:
        """What the model sees of a patient."""
        return next(seen for seen in (self.vocabulary, self.features, self.recordings) if seen is not None)

    @property
    def weights(self) -> int | None:
        """How many weights the model has; None for an extension's, which only its own code knows."""
        return weights_of(self.model, self.seen)

    def site(self, name: str) -> Member | None:
        """Return the site of that name, or None."""
        return next((site for site in self.sites if site.name == name), None)

    def extension(self, group: str, name: str) -> Extension | None:
        """Return the extension of that group and name, or None."""
        return next((each for each in self.extensions if (each.group, each.name) == (group, name)), None)

    def witnesses_needed(self, operator: str) -> int:
        """Return the least k with 2k > w + f: w sites do not operate the log, f of them are dishonest."""
        eligible = sum(site.name != operator for site in self.sites)
        return (eligible + self.dishonest_witnesses) // 2 + 1


class Run(Record):
    """How this machine runs the study: changes speed, never the promise; nobody signs it."""

    engine: Name = Field(
        description=(
            "What carries messages between sites: local, where every site's folder is on this machine and "
            "one process opens them all; local-processes, where each site has a process of its own; nvflare, "
            "where each site has a machine of its own, and NVIDIA FLARE runs between them."
        )
    )
    sites: Text = Field(description="The folder that holds the sites' folders, relative to the study file.")
    threads: Annotated[int, Field(ge=0, le=256)] = Field(
        description="Threads that torch may use; 0 for its own choice."
    )


class Study(Record):
    """A study file."""

    format: Literal["oathbound/study/v1"] = Field(description="The version of the study file.")
    policy: Policy = Field(description="The promise: what every site signs, whole.")
    run: Run = Field(description="How this machine runs the study; nobody signs it.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.run.engine not in ENGINES and self.policy.extension("engines", self.run.engine) is None:
            raise ValueError(
                f"run.engine {self.run.engine} is none of {', '.join(ENGINES)}, and not of policy.extensions"
            )
        return self

    @classmethod
    def of(cls, data: dict[str, Any], *, what: str = "study file") -> Self:
        """Return the study in a decoded TOML file; `WrongInput` names the file, `what`, and the key."""
        return cls.parse(data, what=what)
