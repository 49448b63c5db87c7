"""Figures as inline SVG: one axis per gate, one interval per claim or estimate, and the budget.

Positions are percentages of the figure, whose height and texts have the page's size: a figure fits a
telephone, a sheet of paper and large type without a script. Everything is built by `Markup.format`, which
escapes what it inserts. What colour says is also said by the shape of the mark, by the title and by the words
beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Protocol, Self

from markupsafe import Markup

from oathbound.core.claims import Verdict
from oathbound.core.finding import DECIMALS
from oathbound.core.intervals import UNIT
from oathbound.core.record import decimal_text

_INSET: Final = Decimal(7)
"""Per cent of the width that stays free on either side, so that the labels of the ends are whole."""

_LEAST_INTERVALS: Final = 2
"""The least number of intervals between ticks; steps of 1, 2 and 5 then give at most eight ticks."""

_MARKS: Final = {
    None: Markup('<path class="mark unjudged" d="M0 -6.5L6.5 0L0 6.5L-6.5 0z"/>'),
    Verdict.PASS: Markup('<circle class="mark pass" r="5"/>'),
    Verdict.FAIL: Markup('<path class="mark fail" d="M-6 -6h12v12h-12z"/>'),
    Verdict.INCONCLUSIVE: Markup('<circle class="mark inconclusive" r="4.5"/>'),
}

STATES: Final = {
    Verdict.PASS: "within the gate",
    Verdict.FAIL: "above the gate",
    Verdict.INCONCLUSIVE: "undecided",
}
"""What the state of a claim is called beside its figure."""


class Drawn(Protocol):
    """What an interval is drawn of: a claim against its gate, or an estimate, which has none."""

    @property
    def test(self) -> str: ...  # noqa: D102 - as in `core.claims.Claim`, like all that follow
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def score(self) -> str: ...  # noqa: D102
    @property
    def site(self) -> str: ...  # noqa: D102
    @property
    def gate(self) -> Decimal | None: ...  # noqa: D102
    @property
    def state(self) -> Verdict | None: ...  # noqa: D102
    @property
    def estimate(self) -> Decimal | None: ...  # noqa: D102
    @property
    def lower(self) -> Decimal | None: ...  # noqa: D102
    @property
    def upper(self) -> Decimal | None: ...  # noqa: D102


UNJUDGED: Final = "unjudged"
"""How the page's style calls what no gate is held against."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from the first tick to the last, `ticks` ascending and at least two."""

    ticks: tuple[Decimal, ...]

    @classmethod
    def over(cls, values: Iterable[Decimal]) -> Self:
        """Return the scale with round ticks that holds all of `values`, of which there is at least one."""
        low, high = min(drawn := tuple(values)), max(drawn)
        span = max(high - low, Decimal("0.001"))
        step = Decimal(1).scaleb((span / _LEAST_INTERVALS).adjusted())
        step *= max(factor for factor in (1, 2, 5) if step * factor * _LEAST_INTERVALS <= span)
        first = (low / step).to_integral_value(ROUND_FLOOR)
        last = max((high / step).to_integral_value(ROUND_CEILING), first + 1)
        return cls(tuple(step * number for number in range(int(first), int(last) + 1)))

    def at(self, value: Decimal) -> Decimal:
        """Return where `value` lies, in per cent of the figure's width, to two decimals."""
        low, high = self.ticks[0], self.ticks[-1]
        return (_INSET + (100 - 2 * _INSET) * (value - low) / (high - low)).quantize(Decimal("0.01"))


def axis(scale: Scale, gate: Decimal | None) -> Markup:
    """Return the axis of `scale` with its ticks, and the gate above it; hidden from screen readers."""
    ticks = (
        Markup(
            '<line class="tick" x1="{x}%" x2="{x}%" y1="87%" y2="98%"/>'
            '<text class="number" x="{x}%" y="77%" text-anchor="middle">{label}</text>'
        ).format(x=scale.at(tick), label=signed(tick.normalize()))
        for tick in scale.ticks
    )
    return Markup(
        '<svg class="axis" aria-hidden="true">{gate}'
        '<line class="rule" x1="{low}%" x2="{high}%" y1="98%" y2="98%"/>{ticks}</svg>'
    ).format(
        gate=gate_label(scale, gate, Decimal(31)),
        low=scale.at(scale.ticks[0]),
        high=scale.at(scale.ticks[-1]),
        ticks=Markup("").join(ticks),
    )


def gate_label(scale: Scale, gate: Decimal | None, y: Decimal) -> Markup:
    """Return the gate's number, `y` per cent from the top; nothing without a gate."""
    if gate is None:
        return Markup("")
    where = scale.at(gate)
    anchor = "start" if where < 25 else "end" if where > 75 else "middle"  # noqa: PLR2004 - quarters of the width
    return Markup(
        '<text class="gate-label" x="{gate}%" y="{y}%" text-anchor="{anchor}">gate {label}</text>'
    ).format(gate=where, y=y, anchor=anchor, label=decimal_text(gate))


def interval(claim: Drawn, scale: Scale, *, chance: Decimal | None) -> Markup:
    """Return the figure of one claim against its gate: empty, but for the gate, where nothing was measured.

    `chance` is the value that a model without memory has, where the metric has one.
    """
    beyond, line, said = Markup(""), Markup(""), interval_text(claim)
    if claim.gate is not None:
        gate = scale.at(claim.gate)
        beyond = Markup('<rect class="beyond" x="{gate}%" y="0" width="{rest}%" height="100%"/>').format(
            gate=gate, rest=scale.at(scale.ticks[-1]) - gate
        )
        line = Markup('<line class="gate" x1="{gate}%" x2="{gate}%" y1="0" y2="100%"/>').format(gate=gate)
        said += f"; the gate is {decimal_text(claim.gate)}"
    dotted = Markup("")
    if chance is not None:
        dotted = Markup('<line class="chance" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(
            x=scale.at(chance)
        )
    return Markup(
        '<svg class="interval" role="img"><title>{title}</title><desc>{desc}</desc>'
        "{beyond}{dotted}{line}{drawn}</svg>"
    ).format(
        title=f"{claim.test} {claim.metric} {claim.score} at {claim.site}: "
        f"{'no gate' if claim.state is None else STATES[claim.state]}",
        desc=said,
        beyond=beyond,
        dotted=dotted,
        line=line,
        drawn=_drawn(claim, scale),
    )


def interval_text(claim: Drawn) -> str:
    """Return the interval of a claim in words: the figure's description, and the cell beside it."""
    if claim.estimate is None or claim.lower is None or claim.upper is None:
        return "not measured"
    return f"{statistic(claim.lower)} to {statistic(claim.upper)}"


def signed(value: Decimal | int) -> str:
    """Return a number with a true minus sign, and with the digits that it has."""
    return format(Decimal(value), "f").replace("-", "\N{MINUS SIGN}")


def statistic(value: Decimal) -> str:
    """Return a statistic with the zeros that signing took, to `DECIMALS` digits; nothing is rounded."""
    return signed(_whole(value))


def per_cent(value: Decimal) -> str:
    """Return a statistic in hundredths, with its zeros; nothing is rounded."""
    return signed(_whole(value).scaleb(2))


def _whole(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    return value.quantize(UNIT) if isinstance(exponent, int) and exponent > -DECIMALS else value


def meter(spent: Decimal, allowed: Decimal) -> Markup:
    """Return the budget as a bar: what was spent, of what the policy allows."""
    return Markup(
        '<svg class="meter" role="img"><title>{title}</title>'
        '<rect class="allowed" width="100%" height="100%"/>'
        '<rect class="spent" width="{share}%" height="100%"/></svg>'
    ).format(
        title=f"{decimal_text(spent)} spent of {decimal_text(allowed)} allowed",
        share=(100 * spent / allowed).quantize(Decimal("0.01")),
    )


def _drawn(claim: Drawn, scale: Scale) -> Markup:
    if claim.estimate is None or claim.lower is None or claim.upper is None:
        return Markup("")
    return Markup(
        '<line class="bar {state}" x1="{low}%" x2="{high}%" y1="50%" y2="50%"/>'
        '<svg x="{middle}%" y="50%" overflow="visible">{mark}</svg>'
    ).format(
        state=UNJUDGED if claim.state is None else claim.state.value,
        low=scale.at(claim.lower),
        high=scale.at(claim.upper),
        middle=scale.at(claim.estimate),
        mark=_MARKS[claim.state],
    )
