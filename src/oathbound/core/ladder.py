"""What is said of the risk along a ladder of attacker knowledge, from the excess of every rung.

An attacker may ignore what he knows, so the risk at a rung is the largest excess of the rungs up to it.
Standard library only, since whoever reads a finding recomputes all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Final

from oathbound.core.claims import Verdict
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Excess, NotMeasurable
from oathbound.core.pooling import pool

NOT_EXPRESSIBLE: Final = "the model's vocabulary cannot express this rung"
"""Why a rung has no excess: for every patient its prompt is that of a rung below."""


@dataclass(frozen=True, slots=True)
class Level:
    """A rung and the two ends between which its excess, or its risk, lies."""

    rung: str
    lower: Decimal
    upper: Decimal


_UNKNOWN: Final = (Decimal(-1), Decimal(1))


def levels(measures: Sequence[Excess | NotMeasurable], alpha: float) -> tuple[Level, ...]:
    """Return the ends of every rung's excess at one site, from the bottom; all hold together.

    Each end is wrong with probability at most `alpha` over the whole ladder (Bonferroni over the rungs that
    were measured: how rungs depend on each other is not published). A rung that could not be measured lies
    anywhere; one that the vocabulary cannot express is no attack on this model, and left out.
    """
    return levels_together([measures], alpha)


def levels_together(sites: Sequence[Sequence[Excess | NotMeasurable]], alpha: float) -> tuple[Level, ...]:
    """Return the ends of every rung's mean excess over sites, as `core.pooling` weighs them; see `levels`.

    Every site names the same rungs in the same order. A rung lies anywhere where one site did not measure it.
    """
    rungs = [rung for rung in zip(*sites, strict=True) if not all(map(_inexpressible, rung))]
    measured = sum(_all_measured(rung) is not None for rung in rungs)
    return tuple(_level(rung, alpha / max(measured, 1)) for rung in rungs)


def unexpressed(sites: Sequence[Sequence[Excess | NotMeasurable]]) -> tuple[str, ...]:
    """Return the rungs that are left out, since every site says that the vocabulary cannot express them."""
    rungs = zip(*sites, strict=True)
    return tuple(rung[0].score for rung in rungs if all(map(_inexpressible, rung)))


def _inexpressible(measure: Excess | NotMeasurable) -> bool:
    return isinstance(measure, NotMeasurable) and measure.reason == NOT_EXPRESSIBLE


def _all_measured(rung: Sequence[Excess | NotMeasurable]) -> list[Excess] | None:
    excesses = [measure for measure in rung if isinstance(measure, Excess)]
    return excesses if len(excesses) == len(rung) else None


def _level(rung: Sequence[Excess | NotMeasurable], alpha: float) -> Level:
    excesses = _all_measured(rung)
    if excesses is None:
        return Level(rung[0].score, *_UNKNOWN)
    ends = pool(excesses).interval(alpha)
    return Level(rung[0].score, ends.lower, ends.upper)


def risk(excesses: Sequence[Level]) -> tuple[Level, ...]:
    """Return the ends of the risk at every rung: the running maximum of both ends.

    Where the ends of the excesses hold together, so do these: the largest excess lies below the largest
    upper end, and above every lower end.
    """
    return tuple(
        accumulate(
            excesses,
            lambda so_far, level: Level(
                level.rung, max(so_far.lower, level.lower), max(so_far.upper, level.upper)
            ),
        )
    )


def state(level: Level, gate: Decimal) -> Verdict:
    """Return where a level lies: below the gate (pass), above it (fail), or undecided, as in `core.gates`."""
    if level.lower > gate:
        return Verdict.FAIL
    return Verdict.PASS if level.upper <= gate else Verdict.INCONCLUSIVE


def sentence(risks: Sequence[Level], gate: Decimal, unsaid: Sequence[str] = ()) -> str:
    """Return what the ladder says, of the risks that `risk` returns; `unsaid` are rungs that are left out.

    Raises `NothingExamined` without a level, and `ValueError` where the ends do not grow from rung to rung.
    It never says what an attacker must know: better attacks may need less.
    """
    if not risks:
        raise NothingExamined(
            "no rung of the ladder was measured", hint="name rungs that the vocabulary knows"
        )
    if tuple(risks) != risk(risks):
        raise ValueError("the risk along a ladder never falls")
    below = [level for level in risks if state(level, gate) is Verdict.PASS]
    above = [level for level in risks if state(level, gate) is Verdict.FAIL]
    undecided = len(below) + len(above) < len(risks)
    said = []
    if below:
        said.append(f"excess stayed below {gate} up to level {below[-1].rung} (upper end {below[-1].upper})")
    if above:
        whose = "" if below else "excess "
        said.append(f"{whose}exceeded {gate} from {above[0].rung} (lower end {above[0].lower})")
    left_out = f" Not asked, for the vocabulary cannot express it: {', '.join(unsaid)}." if unsaid else ""
    if not said:
        open_ = f"whether excess stayed below {gate} is undecided at every level."
        return f"With the attacks tried, {open_}{left_out}"
    where = "between" if below and above else "above" if below else "below"
    ends = f"; {where}: undecided." if undecided else "."
    return f"With the attacks tried, {' and '.join(said)}{ends}{left_out}"
