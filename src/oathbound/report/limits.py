"""What stands beside an interval: what a blind attacker reached, and the members of whom somebody is sure."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final

from oathbound.core.claims import SHIFTED
from oathbound.core.finding import Baseline, DidNotRun, Finding, Tail
from oathbound.core.pooling import COUNT_SLACK
from oathbound.core.tail import identified, rank_test
from oathbound.core.usable import blind, tells_apart
from oathbound.report.figures import per_cent
from oathbound.report.tables import Table, count

AVERAGES: Final = "Averages hide patients: a model that is harmless on average may still expose some whole."

_BLIND: Final = {
    "records": "A classifier that saw the records, and never the model,",
    "recordings": "Whoever looks how surely a person's recordings are linked without the model",
    "references": "Whoever asks models that saw neither group, and never this one,",
}

_OPEN: Final = "it counts as undecided at best."

_CHANCE: Final = Decimal("0.5")

_LEAST_SHOWN: Final = Decimal("0.0001")
"""A probability below it is shown as that."""


def baselines(findings: Iterable[Finding]) -> Iterator[tuple[str, Baseline]]:
    """Yield what attackers who never asked the model reached, with the site."""
    for finding in findings:
        if not isinstance(finding.outcome, DidNotRun):
            yield from ((finding.site, each) for each in finding.outcome.measures if each.kind == "baseline")


def blind_said(findings: Sequence[Finding], minimum: int, rate: float) -> Iterator[str]:
    """Yield a sentence for each baseline of one test's findings, both ends with error rate `rate`."""
    for site, baseline in baselines(findings):
        who = _BLIND.get(baseline.score, f"Without the model, {baseline.score}")
        if min(baseline.members, baseline.held_out) + COUNT_SLACK < minimum:
            yield f"{site}: of too few patients to say what an attacker without the model reaches."
            continue
        ends = blind(baseline, rate)
        reached = (
            f"{site}: {who} tells members from held-out patients {per_cent(ends.lower)} to "
            f"{per_cent(ends.upper)}\N{NO-BREAK SPACE}% of the time"
        )
        if ends.lower <= _CHANCE <= ends.upper and tells_apart(baseline, rate):
            yield f"{site}: what is stated of an attacker without the model cannot be, so {_OPEN}"
        elif tells_apart(baseline, rate):
            yield (
                f"{reached}. Guessing gives 50\N{NO-BREAK SPACE}%: the groups differ by themselves, and what "
                f"the attacks find here may be that difference. It cannot be told from memory, so {_OPEN}"
            )
        else:
            yield f"{reached}: no better than guessing, as far as these patients can tell."


def tail_table(findings: Sequence[Finding], alpha: float, shifted: frozenset[str]) -> Table:
    """Return what the tails of one test's findings say; the lower bounds hold together. Rows may be none.

    At sites that are `shifted` nobody is identified: members may differ from held-out patients by themselves.
    """
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
                SHIFTED if site in shifted else _identified(identified(tail, alpha / len(found)), tail),
                f"{count(tail.above_all)} of {count(tail.members)}",
                "" if site in shifted else _probability(rank_test(tail)),
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
