"""What the attacks found: claims against their gates and estimates without one, as figures and in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from markupsafe import Markup

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import BROKEN, EVERYWHERE, Claim, Verdict
from oathbound.core.finding import DidNotRun, Finding
from oathbound.core.folder_audit import FolderAudit
from oathbound.core.gates import baseline_rate, error_rate
from oathbound.core.record import decimal_text
from oathbound.core.study import Gate
from oathbound.core.unjudged import Estimate, estimates
from oathbound.core.usable import tells_apart
from oathbound.evidence.verify import Verified
from oathbound.report.figures import (
    STATES,
    axis,
    interval,
    interval_text,
    per_cent,
    statistic,
)
from oathbound.report.forest import Figure, figure_of, metric_of, scale_of
from oathbound.report.ladder import Ladder, ladder
from oathbound.report.limits import baselines, blind_said, tail_table
from oathbound.report.tables import Place, Table, facts
from oathbound.report.words import QUESTIONS, Metric


@dataclass(frozen=True, slots=True)
class Ground:
    """What the verdict rests on at one gate: the claim that decides it, in words and as a figure.

    `plot` is empty where nothing was measured.
    """

    question: str
    said: str
    source: str
    metric: str
    limit: Decimal
    interval: str
    plot: Markup
    state: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class Attack:
    """One audit test: the question, what its attacker has, the figures, and the facts of every site."""

    test: str
    question: str
    threats: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    ladder: Ladder | None
    blind: tuple[str, ...]
    tail: Table
    facts: Table
    tokens: int


def grounds(verified: Verified) -> Iterator[Ground]:
    """Yield what refuses without a gate, and then for each gate of the policy what decides it."""
    for claim in verified.judgement.claims:
        if claim.metric == BROKEN:
            yield _broken(claim)
    for gate in verified.policy.gates:
        yield _ground(gate, _of_gate(gate, verified.judgement.claims), len(verified.policy.sites))


def _ground(gate: Gate, claims: list[Claim], sites: int) -> Ground:
    """Return what decides one gate, as `core.gates` does.

    That is the worst failure, of any site; else what was not measured; else the claim over all sites that
    comes closest to the gate.
    """
    metric = metric_of(gate.test, gate.metric)
    failed = [claim for claim in claims if claim.state is Verdict.FAIL]
    missing = [claim for claim in claims if claim.estimate is None]
    if missing and not failed:
        where = tuple(dict.fromkeys(claim.site for claim in missing))
        return Ground(
            question=_question(gate.test),
            said=f"Not measured at {'any site' if len(where) == sites else ', '.join(where)}.",
            source=f"{gate.test}, {metric.name}",
            metric=metric.name,
            limit=gate.at_most,
            interval="not measured",
            plot=Markup(""),
            state=Verdict.INCONCLUSIVE.value,
            word=STATES[Verdict.INCONCLUSIVE],
            note="",
        )
    if failed:
        claim = max(failed, key=lambda claim: claim.lower or Decimal(0))
    else:
        pooled = [claim for claim in claims if claim.site == EVERYWHERE]
        open_ = [claim for claim in pooled if claim.state is Verdict.INCONCLUSIVE]
        claim = max(open_ or pooled, key=lambda claim: claim.upper or Decimal(0))
    scale = scale_of(gate, metric, [claim])
    return Ground(
        question=_question(gate.test),
        said=_said(claim, metric),
        source=f"{gate.test}, {metric.name} of {claim.score}, {claim.site}",
        metric=metric.name,
        limit=gate.at_most,
        interval=interval_text(claim),
        plot=axis(scale, gate.at_most) + interval(claim, scale, chance=metric.chance),
        state=claim.state.value,
        word=STATES[claim.state],
        note=claim.note,
    )


def _broken(claim: Claim) -> Ground:
    """Return the ground of a refusal because the training procedure did not keep its promise."""
    return Ground(
        metric="privacy of the training procedure",
        question=_question(claim.test),
        said=f"{claim.note}.",
        source=f"{claim.test}, {claim.score}, {claim.site}",
        limit=claim.gate,
        interval="not measured" if claim.lower is None else f"at least {statistic(claim.lower)}",
        plot=Markup(""),
        state=claim.state.value,
        word="above what was accounted",
        note="",
    )


def _said(claim: Claim, metric: Metric) -> str:
    if claim.lower is None or claim.upper is None or not metric.said:
        return f"{interval_text(claim)}, for a gate of {decimal_text(claim.gate)}."
    return metric.said.format(
        low=per_cent(claim.lower), high=per_cent(claim.upper), gate=decimal_text(claim.gate.scaleb(2))
    )


def attacks(verified: Verified) -> Iterator[Attack]:
    """Yield the tests that the gates name, in the gates' order, and then any other that was run.

    Limits without a gate hold at the error rate of the round that decided the verdict.
    """
    findings = [found.finding for found in verified.findings]
    gates, plan, claims = verified.policy.gates, verified.policy.audit, verified.judgement.claims
    number = max(claim.attempt for claim in claims)
    ungated = _ungated(verified)
    tests = dict.fromkeys([gate.test for gate in gates] + [finding.test for finding in findings])
    found = {
        test: _Found(
            [each for each in findings if each.test == test], number, plan, len(verified.policy.sites)
        )
        for test in tests
    }
    blind = _Blind.of(found.values(), plan)
    for test, own in found.items():
        yield _attack(
            test,
            own,
            tuple(gate for gate in gates if gate.test == test),
            [claim for claim in claims if claim.test == test],
            [estimate for estimate in ungated if estimate.test == test],
            blind=blind,
        )


def _ungated(verified: Verified) -> tuple[Estimate, ...]:
    findings = [found.finding for found in verified.findings]
    policy = verified.policy
    number = max(claim.attempt for claim in verified.judgement.claims)
    latest = [
        each
        for test in dict.fromkeys(finding.test for finding in findings)
        for each in _Found([f for f in findings if f.test == test], number, policy.audit, 0).latest
    ]
    return estimates(
        latest,
        policy.audit.minimum_patients,
        error_rate(policy.audit.alpha, number),
        gated={(gate.test, gate.metric) for gate in policy.gates},
    )


def confidences(verified: Verified) -> tuple[str, ...]:
    """Return how sure the page's intervals are: those of claims, and those without a gate."""
    claims, plan = verified.judgement.claims, verified.policy.audit
    side = error_rate(plan.alpha, max(claim.attempt for claim in claims))
    of_claims = dict.fromkeys(claim.confidence for claim in claims if claim.confidence)
    return (*of_claims, *_confidence(_ungated(verified), side))


def _confidence(found: Sequence[Estimate], side: float) -> Iterator[str]:
    together = sum(each.estimate is not None for each in found)
    if together:
        sure = f"{100 * (1 - side):.4g} %"
        yield f"without a gate, lower end {sure} for {together} measures together, upper end {sure} for one"


def audit_attacks(audit: FolderAudit) -> tuple[Attack, ...]:
    """Return the tests of an audit without a study; attempt k errs as seldom as a study's would."""
    estimated = _of_audit(audit)
    found = {each.test: _Found([each], audit.attempt, audit.plan, 1) for each in audit.findings}
    blind = _Blind.of(found.values(), audit.plan)
    return tuple(
        _attack(test, own, (), (), [each for each in estimated if each.test == test], blind=blind)
        for test, own in found.items()
    )


@dataclass(frozen=True, slots=True)
class _Blind:
    """The baselines of all tests: the error rate of an end of each, and the sites whose groups differ."""

    rate: float
    shifted: frozenset[str]

    @classmethod
    def of(cls, found: Iterable["_Found"], plan: AuditPlan) -> Self:
        """Return what a verdict makes of them."""
        told = list(baselines(finding for each in found for finding in each.latest))
        rate = baseline_rate(plan.alpha, len(told))
        return cls(rate, frozenset(site for site, baseline in told if tells_apart(baseline, rate)))


def audit_confidences(audit: FolderAudit) -> tuple[str, ...]:
    """Return how sure the intervals of `audit_attacks` are."""
    return tuple(_confidence(_of_audit(audit), error_rate(audit.plan.alpha, audit.attempt)))


def _of_audit(audit: FolderAudit) -> tuple[Estimate, ...]:
    side = error_rate(audit.plan.alpha, audit.attempt)
    return estimates(audit.findings, audit.plan.minimum_patients, side)


class _Found:
    """The findings of one test, every attempt; `attempt` is the round that counts."""

    def __init__(self, findings: Sequence[Finding], attempt: int, plan: AuditPlan, sites: int) -> None:
        self.findings, self.plan, self.sites = findings, plan, sites
        self.side = error_rate(plan.alpha, attempt)
        by_site: dict[str, list[Finding]] = {}
        for finding in findings:
            by_site.setdefault(finding.site, []).append(finding)
        self.counted = {site: min(attempt, len(own)) for site, own in by_site.items()}
        self.latest = [own[self.counted[site] - 1] for site, own in by_site.items()]


def _attack(
    test: str,
    found: _Found,
    gates: Sequence[Gate],
    claims: Sequence[Claim],
    ungated: Sequence[Estimate],
    *,
    blind: _Blind,
) -> Attack:
    plan = found.plan
    limit = next((gate.at_most for gate in gates if gate.metric == "excess"), None)
    metrics = dict.fromkeys(estimate.metric for estimate in ungated)
    rungs = (plan.sensitive.ladder or ()) if plan.sensitive and test == "sensitive-disclosure" else ()
    return Attack(
        test=test,
        question=_question(test),
        threats=tuple(dict.fromkeys((f.threat.sees, f.threat.knows) for f in found.findings)),
        figures=(
            *(
                figure_of(test, gate.metric, gate, _of_gate(gate, claims), shifted=frozenset(), order=rungs)
                for gate in gates
            ),
            *(
                figure_of(
                    test,
                    metric,
                    None,
                    [each for each in ungated if each.metric == metric],
                    shifted=blind.shifted,
                    order=rungs,
                )
                for metric in metrics
            ),
        ),
        ladder=ladder(found.latest, plan, limit, found.side, found.sites, shifted=blind.shifted)
        if test == "sensitive-disclosure"
        else None,
        blind=tuple(blind_said(found.latest, plan.minimum_patients, blind.rate)),
        tail=tail_table(found.latest, found.side, blind.shifted),
        facts=facts(found.findings, _ends([*claims, *ungated], found.counted)),
        tokens=sum(f.outcome.tokens for f in found.findings if not isinstance(f.outcome, DidNotRun)),
    )


def _ends(drawn: Iterable[Claim | Estimate], counted: Mapping[str, int]) -> dict[Place, str]:
    """Return the intervals of single sites, by place; what one site alone measured is its own."""
    ends = {}
    for each in drawn:
        site = next(iter(counted)) if each.site == EVERYWHERE and len(counted) == 1 else each.site
        if each.estimate is not None and site in counted:
            ends[site, counted[site], each.metric, each.score] = interval_text(each)
    return ends


def _question(test: str) -> str:
    return QUESTIONS.get(test, f"What does the test {test} find?")


def _of_gate(gate: Gate, claims: Iterable[Claim]) -> list[Claim]:
    return [claim for claim in claims if (claim.test, claim.metric) == (gate.test, gate.metric)]
