"""What stands beside an interval: what a blind attacker reached, and the members of whom somebody is sure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from oathbound.core.finding import Baseline, DidNotRun, Finding, Tail
from oathbound.core.gates import blind, excludes_chance
from oathbound.core.pooling import COUNT_SLACK
from oathbound.core.tail import identified, rank_test
from oathbound.report.figures import per_cent
from oathbound.report.tables import Table, count

AVERAGES: Final = "Averages hide patients: a model that is harmless on average may still expose some whole."

_BLIND: Final = {
    "records": "A classifier that saw the records, and never the model,",
    "references": "Whoever asks models that saw neither group, and never this one,",
}

_LEAST_SHOWN: Final = Decimal("0.0001")
"""A probability below it is shown as that."""


@dataclass(frozen=True, slots=True)
class BlindPart:
    """What attackers who never asked the model reached: a sentence each, and the sites that differ."""

    said: tuple[str, ...]
    shifted: frozenset[str]


def blind_part(findings: Sequence[Finding], minimum: int, alpha: float) -> BlindPart:
    """Return what the baselines of one test's findings say; all ends hold together, as in a verdict."""
    found = [
        (finding.site, measure)
        for finding in findings
        if not isinstance(finding.outcome, DidNotRun)
        for measure in finding.outcome.measures
        if isinstance(measure, Baseline)
    ]
    said, shifted = [], set()
    for site, baseline in found:
        who = _BLIND.get(baseline.score, f"Without the model, {baseline.score}")
        if min(baseline.members, baseline.held_out) + COUNT_SLACK < minimum:
            said.append(f"{site}: of too few patients to say what an attacker without the model reaches.")
            continue
        ends = blind(baseline, alpha / len(found))
        reached = (
            f"{site}: {who} tells members from held-out patients {per_cent(ends.lower)} to "
            f"{per_cent(ends.upper)}\N{NO-BREAK SPACE}% of the time"
        )
        if excludes_chance(ends):
            shifted.add(site)
            said.append(
                f"{reached}. Guessing gives 50\N{NO-BREAK SPACE}%: the groups differ by themselves, and what "
                "the attacks find here may be that difference. It cannot be told from memory, so it counts "
                "as undecided at best."
            )
        else:
            said.append(f"{reached}: no better than guessing, as far as these patients can tell.")
    return BlindPart(tuple(said), frozenset(shifted))


def tail_table(findings: Sequence[Finding], alpha: float) -> Table:
    """Return what the tails of one test's findings say; the lower bounds hold together. Rows may be none."""
    found = [
        (finding.site, measure)
        for finding in findings
        if not isinstance(finding.outcome, DidNotRun)
        for measure in finding.outcome.measures
        if isinstance(measure, Tail)
    ]
    return Table(
        "Members of whom the attacker is sure",
        (
            "Site",
            "Score",
            "Identified, beyond chance",
            "Above all held out",
            "If the draw alone had decided",
        ),
        tuple(
            (
                site,
                tail.score,
                _identified(identified(tail, alpha / len(found)), tail),
                f"{count(tail.above_all)} of {count(tail.members)}",
                _probability(rank_test(tail)),
            )
            for site, tail in found
        ),
    )


def _identified(least: int, tail: Tail) -> str:
    if least == 0:
        return "none shown"
    return f"at least {count(least)}, of {count(tail.members // 2)} who were counted"


def _probability(value: float) -> str:
    rounded = Decimal(value).quantize(_LEAST_SHOWN, ROUND_CEILING)
    return f"below {_LEAST_SHOWN}" if rounded <= _LEAST_SHOWN else f"{rounded.normalize():f}"
