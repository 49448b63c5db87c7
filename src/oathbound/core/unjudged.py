"""What was measured without a gate: the same ends as a verdict's, held against nothing."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from oathbound.core.catalogue import UNGATED
from oathbound.core.finding import DidNotRun, Finding, Measure, NotMeasurable
from oathbound.core.intervals import UNIT
from oathbound.core.pooling import Usable, pool
from oathbound.core.usable import usable


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure of one site with its ends; where there are none, they are None, and `note` says why.

    `lower` holds together with the lower ends of all that were estimated at once; `upper` holds alone.
    """

    test: str
    metric: str
    score: str
    site: str
    note: str = ""
    estimate: Decimal | None = None
    lower: Decimal | None = None
    upper: Decimal | None = None
    members: int = 0
    held_out: int = 0
    gate: None = None
    state: None = None


def metric_of(measure: Measure) -> str:
    """Return which metric a measure is of, also one that could not be measured."""
    return measure.metric if isinstance(measure, NotMeasurable) else measure.kind


def estimates(
    findings: Sequence[Finding],
    minimum: int,
    alpha: float,
    *,
    gated: AbstractSet[tuple[str, str]] = frozenset(),
) -> tuple[Estimate, ...]:
    """Return every measure of the findings that a gate could ask for, and none asks for, each end at `alpha`.

    The lower ends are Bonferroni's over those that can be used. `minimum` is the least number of patients;
    `gated` are tests and metrics under a gate.
    """
    asked = [
        (finding, measure, usable(measure, minimum))
        for finding in findings
        if not isinstance(finding.outcome, DidNotRun)
        for measure in finding.outcome.measures
        if metric_of(measure) not in UNGATED and (finding.test, metric_of(measure)) not in gated
    ]
    together = sum(not isinstance(found, str) for _, _, found in asked)
    return tuple(
        _unmeasured(finding, measure, found)
        if isinstance(found, str)
        else _estimate(finding, found, alpha, together)
        for finding, measure, found in asked
    )


def _unmeasured(finding: Finding, measure: Measure, why: str) -> Estimate:
    return Estimate(finding.test, metric_of(measure), measure.score, finding.site, note=why)


def _estimate(finding: Finding, measure: Usable, alpha: float, together: int) -> Estimate:
    pooled = pool([measure])
    return Estimate(
        finding.test,
        measure.kind,
        measure.score,
        finding.site,
        estimate=pooled.estimate.quantize(UNIT, ROUND_HALF_EVEN),
        lower=pooled.interval(alpha / together).lower,
        upper=pooled.interval(alpha).upper,
        members=pooled.members,
        held_out=pooled.held_out,
    )
