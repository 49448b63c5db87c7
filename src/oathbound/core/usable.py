"""Which measures a verdict can rest on: a site's suppression is checked, not trusted.

Steps 3 and 6 of `spec/verdict.md`.
"""

import math
from decimal import Decimal
from typing import Final

from oathbound.core.finding import (
    Auc,
    AucDifference,
    Baseline,
    Excess,
    Measure,
    NotMeasurable,
    OneRun,
    Tail,
    TruePositiveRate,
)
from oathbound.core.intervals import UNIT, Interval
from oathbound.core.pooling import COUNT_SLACK, Usable, pool

LEAST_FOR_AUC: Final = 40
"""With fewer members or held-out patients DeLong's error is too small in the tails that verdicts use."""

LEAST_FOR_EXCESS: Final = 40
"""With fewer member or held-out carriers the mean of a few probabilities is not normal in those tails."""

LEAST_FOR_AUC_DIFFERENCE: Final = 20
"""With fewer carriers of a group, or fewer others, nobody has tried how often its limits are wrong."""

TAIL_HELD_OUT: Final = 437
"""The least n with 1 - 0.99 ** n >= 0.9875: fewer held-out patients cannot fix a threshold at 1 %."""

_CHANCE: Final = Decimal("0.5")


def usable(measure: Measure, minimum: int) -> Usable | str:  # noqa: C901, PLR0911 - one return for each reason
    """Return `measure`, or why a verdict cannot rest on it: a site's suppression is checked, not trusted."""
    if isinstance(measure, NotMeasurable):
        return f"not measurable: {measure.reason}"
    if isinstance(measure, (Tail, Baseline, OneRun)):
        return "no gate can ask for it"
    fewest = min(measure.members, measure.held_out)
    if fewest + COUNT_SLACK < minimum:
        return "not measurable: fewer patients than the policy's minimum"
    if isinstance(measure, TruePositiveRate):
        if measure.held_out + COUNT_SLACK < TAIL_HELD_OUT:
            return f"not measurable: fewer than {TAIL_HELD_OUT} held-out patients"
        if not measure.lower_hits <= measure.upper_hits <= measure.members:
            return "not measurable: the hits contradict each other"
    elif isinstance(measure, AucDifference):
        return _usable_difference(measure, minimum)
    elif isinstance(measure, Auc) and fewest + COUNT_SLACK < LEAST_FOR_AUC:
        return "not measurable: too few patients for an AUC"
    elif isinstance(measure, Excess) and fewest + COUNT_SLACK < LEAST_FOR_EXCESS:
        return "not measurable: too few carriers for an excess"
    elif isinstance(measure, Auc) and not _possible(measure):
        return "not measurable: the error is more than such an AUC can have"
    elif isinstance(measure, Excess) and not _adds_up(measure):
        return "not measurable: the difference is not that of the means"
    elif _has_no_spread(measure):
        return "not measurable: the scores have no spread"
    return measure


def _has_no_spread(measure: Usable) -> bool:
    if isinstance(measure, Auc):
        return measure.standard_error == 0 and measure.estimate not in (0, 1)
    return isinstance(measure, Excess) and measure.standard_error == 0


def _possible(auc: Auc | Baseline) -> bool:
    """Whether DeLong's error is one that so many scores can have, whatever they are.

    The share of the others that a score beats lies in [0, 1] and has the mean A over a group of n, so its
    variance is at most A (1 - A) n / (n - 1). All facts are taken at the end of their rounding that allows
    most.
    """
    here = min(max(_CHANCE, auc.estimate - UNIT), auc.estimate + UNIT)
    groups = (max(count - COUNT_SLACK - 1, 1) for count in (auc.members, auc.held_out))
    most = math.sqrt(float(here * (1 - here)) * sum(1 / n for n in groups))
    return float(auc.standard_error - UNIT) <= most


def _adds_up(excess: Excess) -> bool:
    """Whether the difference is that of the means, each rounded by itself."""
    return abs(excess.estimate - excess.member_mean + excess.held_out_mean) <= 2 * UNIT


def _usable_difference(measure: AucDifference, minimum: int) -> AucDifference | str:
    groups = (measure.of_members, measure.of_held_out)
    fewest = min(count for auc in groups for count in (auc.members, auc.held_out))
    if fewest + COUNT_SLACK < max(minimum, LEAST_FOR_AUC_DIFFERENCE):
        return "not measurable: too few carriers, or others, for two AUCs"
    if not all(map(_possible, groups)):
        return "not measurable: the error is more than such an AUC can have"
    if any(auc.standard_error == 0 and auc.estimate not in (0, 1) for auc in groups):
        return "not measurable: the scores have no spread"
    return measure


def blind(baseline: Baseline, alpha: float) -> Interval:
    """Return both ends of the AUC of who never asked the model, each with error rate `alpha`."""
    facts = {name: getattr(baseline, name) for name in Baseline.model_fields}
    return pool([Auc(**facts | {"kind": "auc"})]).interval(alpha)


def tells_apart(baseline: Baseline, alpha: float) -> bool:
    """Whether the ends of an AUC without the model exclude one half, each with error rate `alpha`.

    So it is, too, where nobody was asked about, or with an error that cannot be: then nobody knows.
    """
    if not (baseline.members and baseline.held_out and _possible(baseline)):
        return True
    ends = blind(baseline, alpha)
    return not ends.lower <= _CHANCE <= ends.upper
