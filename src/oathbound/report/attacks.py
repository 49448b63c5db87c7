"""What the attacks found: the claims of a verdict against their gates, as figures and in words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

from markupsafe import Markup

from oathbound.core.finding import DidNotRun
from oathbound.core.gates import EVERYWHERE, Claim, Verdict
from oathbound.core.intervals import UNIT
from oathbound.core.record import decimal_text
from oathbound.core.study import Gate
from oathbound.evidence.verify import Verified
from oathbound.report.figures import STATES, Scale, axis, interval, interval_text, per_cent
from oathbound.report.tables import Table, count, facts
from oathbound.report.words import METRICS, OF_OTHER_TESTS, QUESTIONS, Metric


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One claim as a line of a figure. `pooled` is the line over all sites."""

    site: str
    pooled: bool
    figure: Markup
    interval: str
    patients: str
    state: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class GateFigure:
    """Claims about one gate, on one axis, grouped by the attacker's score."""

    gate: Gate
    metric: Metric
    axis: Markup
    scores: tuple[tuple[str, tuple[ClaimRow, ...]], ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the verdict rests on at one gate: the claim that decides it, in words and as a figure.

    `plot` is empty where nothing was measured.
    """

    question: str
    said: str
    source: str
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
    gates: tuple[GateFigure, ...]
    facts: Table
    tokens: int


def grounds(verified: Verified) -> Iterator[Ground]:
    """Yield, for each gate of the policy, what decides it."""
    for gate in verified.policy.gates:
        yield _ground(gate, _of_gate(gate, verified.judgement.claims), len(verified.policy.sites))


def _ground(gate: Gate, claims: list[Claim], sites: int) -> Ground:
    """Return what decides one gate, as `core.gates` does.

    That is the worst failure, of any site; else what was not measured; else the claim over all sites that
    comes closest to the gate.
    """
    metric = _metric(gate)
    failed = [claim for claim in claims if claim.state is Verdict.FAIL]
    missing = [claim for claim in claims if claim.estimate is None]
    if missing and not failed:
        where = tuple(dict.fromkeys(claim.site for claim in missing))
        return Ground(
            question=_question(gate.test),
            said=f"Not measured at {'any site' if len(where) == sites else ', '.join(where)}.",
            source=f"{gate.test}, {metric.name}",
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
    scale = _scale(gate, metric, [claim])
    return Ground(
        question=_question(gate.test),
        said=_said(claim, metric),
        source=f"{gate.test}, {metric.name} of {claim.score}, {claim.site}",
        plot=axis(scale, gate.at_most) + interval(claim, scale, chance=metric.chance),
        state=claim.state.value,
        word=STATES[claim.state],
        note=claim.note,
    )


def _said(claim: Claim, metric: Metric) -> str:
    if claim.lower is None or claim.upper is None or not metric.said:
        return f"{interval_text(claim)}, for a gate of {decimal_text(claim.gate)}."
    return metric.said.format(
        low=per_cent(claim.lower), high=per_cent(claim.upper), gate=decimal_text(claim.gate.scaleb(2))
    )


def attacks(verified: Verified) -> Iterator[Attack]:
    """Yield the tests that the gates name, in the gates' order, and then any other that was run."""
    findings = [found.finding for found in verified.findings]
    gates = verified.policy.gates
    for test in dict.fromkeys([gate.test for gate in gates] + [finding.test for finding in findings]):
        own = [finding for finding in findings if finding.test == test]
        yield Attack(
            test=test,
            question=_question(test),
            threats=tuple(dict.fromkeys((finding.threat.sees, finding.threat.knows) for finding in own)),
            gates=tuple(_gate_figure(gate, verified.judgement.claims) for gate in gates if gate.test == test),
            facts=facts(own),
            tokens=sum(f.outcome.tokens for f in own if not isinstance(f.outcome, DidNotRun)),
        )


def _question(test: str) -> str:
    return QUESTIONS.get(test, f"What does the test {test} find?")


def _metric(gate: Gate) -> Metric:
    known = METRICS.get(gate.metric)
    if gate.metric == "excess":
        known = OF_OTHER_TESTS.get(gate.test, known)
    return known or Metric(gate.metric, "", "", None)


def _of_gate(gate: Gate, claims: Iterable[Claim]) -> list[Claim]:
    return [claim for claim in claims if (claim.test, claim.metric) == (gate.test, gate.metric)]


def _gate_figure(gate: Gate, claims: Iterable[Claim]) -> GateFigure:
    own, metric = _of_gate(gate, claims), _metric(gate)
    scale = _scale(gate, metric, own)
    by_score = groupby(sorted(own, key=lambda claim: claim.score), key=lambda claim: claim.score)
    return GateFigure(
        gate=gate,
        metric=metric,
        axis=axis(scale, gate.at_most),
        scores=tuple(
            (score, tuple(_claim_row(claim, scale, metric) for claim in group)) for score, group in by_score
        ),
    )


def _scale(gate: Gate, metric: Metric, claims: Iterable[Claim]) -> Scale:
    ends = [end for claim in claims for end in (claim.lower, claim.estimate, claim.upper) if end is not None]
    beyond = gate.at_most + UNIT  # so that the axis goes on past the gate
    return Scale.over([gate.at_most, beyond, *ends, *([] if metric.chance is None else [metric.chance])])


def _claim_row(claim: Claim, scale: Scale, metric: Metric) -> ClaimRow:
    pooled = claim.site == EVERYWHERE
    # What would settle one site's claim matters to nobody: a pass does not need it.
    alone = pooled or claim.estimate is None
    return ClaimRow(
        site=claim.site,
        pooled=pooled,
        figure=interval(claim, scale, chance=metric.chance),
        interval=interval_text(claim),
        patients="—" if claim.estimate is None else f"{count(claim.members)} / {count(claim.held_out)}",
        state=claim.state.value,
        word=STATES[claim.state],
        note=claim.note if alone else "",
    )
