"""Verified bundles made by hand: what `verify` would return, without the cryptography that it took."""

import re
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest

from oathbound.core import accounting
from oathbound.core.canonical import digest
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.event import SampledGaussian, Unbounded
from oathbound.core.finding import Finding
from oathbound.core.folder_audit import FolderAudit
from oathbound.core.gates import Attempted, judge
from oathbound.core.ladder import NOT_EXPRESSIBLE
from oathbound.core.study import Policy
from oathbound.evidence.predicates import (
    Admission,
    Audited,
    AuditRoots,
    Charged,
    Found,
    ModelMade,
    Round,
    TrainedWithSecureSum,
)
from oathbound.evidence.verify import STEPS, Verified
from oathbound.report.page import render

SITES = ("north", "river", "south")
STARTED = 1_763_000_000

POLICY = {
    "study": "liver-study",
    "purpose": "Forecast the course of fatty liver disease from laboratory values and diagnoses.",
    "coordinator": {"name": "registry", "fingerprint": digest(b"registry")},
    "sites": [{"name": site, "fingerprint": digest(site.encode())} for site in SITES],
    "min_sites": 3,
    "colluding": 1,
    "dishonest_witnesses": 0,
    "aggregator": "secure-sum",
    "privacy": "patient-dp",
    "budget": {
        "epsilon": "3.0",
        "delta": "1e-6",
        "unit": "patient",
        "neighbours": "add-remove",
        "noise_multiplier": "1.2",
        "sites_per_patient": 1,
    },
    "consent": {
        "training_purpose": "HRESCH",
        "audit_purpose": "HQUALIMP",
        "classes": ["SUD", "HIV"],
        "staleness_hours": 24,
    },
    "drawing": {"window": ["0", "1"], "held_out": "0.3", "reference": "0.1"},
    "vocabulary": {"codes": ["ALT", "HIV"], "edges": {"ALT": ["40"]}, "ages": ["50"], "gaps": ["30"]},
    "model": {"name": "event-transformer", "layers": 2, "width": 64, "heads": 4, "length": 128, "seed": 7},
    "training": {
        "members": 7200,
        "sampling_rate": "0.01",
        "steps": 300,
        "attempts": 330,
        "round_steps": 1000,
        "learning_rate": "0.001",
        "warmup": 10,
        "ring_norm": 4096,
        "clip": "1.0",
    },
    "audit": {
        "alpha": "0.05",
        "minimum_patients": 20,
        "sensitive": {
            "name": "infectious disease",
            "codes": ["HIV"],
            "implied_by": [],
            "prompt_events": 10,
            "horizon": 32,
            "chains": 2,
        },
    },
    "gates": [
        {"test": "membership", "metric": "auc", "at_most": "0.55"},
        {"test": "membership", "metric": "tpr-at-1-percent", "at_most": "0.03"},
        {"test": "sensitive-disclosure", "metric": "excess", "at_most": "0.01"},
    ],
}

HEART = {
    "vocabulary": None,
    "features": {
        "present": ["sex"],
        "numbers": [
            {"code": "chol", "centre": "240", "scale": "50", "missing": ["0"]},
            {"code": "age", "centre": "50", "scale": "10", "missing": []},
        ],
        "label": {"code": "num", "at_least": "1"},
    },
    "model": {"name": "logistic-regression"},
    "audit": {"alpha": "0.05", "minimum_patients": 20},
    "gates": [{"test": "membership", "metric": "auc", "at_most": "0.55"}],
}
"""What makes the policy that of a classifier."""

EXTENSION = {
    "group": "audits",
    "name": "shadow",
    "distribution": "hospital-audits",
    "version": "2.1",
    "digest": digest(b"extension"),
    "measures": {"auc": ["ratio"]},
}

THREATS = {
    "membership": {"sees": "log-probabilities of any record", "knows": "one patient's whole record"},
    "sensitive-disclosure": {
        "sees": "samples from the model",
        "knows": "age, sex and the first ten events of a patient, without sensitive codes",
    },
}

Make = Callable[..., Verified]


def auc(estimate: str, score: str = "loss", error: str = "0.010", patients: int = 2400) -> dict:
    sizes = {"members": patients, "held_out": patients // 2}
    return {"kind": "auc", "score": score, "estimate": estimate, "standard_error": error, **sizes}


def tpr(hits: int, score: str = "loss", patients: int = 2400) -> dict:
    return {
        "kind": "tpr-at-1-percent",
        "score": score,
        "lower_hits": hits,
        "upper_hits": hits + 10,
        "members": patients,
        "held_out": patients // 2,
    }


def excess(estimate: str, error: str = "0.003") -> dict:
    return {
        "kind": "excess",
        "score": "emission",
        "estimate": estimate,
        "standard_error": error,
        "member_mean": str(Decimal("0.030") + Decimal(estimate)),
        "held_out_mean": "0.030",
        "members": 400,
        "held_out": 400,
        "strata": "sex, age band and prompt length",
    }


RUNGS = ("nothing", "age-and-sex", "codes-1", "codes-5", "codes-10", "codes-10-dates", "codes-10-values")


def rung(name: str, members: str, held_out: str, error: str = "0.002", patients: int = 900) -> dict:
    """One rung of a ladder: what members and held-out patients have in the mean."""
    sizes = {"members": patients, "held_out": patients}
    means = {"member_mean": members, "held_out_mean": held_out, "standard_error": error}
    return excess(str(Decimal(members) - Decimal(held_out))) | sizes | means | {"score": name}


def climbing(slope: str = "1") -> list[dict]:
    """A ladder whose excess grows, `slope` times as much, and whose last rung no vocabulary can express."""
    means = ("0.030", "0.030", "0.031", "0.036", "0.062", "0.118")
    rungs = [
        rung(
            name,
            str(
                (Decimal("0.030") + Decimal(slope) * (Decimal(mean) - Decimal("0.030"))).quantize(
                    Decimal("0.001")
                )
            ),
            "0.030",
        )
        for name, mean in zip(RUNGS, means, strict=False)
    ]
    last = {"kind": "not-measurable", "metric": "excess", "score": RUNGS[-1], "reason": NOT_EXPRESSIBLE}
    return [*rungs, last]


def tail(hits: int, above_all: int, score: str = "loss", patients: int = 2400) -> dict:
    sizes = {"members": patients, "held_out": patients // 2}
    return {"kind": "tail", "score": score, "above_all": above_all, "rank": 5, "hits": hits, **sizes}


def baseline(estimate: str, score: str = "records") -> dict:
    return auc(estimate, score, error="0.012", patients=1200) | {"kind": "baseline"}


def audit_of(*outcomes: tuple[str, dict], attempt: int = 1, known: int | None = 97) -> FolderAudit:
    """An audit without a study, of these outcomes by test."""
    sensitive = POLICY["audit"]["sensitive"] | {"ladder": list(RUNGS)}  # type: ignore[index]
    data = {
        "format": "oathbound/findings/v1",
        "attempt": attempt,
        "plan": {"alpha": "0.05", "minimum_patients": 20, "sensitive": sensitive},
        "findings": [
            {
                "test": test,
                "version": CATALOGUE[test].version,
                "site": "here",
                "model": digest(b"model"),
                "seed": digest(test.encode()),
                "threat": THREATS.get(test, {"sees": "the model", "knows": "nothing"}),
                "outcome": outcome,
            }
            for test, outcome in outcomes
        ],
    }
    return FolderAudit.parse(data | ({} if known is None else {"known": known}), what="findings")


def measured(*measures: dict) -> dict:
    return {"kind": "measured", "measures": list(measures), "tokens": 1_250_000}


def did_not_run(reason: str) -> dict:
    return {"kind": "did-not-run", "reason": reason}


def finding(site: str, test: str, outcome: dict) -> Found:
    return Found(
        policy_digest=digest(b"policy"),
        site=site,
        run=digest(b"made"),
        nonce=digest(b"nonce"),
        finding=Finding.parse(
            {
                "test": test,
                "version": 1,
                "site": site,
                "model": digest(b"model"),
                "seed": digest(f"{test} {site}".encode()),
                "threat": THREATS.get(test, {"sees": "the model", "knows": "nothing"}),
                "outcome": outcome,
            },
            what="finding",
        ),
    )


def harmless() -> list[Found]:
    """Every test at every site, far below the gates."""
    scores = ("loss", "min-k")
    membership = [
        (site, measured(*(measure for score in scores for measure in (auc(estimate, score), tpr(25, score)))))
        for site, estimate in zip(SITES, ("0.502", "0.511", "0.495"), strict=True)
    ]
    return [finding(site, "membership", outcome) for site, outcome in membership] + [
        finding(site, "sensitive-disclosure", measured(excess("0.001"))) for site in SITES
    ]


def admission(site: str, simulated: str | None) -> Admission:
    data = {
        "policy_digest": digest(b"policy"),
        "site": site,
        "as_of": STARTED - 3600,
        "source": "meds",
        "schema_digest": digest(b"schema"),
        "considered": 5850,
        "unreadable_consents": 0,
        "rows_of_nobody": 0,
        "absent_numbers": 40,
        "excluded": [
            {"reason": "no consent to training", "patients": 1240},
            {"reason": "consent withdrawn", "patients": 150},
            {"reason": "consent had ended"},
        ],
        "members": 2400,
        "held_out": 1200,
        "reference": 400,
        "nonce_digest": digest(digest(b"nonce").encode()),
        "roots": {part: digest(f"{site} {part}".encode()) for part in ("members", "held_out", "reference")},
    }
    return Admission.parse(data | ({"simulated": simulated} if simulated else {}), what="admission")


def rounds(site: str, policy_digest: str) -> list[Round]:
    """Two rounds that were trained, between which somebody withdrew, and one that took no step."""
    return [
        Round(
            policy_digest=policy_digest,
            site=site,
            run=digest(b"start"),
            round=number,
            as_of=STARTED + 10_000 * number,
            members=members,
            root=digest(f"{site} round {number}".encode()),
        )
        for number, members in ((1, 2400), (2, 2395), (3, 2360))
    ]


def segment(number: int, policy_digest: str) -> TrainedWithSecureSum:
    """Half of the steps: of round 1, or of round 3, for round 2 took no step."""
    weights = (digest(b"first"), digest(b"half"), digest(b"last"))
    return TrainedWithSecureSum(
        policy_digest=policy_digest,
        run=digest(b"start"),
        round=2 * number - 1,
        first_step=150 * number - 149,
        last_step=150 * number,
        attempts=150 * number,
        summed=dict.fromkeys(SITES, 150 * number),
        first_weights=weights[number - 1],
        last_weights=weights[number],
    )


def audited(site: str, policy_digest: str) -> Audited:
    return Audited(
        policy_digest=policy_digest,
        site=site,
        run=digest(b"made"),
        number=1,
        as_of=STARTED + 60_000,
        members=2350,
        held_out=1195,
        reference=0,
        roots=AuditRoots(
            members=digest(f"{site} audit".encode()),
            held_out=digest(f"{site} audit held out".encode()),
            reference=digest(f"{site} audit reference".encode()),
        ),
    )


def charged(site: str, policy: Policy) -> Charged:
    event: SampledGaussian | Unbounded = Unbounded(mechanism="unbounded", attempts=300)
    if policy.budget is not None:
        event = SampledGaussian(
            mechanism="sampled-gaussian",
            sampling_rate=policy.training.sampling_rate,
            ring_norm=policy.training.ring_norm,
            share_sigma=Decimal("3475.7"),
            honest_shares=2,
            shares=3,
            dimension=130_000,
            tail=Decimal("1e-30"),
            sites_per_patient=1,
            attempts=300,
        )
    return Charged(policy_digest=digest(b"policy"), site=site, run=digest(b"start"), event=event)


@pytest.fixture
def make() -> Make:
    """Return a function that makes a `Verified` of findings, a changed policy, and words of simulation."""

    def made(
        findings: list[Found] | None = None, *, changes: dict | None = None, simulated: str | None = None
    ) -> Verified:
        policy = Policy.parse({**POLICY, **(changes or {})}, what="policy")
        found = harmless() if findings is None else findings
        seen: dict[tuple[str, str], int] = {}
        attempts = []
        for each in found:
            key = (each.site, each.finding.test)
            seen[key] = seen.get(key, 0) + 1
            attempts.append(Attempted(finding=each.finding, attempt=seen[key]))
        charges = tuple(charged(site.name, policy) for site in policy.sites)
        event = charges[0].event
        return Verified(
            policy=policy,
            policy_digest=policy.digest,
            parties=(),
            model=ModelMade(
                policy_digest=policy.digest,
                run=digest(b"start"),
                weights=digest(b"last"),
                files={"model.safetensors": digest(b"file"), "config.json": digest(b"config")},
                model=digest(b"model"),
            ),
            training=(segment(1, policy.digest), segment(2, policy.digest)),
            rounds=tuple(each for site in policy.sites for each in rounds(site.name, policy.digest)),
            admissions=tuple(admission(site.name, simulated) for site in policy.sites),
            charges=charges,
            audits=tuple(audited(site.name, policy.digest) for site in policy.sites),
            findings=tuple(found),
            epsilon=None if policy.budget is None else accounting.epsilon(event, policy.budget.delta),
            judgement=judge(policy.gates, policy.audit, tuple(site.name for site in policy.sites), attempts),
            started=STARTED,
            decided=STARTED + 90_000,
            steps=tuple(STEPS.values()),
        )

    return made


@pytest.fixture
def passed(make: Make) -> Verified:
    return make(simulated="one public cohort, divided at random among three sites")


@pytest.fixture
def refused(make: Make) -> Verified:
    found = harmless()
    outcome = measured(auc("0.504"), tpr(25), auc("0.931", "min-k", "0.006"), tpr(820, "min-k"))
    return make([finding("north", "membership", outcome), *found[1:]])


@pytest.fixture
def undecided(make: Make) -> Verified:
    """Without privacy; a wide interval, a test that did not run, a measure that was not measurable."""
    small = {
        "kind": "not-measurable",
        "metric": "tpr-at-1-percent",
        "score": "loss",
        "reason": "fewer than 437 held-out patients",
    }
    return make(
        [
            finding("north", "membership", measured(auc("0.531", error="0.028", patients=700), tpr(25))),
            finding("river", "membership", measured(auc("0.520", error="0.030", patients=700), small)),
            finding("south", "membership", measured(auc("0.548", error="0.031", patients=700), tpr(25))),
            finding("north", "sensitive-disclosure", measured(excess("0.004"))),
            finding("river", "sensitive-disclosure", did_not_run("too few carriers of a sensitive code")),
        ],
        changes={"privacy": "none", "budget": None},
    )


@pytest.fixture
def laddered(make: Make) -> Verified:
    """A ladder that climbs above its gate, most at one site; tails, and baselines."""
    return _climbed(make, baseline("0.503"))


@pytest.fixture
def shifted(make: Make) -> Verified:
    """The same where the groups of one site differ by themselves."""
    return _climbed(make, baseline("0.668"))


def _climbed(make: Make, of_south: dict) -> Verified:
    slopes = dict(zip(SITES, ("0.8", "1", "2"), strict=True))
    exposed = (tail(25, 5), tail(140, 35, "min-k"), baseline("0.508"))
    calm = (tail(5, 0), tail(10, 0, "min-k"))
    tails = {"north": exposed, "river": (*calm, baseline("0.493")), "south": (*calm, of_south)}
    found = [
        *(
            finding(
                site,
                "membership",
                measured(auc("0.508"), tpr(25), auc("0.512", "min-k"), tpr(30, "min-k"), *tails[site]),
            )
            for site in SITES
        ),
        *(finding(site, "sensitive-disclosure", measured(*climbing(slopes[site]))) for site in SITES),
        *(
            finding(site, "trajectory-recall", measured(excess("0.012") | {"score": "closeness"}))
            for site in SITES
        ),
    ]
    sensitive = POLICY["audit"]["sensitive"] | {"ladder": list(RUNGS)}  # type: ignore[index]
    gates = [POLICY["gates"][0], {**POLICY["gates"][2], "at_most": "0.02"}]  # type: ignore[index]
    return make(found, changes={"audit": {**POLICY["audit"], "sensitive": sensitive}, "gates": gates})  # type: ignore[dict-item]


@pytest.fixture
def alone() -> FolderAudit:
    """An audit without a study: a second attempt, of a model that knows few of the events."""
    small = {
        "kind": "not-measurable",
        "metric": "tpr-at-1-percent",
        "score": "loss",
        "reason": "fewer than 437 held-out patients",
    }
    return audit_of(
        ("identifier-perturbation", did_not_run("the plan does not say how identifiers are changed")),
        (
            "membership",
            measured(
                auc("0.641", error="0.031", patients=400),
                small,
                auc("0.512", "min-k", error="0.034", patients=400),
                tail(60, 35, patients=400),
                baseline("0.505"),
            ),
        ),
        ("sensitive-disclosure", measured(*climbing())),
        attempt=2,
        known=61,
    )


@pytest.fixture
def build() -> dict[str, Any]:
    """The parts of a finding, for tests that make their own."""
    return {
        "finding": finding,
        "measured": measured,
        "did_not_run": did_not_run,
        "auc": auc,
        "harmless": harmless,
        "heart": HEART,
        "extension": EXTENSION,
        "policy": POLICY,
        "tail": tail,
        "baseline": baseline,
        "rung": rung,
        "climbing": climbing,
        "rungs": RUNGS,
        "audit_of": audit_of,
    }


class Text(HTMLParser):
    """The words of a page; the cells of a table are apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self._style = "", False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - the parser's signature
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False
        if tag in {"td", "th", "li", "dt", "dd", "p", "caption"}:
            self.text += " "

    def handle_data(self, data):
        if not self._style:
            self.text += data


@pytest.fixture
def text_of() -> Callable[[Verified], str]:
    """Return a function that makes the words of a verified bundle's page, with single spaces."""
    return lambda verified: re.sub(r"\s+", " ", Text(render(verified, bundle_digest=digest(b"bundle"))).text)
