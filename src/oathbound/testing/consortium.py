"""A consortium in memory: it makes every statement of a study, without records, training or disks.

Each method plays one stage honestly; its keyword arguments change what is stated, so that a test can tell one
lie and see which step of `verify` names it. `finished()` plays all stages. It is long because a study has so
many statements, one method each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any, Final, Self

from oathbound.core.canonical import canonical, digest
from oathbound.core.catalogue import MEMBERSHIP_THREAT
from oathbound.core.claims import Verdict
from oathbound.core.event import PrivacyEvent, Unbounded
from oathbound.core.finding import Auc, Baseline, Finding, Measure, Measured, NotMeasurable, audit_seed
from oathbound.core.planned import planned_event, planned_sigma
from oathbound.core.study import Policy
from oathbound.evidence.bundle import pack
from oathbound.evidence.contents import BundledLog, Contents
from oathbound.evidence.envelope import sign
from oathbound.evidence.heads import origin
from oathbound.evidence.keys import Secret
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import cosign, decode, sign_checkpoint
from oathbound.evidence.predicates import (
    Admission,
    Audited,
    AuditRoots,
    Charged,
    Decided,
    Found,
    ModelMade,
    Oath,
    Predicate,
    Roots,
    Round,
    SitePredicate,
    TrainedWithSecureSum,
)
from oathbound.evidence.steps import attempts_of, judgement_of
from oathbound.evidence.trust import Trust

NOW: Final = 1_800_000_000
"""The time at which everything here happens, POSIX seconds."""

EMPTY: Final = "sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
"""A root that no patient has: of a cohort that is not shown."""

TEST: Final = "membership"
SCORES: Final = ("loss", "min-k", "min-k-plus-plus")

AUDIT: Final = {"alpha": "0.05", "minimum_patients": 20}
"""The audit of a policy that plans no test but membership."""

_SENSITIVE: Final = {
    "name": "b",
    "codes": ["b"],
    "implied_by": [],
    "prompt_events": 1,
    "horizon": 1,
    "chains": 1,
}
DISCLOSING: Final = {**AUDIT, "sensitive": _SENSITIVE}
"""The audit of a policy that plans sensitive-disclosure, too."""


def policy_for(secrets: Sequence[Secret], **changes: Any) -> Policy:
    """Return the policy of a small private study; the first secret is the coordinator's."""
    members = [{"name": s.name, "fingerprint": s.party().fingerprint} for s in secrets]
    policy: dict[str, Any] = {
        "study": "example",
        "purpose": "Show what a bundle proves",
        "coordinator": members[0],
        "sites": members[1:],
        "min_sites": 2,
        "colluding": 0,
        "dishonest_witnesses": 0,
        "aggregator": "secure-sum",
        "privacy": "patient-dp",
        "budget": {
            "epsilon": "3",
            "delta": "0.000001",
            "unit": "patient",
            "neighbours": "add-remove",
            "noise_multiplier": "1.5",
            "sites_per_patient": 1,
        },
        "consent": {
            "training_purpose": "HRESCH",
            "audit_purpose": "HQUALIMP",
            "classes": [],
            "staleness_hours": 24,
        },
        "drawing": {"window": ["0", "1"], "held_out": "0.3", "reference": "0"},
        "vocabulary": {"codes": ["a", "b"], "edges": {}, "ages": [], "gaps": []},
        "model": {"name": "event-transformer", "layers": 1, "width": 8, "heads": 1, "length": 8, "seed": 1},
        "training": {
            "members": 1000,
            "sampling_rate": "0.02",
            "steps": 20,
            "attempts": 22,
            "round_steps": 10,
            "learning_rate": "0.01",
            "warmup": 0,
            "ring_norm": 16384,
            "clip": "1",
        },
        "audit": AUDIT,
        "gates": [{"test": TEST, "metric": "auc", "at_most": "0.6"}],
    } | changes
    return Policy.parse({key: value for key, value in policy.items() if value is not None}, what="policy")


def _measures(score: str, estimate: str, members: int) -> tuple[Measure, ...]:
    auc = Auc(
        kind="auc",
        score=score,
        estimate=Decimal(estimate),
        standard_error=Decimal("0.015"),
        members=5 * (members // 5),
        held_out=215,
    )
    reason = "too few patients"
    rate = NotMeasurable(kind="not-measurable", metric="tpr-at-1-percent", score=score, reason=reason)
    tail = NotMeasurable(kind="not-measurable", metric="tail", score=score, reason=reason)
    return auc, rate, tail


def _blind(members: int) -> Baseline:
    """Return what a fair draw gives, of half of the patients."""
    return Baseline(
        kind="baseline",
        score="records",
        estimate=Decimal("0.500"),
        standard_error=Decimal("0.030"),
        members=5 * (members // 10),
        held_out=105,
    )


@dataclass
class Consortium:
    """A coordinator and its sites. Logs are lists of leaves, `notes` lists of checkpoints, by operator."""

    secrets: dict[str, Secret]
    policy: Policy
    logs: dict[str, list[bytes]] = field(default_factory=dict)
    notes: dict[str, list[bytes]] = field(default_factory=dict)
    found: dict[str, list[Found]] = field(default_factory=dict)
    audits: int = 0

    @classmethod
    def of(cls, sites: Sequence[str] = ("north", "east"), **changes: Any) -> Self:
        """Return a consortium that has done nothing yet; `changes` are to its policy."""
        secrets = [Secret.generate(name) for name in ("coordinator", *sites)]
        policy = policy_for(secrets, **changes)
        return cls(
            secrets={secret.name: secret for secret in secrets},
            policy=policy,
            logs={secret.name: [] for secret in secrets},
            notes={secret.name: [] for secret in secrets},
            found={name: [] for name in sites},
        )

    @classmethod
    def finished(cls, **changes: Any) -> Self:
        """Return a consortium that has honestly done everything."""
        consortium = cls.of(**changes)
        consortium.swear().admit().start().train().make().audit().decide()
        return consortium

    @property
    def sites(self) -> list[str]:
        """The sites' names."""
        return [site.name for site in self.policy.sites]

    def say(self, predicate: Predicate, *, by: str | None = None, logs: Sequence[str] | None = None) -> None:
        """Sign a statement and log it, at its maker's and in the study unless told otherwise."""
        maker = predicate.site if isinstance(predicate, SitePredicate) else "coordinator"
        leaf = sign(predicate.statement(), self.secrets[by or maker])
        for name in dict.fromkeys(logs if logs is not None else (maker, "coordinator")):
            self.logs[name].append(leaf)

    def witness(self, operator: str, *, by: Sequence[str] | None = None, at: int = NOW) -> str:
        """Take a checkpoint of a log, cosigned by the other sites or by those named; return its identity."""
        hashes = [leaf_hash(leaf) for leaf in self.logs[operator]]
        name = origin(self.policy, operator)
        note = sign_checkpoint(name, len(hashes), root(hashes), self.secrets[operator])
        for site in self.sites if by is None else by:
            if site != operator:
                note = cosign(note, self.secrets[site], at)
        self.notes[operator].append(note)
        return decode(note)[0].identity

    def swear(self, *, but: str = "") -> Self:
        """Every site but one swears to the policy."""
        for site in self.sites:
            if site != but:
                self.say(Oath(policy_digest=self.policy.digest, site=site))
        return self

    def nonce(self, site: str) -> str:
        """Return the nonce of a site's audits."""
        return self.secrets[site].audit_nonce(self.policy.digest)

    def admit(self, **changes: Any) -> Self:
        """Every site admits its cohort."""
        for site in self.sites:
            facts: dict[str, Any] = {
                "policy_digest": self.policy.digest,
                "site": site,
                "as_of": NOW - 60,
                "source": "meds",
                "schema_digest": digest(site.encode()),
                "simulated": "nobody's records",
                "considered": 1000,
                "rows_of_nobody": 0,
                "absent_numbers": 0,
                "excluded": (),
                "members": 500,
                "held_out": 215,
                "reference": 0,
                "roots": Roots(members=EMPTY, held_out=EMPTY, reference=EMPTY),
                "nonce_digest": digest(self.nonce(site).encode()),
            }
            self.say(Admission(**(facts | changes)))
        return self

    def start(self, **how: Any) -> Self:
        """Let the sites cosign the study's log before the first step."""
        self.witness("coordinator", **how)
        return self

    def event(self, **changes: Any) -> PrivacyEvent:
        """Return the privacy event of the plan, all attempts but the spare ones."""
        training, budget = self.policy.training, self.policy.budget
        if budget is None:
            return Unbounded(mechanism="unbounded", attempts=training.steps)
        honest = self.policy.min_sites - self.policy.colluding
        event = planned_event(
            training,
            budget,
            share_sigma=planned_sigma(training, budget, honest),
            honest_shares=honest,
            shares=len(self.sites),
            dimension=self.policy.weights or 1,
            attempts=training.steps,
        )
        changed: PrivacyEvent = event.model_copy(update=changes)
        return changed

    @property
    def run(self) -> str:
        """The checkpoint that training started from."""
        return decode(self.notes["coordinator"][0])[0].identity

    def train(self, *, event: PrivacyEvent | None = None) -> Self:
        """Train two rounds of equal length, and let every site state what it charged."""
        return self.gather(1).step(1).gather(2).step(2).charge(event=event)

    def gather(self, number: int, *, witness: bool = True, at: int = NOW, **changes: Any) -> Self:
        """Every site reads its consents again, and states its cohort of one round."""
        for site in self.sites:
            facts: dict[str, Any] = {
                "policy_digest": self.policy.digest,
                "site": site,
                "run": self.run,
                "round": number,
                "as_of": NOW - 30,
                "members": 500,
                "root": EMPTY,
            }
            self.say(Round(**(facts | changes)))
        if witness:
            self.witness("coordinator", at=at)
        return self

    def step(self, number: int, **changes: Any) -> Self:
        """Let the coordinator state the steps of one round, of two."""
        half = self.policy.training.steps // 2
        weights = [digest(b"first"), digest(b"half"), digest(b"last")]
        facts: dict[str, Any] = {
            "policy_digest": self.policy.digest,
            "run": self.run,
            "round": number,
            "first_step": 1 + half * (number - 1),
            "last_step": half * number,
            "attempts": half * number,
            "summed": dict.fromkeys(self.sites, half * number),
            "first_weights": weights[number - 1],
            "last_weights": weights[number],
        }
        self.say(TrainedWithSecureSum(**(facts | changes)))
        return self

    def charge(self, *, event: PrivacyEvent | None = None) -> Self:
        """Every site states what it charged to its members."""
        for site in self.sites:
            charged = Charged(
                policy_digest=self.policy.digest, site=site, run=self.run, event=event or self.event()
            )
            self.say(charged)
        return self

    def make(self, *, witness: bool = True, at: int = NOW + 60, **changes: Any) -> Self:
        """State the model, and let the sites cosign the log before the audit."""
        files = {"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}
        facts: dict[str, Any] = {
            "policy_digest": self.policy.digest,
            "run": self.run,
            "weights": digest(b"last"),
            "files": files,
            "model": digest(canonical(files)),
        }
        self.say(ModelMade(**(facts | changes)))
        if witness:
            self.witness("coordinator", at=at)
        return self

    def audit(
        self,
        *,
        estimate: str = "0.5",
        members: int = 500,
        scores: Sequence[str] = SCORES,
        logs: Sequence[str] | None = None,
        **changes: Any,
    ) -> Self:
        """Every site states a finding of its membership test, on the patients that it last said it audits."""
        note = self.notes["coordinator"][-1]
        if not self.audits:
            self.audit_cohort()
        model = digest(canonical({"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}))
        measures = (
            _blind(members),
            *chain.from_iterable(_measures(score, estimate, members) for score in scores),
        )
        for site in self.sites:
            seed = audit_seed(
                policy=self.policy.digest, model=model, nonce=self.nonce(site), test=TEST, site=site
            )
            facts: dict[str, Any] = {
                "test": TEST,
                "version": 2,
                "site": site,
                "model": model,
                "seed": seed,
                "threat": MEMBERSHIP_THREAT,
                "outcome": Measured(kind="measured", measures=measures, tokens=0),
            }
            run = decode(note)[0].identity
            finding = Finding(**(facts | changes))
            found = Found(
                policy_digest=self.policy.digest, site=site, run=run, nonce=self.nonce(site), finding=finding
            )
            self.found[site].append(found)
            self.say(found, logs=logs)
        return self

    def audit_cohort(self, **changes: Any) -> Self:
        """Every site reads its consents again, and states whom it audits."""
        self.audits += 1
        for site in self.sites:
            facts: dict[str, Any] = {
                "policy_digest": self.policy.digest,
                "site": site,
                "run": decode(self.notes["coordinator"][-1])[0].identity,
                "number": self.audits,
                "as_of": NOW + 60,
                "members": 500,
                "held_out": 215,
                "reference": 0,
                "roots": AuditRoots(members=EMPTY, held_out=EMPTY, reference=EMPTY),
            }
            self.say(Audited(**(facts | changes)))
        return self

    def verdict(self) -> Verdict:
        """Return the verdict that the findings and gates give."""
        numbered = [attempt for site in self.sites for attempt in attempts_of(self.found[site])]
        return judgement_of(self.policy, numbered).verdict

    def decide(self, *, by: Sequence[str] | None = None, at: int = NOW + 120, **changes: Any) -> Self:
        """Have the sites' logs witnessed, decide, and have the study's log witnessed last."""
        heads = {site: self.witness(site, at=at, by=by) for site in self.sites}
        files = {"config.json": digest(b"config"), "model.safetensors": digest(b"weights")}
        facts: dict[str, Any] = {
            "policy_digest": self.policy.digest,
            "model": digest(canonical(files)),
            "heads": heads,
            "verdict": self.verdict().value,
        }
        self.say(Decided(**(facts | changes)))
        self.witness("coordinator", at=at, by=by)
        return self

    def contents(self) -> Contents:
        """Return the contents of the bundle."""
        return Contents(
            policy=canonical(self.policy.plain()),
            parties={name: secret.party().encoded() for name, secret in self.secrets.items()},
            logs={
                name: BundledLog(leaves=tuple(self.logs[name]), checkpoints=tuple(self.notes[name]))
                for name in self.logs
            },
        )

    def bundle(self) -> bytes:
        """Return the bundle."""
        return pack(self.contents().files())

    def trust(self) -> Trust:
        """Return the trust of somebody who compared all fingerprints."""
        parties = [
            {"name": name, "fingerprint": secret.party().fingerprint} for name, secret in self.secrets.items()
        ]
        return Trust.parse({"format": "oathbound/trust/v1", "party": parties}, what="trust")
