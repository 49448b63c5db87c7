"""Intervals as lines of a figure: claims about one gate, or estimates of a metric without one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import Final

from markupsafe import Markup

from oathbound.core.claims import EVERYWHERE, SHIFTED, Claim, Verdict
from oathbound.core.intervals import UNIT
from oathbound.core.study import Gate
from oathbound.core.unjudged import Estimate
from oathbound.report.figures import STATES, UNJUDGED, Drawn, Scale, axis, interval, interval_text
from oathbound.report.tables import count
from oathbound.report.words import METRICS, OF_OTHER_TESTS, Metric

_NO_GATE: Final = "no gate"
_TURNED: Final = "an attacker turns a score round that ranks members last"


@dataclass(frozen=True, slots=True)
class Row:
    """One claim or estimate as a line of a figure. `pooled` is the line over all sites."""

    site: str
    pooled: bool
    figure: Markup
    interval: str
    patients: str
    state: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class Score:
    """The lines of one score of the attacker's; where no site measured it there is no axis."""

    name: str
    axis: Markup
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """Claims about one gate, or estimates of a metric without one, on one axis."""

    gate: Gate | None
    metric: Metric
    scores: tuple[Score, ...]


def metric_of(test: str, metric: str) -> Metric:
    """Return what a metric is called, and what it means in this test."""
    known = METRICS.get(metric)
    if metric == "excess":
        known = OF_OTHER_TESTS.get(test, known)
    return known or Metric(metric, "", "", None)


def figure_of(
    test: str,
    name: str,
    gate: Gate | None,
    own: Sequence[Claim] | Sequence[Estimate],
    *,
    shifted: frozenset[str],
    order: Sequence[str],
) -> Figure:
    """Return a figure of all scores; `shifted` are sites where a blind attacker tells the groups apart.

    Scores stand in the order of `order`, and those that it lacks before, by name.
    """
    metric = metric_of(test, name)
    scale = scale_of(gate, metric, own)
    place = {score: number for number, score in enumerate(order)}
    ordered: list[Claim | Estimate] = sorted(own, key=lambda each: (place.get(each.score, -1), each.score))
    drawn = axis(scale, None if gate is None else gate.at_most)
    scores = []
    for score, group in groupby(ordered, key=lambda each: each.score):
        rows = [_row(each, scale, metric, shifted) for each in group]
        measured = any(row.figure for row in rows)
        scores.append(
            Score(score, drawn if measured else Markup(""), tuple(rows if measured else _as_one(rows)))
        )
    return Figure(gate=gate, metric=metric, scores=tuple(scores))


def _as_one(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a row for each reason why there is no number, with all its sites."""
    by_reason: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        by_reason.setdefault((row.state, row.word, row.note), []).append(row)
    for same in by_reason.values():
        yield replace(same[0], site=", ".join(row.site for row in same))


def scale_of(gate: Gate | None, metric: Metric, drawn: Iterable[Drawn]) -> Scale:
    """Return a scale on which all of them fit, with the gate and chance."""
    shown = [end for each in drawn for end in (each.lower, each.estimate, each.upper) if end is not None]
    if gate is not None:
        shown += [gate.at_most, gate.at_most + UNIT]  # so that the axis goes on past the gate
    if metric.chance is not None:
        shown.append(metric.chance)
    return Scale.over(shown or [Decimal(0)])


def _row(each: Claim | Estimate, scale: Scale, metric: Metric, shifted: frozenset[str]) -> Row:
    pooled = each.site == EVERYWHERE
    # What would settle one site's claim matters to nobody: a pass does not need it.
    alone = pooled or each.estimate is None
    state, word, note = (
        (each.state.value, STATES[each.state], each.note if alone else "")
        if isinstance(each, Claim)
        else _unjudged(each, metric, shifted)
    )
    return Row(
        site=each.site,
        pooled=pooled,
        figure=Markup("") if each.estimate is None else interval(each, scale, chance=metric.chance),
        interval=interval_text(each),
        patients="—" if each.estimate is None else f"{count(each.members)} / {count(each.held_out)}",
        state=state,
        word=word,
        note=note,
    )


def _unjudged(each: Estimate, metric: Metric, shifted: frozenset[str]) -> tuple[str, str, str]:
    """Return the state of an estimate, in a word, and what is to be noted."""
    if each.lower is None or each.upper is None:
        return UNJUDGED, "no number", each.note
    if each.site in shifted:
        return Verdict.INCONCLUSIVE.value, STATES[Verdict.INCONCLUSIVE], SHIFTED
    if metric.chance is None:
        return UNJUDGED, _NO_GATE, ""
    if each.lower > metric.chance:
        return UNJUDGED, "above chance", ""
    if each.upper < metric.chance:
        return UNJUDGED, "below chance", _TURNED if each.metric == "auc" else ""
    return UNJUDGED, "chance is possible", ""
