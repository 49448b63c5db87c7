"""The ladder of attacker knowledge: its sentence, its curve, and a table of the same ends.

Risk grows to the right and knowledge downwards, so that the names of the rungs stay whole on a telephone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from markupsafe import Markup

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import EVERYWHERE, SHIFTED, Verdict
from oathbound.core.finding import DidNotRun, Excess, Finding, NotMeasurable
from oathbound.core.ladder import Level, levels, levels_together, risk, sentence, state, unexpressed
from oathbound.core.record import decimal_text
from oathbound.core.rungs import Rung
from oathbound.core.usable import usable
from oathbound.report.figures import STATES, UNJUDGED, Scale, gate_label, signed, statistic
from oathbound.report.tables import Table

_HEAD: Final = Decimal(2)
"""The height of the axis, in rungs."""

_LABELS: Final = 30
"""Per cent of the width that the names of the rungs take."""

_AGAINST_NOTHING: Final = {
    Verdict.PASS: "not above 0",
    Verdict.FAIL: "above 0",
    Verdict.INCONCLUSIVE: "undecided",
}

_EXTREMES: Final = (Decimal(-1), Decimal(1))


@dataclass(frozen=True, slots=True)
class Ladder:
    """What a ladder says: `sentence` as `core.ladder` says it, how its ends hold, and who was asked.

    `alone` says of several sites whether one by itself lies above; else it is empty.
    """

    sentence: str
    meaning: str
    alone: str
    figure: Markup
    table: Table


def ladder(
    findings: Sequence[Finding],
    plan: AuditPlan,
    gate: Decimal | None,
    alpha: float,
    sites: int,
    *,
    shifted: frozenset[str],
) -> Ladder | None:
    """Return what the findings of one test, one a site, say of the plan's ladder; None without one.

    `alpha` is the error rate of one end. Without a gate the risk is held against 0. Where a site is
    `shifted`, nothing is decided of all together, nor of that site.
    """
    rungs = (plan.sensitive.ladder if plan.sensitive else None) or ()
    measured = {
        finding.site: [_rung(finding, rung, plan.minimum_patients) for rung in rungs]
        for finding in findings
        if not isinstance(finding.outcome, DidNotRun)
    }
    if not any(isinstance(rung, Excess) for of_site in measured.values() for rung in of_site):
        return None
    where = EVERYWHERE if len(measured) == sites else ", ".join(measured)
    known = sum(all(isinstance(rung, Excess) for rung in of) for of in zip(*measured.values(), strict=True))
    risks = risk(levels_together(list(measured.values()), alpha))
    against = Decimal(0) if gate is None else gate
    open_ = bool(shifted & measured.keys())
    words = STATES if gate is not None else _AGAINST_NOTHING
    return Ladder(
        sentence=f"Undecided at every level: {SHIFTED}."
        if open_
        else sentence(risks, against, unexpressed(list(measured.values()))),
        meaning=_meaning(gate, alpha, known, "" if sites == 1 else where),
        alone=_alone(measured, against, alpha, shifted) if len(measured) > 1 else "",
        figure=_staircase(risks, gate, open_=open_),
        table=_table(risks, against, dict.fromkeys(Verdict, words[Verdict.INCONCLUSIVE]) if open_ else words),
    )


def _rung(finding: Finding, rung: str, minimum: int) -> Excess | NotMeasurable:
    measures = () if isinstance(finding.outcome, DidNotRun) else finding.outcome.measures
    for measure in measures:
        if measure.score == rung and isinstance(measure, (Excess, NotMeasurable)):
            found = usable(measure, minimum)
            if isinstance(found, Excess):
                return found
            if isinstance(measure, NotMeasurable):
                return measure
    why = "the finding has no excess of it that can be used"
    return NotMeasurable(kind="not-measurable", metric="excess", score=rung, reason=why)


def _meaning(gate: Decimal | None, alpha: float, rungs: int, where: str) -> str:
    over = f", over {where} together" if where else ""
    against = "0 is where the model treats both alike; it is no gate. " if gate is None else ""
    return (
        f"Risk is the largest excess up to a rung{over}: an attacker may ignore what is known. {against}"
        f"All ends hold together, lower and upper each with {100 * (1 - alpha):.4g} %: each of the {rungs} "
        "rungs that were measured has its share (Bonferroni). That makes them wider than the intervals of "
        "single rungs. A better attack may need less."
    )


def _alone(
    sites: Mapping[str, Sequence[Excess | NotMeasurable]],
    against: Decimal,
    alpha: float,
    shifted: frozenset[str],
) -> str:
    """Return whether a site by itself lies above; the lower ends hold together over sites and rungs."""
    found = []
    for site, measures in sites.items():
        if site in shifted:
            continue
        risks = risk(levels(measures, alpha / len(sites)))
        above = next((level for level in risks if level.lower > against), None)
        if above is not None:
            found.append(f"{site} from {above.rung} (lower end {statistic(above.lower)})")
    limit = decimal_text(against)
    if not found:
        return f"No single site is shown to lie above {limit} at any rung; small sites show little."
    return f"Single sites above {limit}: {'; '.join(found)}. These lower ends hold together."


def knowledge(rung: Rung) -> str:
    """Return what is known at a rung, in words."""
    if not rung.person:
        return "that a record begins"
    if not rung.codes:
        return "sex, and age at the first event"
    first = "the first harmless event" if rung.codes == 1 else f"the first {rung.codes} harmless events"
    further = ", when they were" if rung.dates else ""
    return f"also the codes of {first}{further}{', and the values measured' if rung.values else ''}"


def _table(risks: Sequence[Level], against: Decimal, words: Mapping[Verdict, str]) -> Table:
    return Table(
        "The risk at every rung, by what the attacker knows",
        ("Rung", "The attacker knows", "Risk up to here", "Result"),
        tuple(
            (level.rung, knowledge(Rung.parse(level.rung)), _ends(level), words[state(level, against)])
            for level in risks
        ),
    )


def _ends(level: Level) -> str:
    if (level.lower, level.upper) == _EXTREMES:
        return "not measured"
    return f"{statistic(level.lower)} to {statistic(level.upper)}"


def _staircase(risks: Sequence[Level], gate: Decimal | None, *, open_: bool) -> Markup:
    """Return the curve: of every rung a step from the lower to the upper end of its risk.

    Where all is `open_`, every step is drawn as undecided.
    """
    ends = [end for level in risks for end in (level.lower, level.upper) if end not in _EXTREMES]
    scale = Scale.over([Decimal(0), *ends, *([] if gate is None else [gate])])
    height = _HEAD + len(risks)
    step = 100 / height
    top = _HEAD * step
    return Markup(
        '<svg class="ladder" role="img" height="{height}em"><title>{title}</title><desc>{desc}</desc>'
        '<svg x="{left}%" width="{width}%" height="100%" overflow="visible">{axis}{steps}{gate}</svg>'
        "{names}</svg>"
    ).format(
        height=(height * Decimal("1.6")).normalize(),
        title="Risk at every rung of attacker knowledge",
        desc="; ".join(f"{level.rung}: {_ends(level)}" for level in risks),
        left=_LABELS,
        width=100 - _LABELS,
        axis=_axis(scale, gate, step, top),
        steps=Markup("").join(_steps(risks, scale, gate, step, top, open_=open_)),
        gate=Markup("")
        if gate is None
        else Markup('<line class="gate" x1="{x}%" x2="{x}%" y1="{top}%" y2="100%"/>').format(
            x=scale.at(gate), top=_places(top)
        ),
        names=Markup("").join(
            Markup('<text class="rung" x="0" y="{y}%" dy=".35em">{name}</text>').format(
                y=_places(top + (place + Decimal("0.5")) * step), name=level.rung
            )
            for place, level in enumerate(risks)
        ),
    )


def _axis(scale: Scale, gate: Decimal | None, step: Decimal, top: Decimal) -> Markup:
    ticks = (
        Markup(
            '<line class="guide" x1="{x}%" x2="{x}%" y1="{top}%" y2="100%"/>'
            '<text class="number" x="{x}%" y="{y}%" text-anchor="middle">{label}</text>'
        ).format(
            x=scale.at(tick), top=_places(top), y=_places(top - step / 4), label=signed(tick.normalize())
        )
        for tick in scale.ticks
    )
    return Markup("").join(ticks) + gate_label(scale, gate, _places(step * Decimal("0.7")))


def _steps(
    risks: Sequence[Level], scale: Scale, gate: Decimal | None, step: Decimal, top: Decimal, *, open_: bool
) -> Iterator[Markup]:
    """Yield the steps, and between them what joins the ends of one to the next, which are never lower."""
    before: tuple[Decimal, Decimal] | None = None
    for place, level in enumerate(risks):
        low, high = (scale.at(_within(end, scale)) for end in (level.lower, level.upper))
        y = top + place * step
        judged = Verdict.INCONCLUSIVE.value if open_ or gate is None else state(level, gate).value
        shown = UNJUDGED if gate is None and not open_ else judged
        yield Markup(
            '<rect class="step {state}" x="{low}%" width="{width}%" y="{y}%" height="{step}%"/>'
            '<line class="edge {state}" x1="{low}%" x2="{low}%" y1="{y}%" y2="{end}%"/>'
            '<line class="edge {state}" x1="{high}%" x2="{high}%" y1="{y}%" y2="{end}%"/>'
        ).format(
            state=shown,
            low=low,
            high=high,
            width=high - low,
            y=_places(y),
            step=_places(step),
            end=_places(y + step),
        )
        for start, end in zip(before or (low, high), (low, high), strict=True):
            if start != end:
                yield Markup(
                    '<line class="edge {state}" x1="{start}%" x2="{end}%" y1="{y}%" y2="{y}%"/>'
                ).format(state=shown, start=start, end=end, y=_places(y))
        before = (low, high)


def _within(end: Decimal, scale: Scale) -> Decimal:
    """Return the end, or the axis's where nothing is known."""
    return min(max(end, scale.ticks[0]), scale.ticks[-1])


def _places(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))
