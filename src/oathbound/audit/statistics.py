"""From scores, which stay at the site, to measures, which leave it: suppressed and rounded here, once.

Scores are float64 arrays, one for each patient, higher for what looks more like a member. Every function
raises `WrongInput` on a score that is not finite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.core.finding import (
    Auc,
    AucDifference,
    Baseline,
    Excess,
    Measure,
    NotMeasurable,
    Tail,
    TruePositiveRate,
)
from oathbound.core.intervals import UNIT, binomial_at_most
from oathbound.core.tail import most_by_chance
from oathbound.core.usable import LEAST_FOR_AUC, LEAST_FOR_AUC_DIFFERENCE, LEAST_FOR_EXCESS, TAIL_HELD_OUT

Scores = NDArray[np.float64]
Fact = tuple[int, ...]
Stratum = tuple[Fact, ...]
"""Facts about a patient, the most important first; as many for every patient."""

_Cell = tuple[list[int], list[int]]
"""The positions of the member carriers of a cell, and of the held-out carriers that stand for them."""

_EITHER: Final = "members or held-out patients"

RANKS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""The ranks of held-out scores among which a threshold of the tail is chosen."""

LEAST_FOR_TAIL: Final = 40
"""Half of fewer chooses a threshold for nobody."""

FALSE_POSITIVES: Final = 0.01
_THRESHOLD_CONFIDENCE: Final = 0.9875
_MULTIPLE: Final = 5
_LEAST_SHOWN: Final = 10
_CHOOSING: Final = 0.025
"""The error rate at which the half that chooses a rank compares what ranks identify."""

_EXPECTED_TWINS: Final = 10
"""The fewest held-out carriers to be expected among the carriers of a stratum that stands alone.

A random draw then leaves it with none in fewer than exp(-10), one of 20,000 cases.
"""


def auc(
    score: str, members: Scores, held_out: Scores, *, minimum: int, who: str = _EITHER
) -> Auc | NotMeasurable:
    """Return the area under the ROC curve and its standard error (DeLong, DeLong, Clarke-Pearson 1988).

    `who` are those of whom there may be too few.
    """
    if reason := _unmeasurable(members, held_out, max(minimum, LEAST_FOR_AUC), who):
        return NotMeasurable(kind="not-measurable", metric="auc", score=score, reason=reason)
    area, error = delong(members, held_out)
    if error == 0 and 0 < area < 1:
        return NotMeasurable(
            kind="not-measurable", metric="auc", score=score, reason="the scores have no spread"
        )
    return Auc(
        kind="auc",
        score=score,
        estimate=_published(area),
        standard_error=_published_error(error),
        members=rounded(len(members)),
        held_out=rounded(len(held_out)),
    )


def baseline(
    score: str, members: Scores, held_out: Scores, *, minimum: int, halves_of: tuple[int, int] | None = None
) -> Baseline | NotMeasurable:
    """Return the AUC of an attacker who never asked the model.

    Of half of the patients, the published counts are those of the rounded whole, `halves_of`: the true count
    of a half would tell that of the whole to within two.
    """
    who = f"{_EITHER} in the half that is compared" if halves_of else _EITHER
    area = auc(score, members, held_out, minimum=minimum, who=who)
    if isinstance(area, NotMeasurable):
        return area.model_copy(update={"metric": "baseline"})
    facts = {name: getattr(area, name) for name in Auc.model_fields} | {"kind": "baseline"}
    if halves_of is not None:
        whole = map(rounded, halves_of)
        facts |= dict(zip(("members", "held_out"), (rounded(n // 2) for n in whole), strict=True))
    return Baseline(**facts)


def auc_difference(
    score: str, members: tuple[Scores, Scores], held_out: tuple[Scores, Scores], *, minimum: int
) -> AucDifference | NotMeasurable:
    """Return the AUC of carriers against others among members, and the same among held-out patients.

    Each group gives its carriers' scores, then the others'.
    """
    least = max(minimum, LEAST_FOR_AUC_DIFFERENCE)
    who = f"{_EITHER} who have, or lack, a sensitive code"
    reason = _unmeasurable(*members, least, who) or _unmeasurable(*held_out, least, who)
    areas = [delong(*group) for group in (members, held_out)] if not reason else []
    if any(error == 0 and 0 < area < 1 for area, error in areas):
        reason = "the scores have no spread"
    if reason:
        return NotMeasurable(kind="not-measurable", metric="auc-difference", score=score, reason=reason)
    (own, own_error), (others, others_error) = areas
    return AucDifference(
        kind="auc-difference",
        score=score,
        member_auc=_published(own),
        member_error=_published_error(own_error),
        held_out_auc=_published(others),
        held_out_error=_published_error(others_error),
        members=rounded(len(members[0])),
        member_others=rounded(len(members[1])),
        held_out=rounded(len(held_out[0])),
        held_out_others=rounded(len(held_out[1])),
    )


def delong(members: Scores, held_out: Scores) -> tuple[float, float]:
    """Return the AUC, ties counted half, and DeLong's standard error.

    By midranks, O(n log n) (Sun and Xu 2014, algorithm 2). Needs at least two patients in each group.
    """
    m, n = len(members), len(held_out)
    joint = _midranks(np.concatenate([members, held_out]))
    wins = (joint[:m] - _midranks(members)) / n  # of each member: the share of held-out below it
    losses = 1 - (joint[m:] - _midranks(held_out)) / m  # of each held-out: the share of members above it
    variance = wins.var(ddof=1) / m + losses.var(ddof=1) / n
    return float(wins.mean()), math.sqrt(variance)


def true_positive_rate(
    score: str, members: Scores, held_out: Scores, *, minimum: int
) -> TruePositiveRate | NotMeasurable:
    """Return the members above two thresholds that enclose the one with a false positive rate of 1 %.

    The false positive rate at the k-th highest of n held-out scores is Beta(k, n + 1 - k), so it is at most
    1 % with probability P(Binomial(n, 1 %) >= k). Ties are counted against the claim: strictly above the
    higher threshold, at or above the lower one.
    """
    reason = _unmeasurable(members, held_out, minimum)
    if not reason and len(held_out) < TAIL_HELD_OUT:
        reason = f"fewer than {TAIL_HELD_OUT} held-out patients"
    if reason:
        return NotMeasurable(kind="not-measurable", metric="tpr-at-1-percent", score=score, reason=reason)
    strict, lax = threshold_ranks(len(held_out))
    descending = np.sort(held_out)[::-1]
    return TruePositiveRate(
        kind="tpr-at-1-percent",
        score=score,
        lower_hits=_outward(int((members > descending[strict - 1]).sum()), len(members), up=False),
        upper_hits=_outward(int((members >= descending[lax - 1]).sum()), len(members), up=True),
        members=rounded(len(members)),
        held_out=rounded(len(held_out)),
    )


def threshold_ranks(held_out: int) -> tuple[int, int]:
    """Return the ranks, 1 for the highest score, of the strict and of the lax threshold, each 98.75 % sure.

    Raises `ValueError` below `TAIL_HELD_OUT` patients, where no rank is sure.
    """
    if held_out < TAIL_HELD_OUT:
        raise ValueError(f"a threshold at 1 % needs {TAIL_HELD_OUT} held-out patients")
    beneath = [binomial_at_most(k - 1, held_out, FALSE_POSITIVES) for k in range(held_out // 20 + 20)]
    strict = max(k for k, p in enumerate(beneath) if 1 - p >= _THRESHOLD_CONFIDENCE)
    lax = min(k for k, p in enumerate(beneath) if p >= _THRESHOLD_CONFIDENCE)
    return strict, lax


def tail(
    score: str, members: Scores, held_out: Scores, *, minimum: int, rng: np.random.Generator
) -> Tail | NotMeasurable:
    """Return how many members the score picks out, above all held-out and above a rank of them.

    The rank is the one of `RANKS` that identifies most in a random half; the other half is counted, so that
    the choice does not flatter the count. Ties are counted against the claim.
    """
    if reason := _unmeasurable(members, held_out, max(minimum, LEAST_FOR_TAIL)):
        return NotMeasurable(kind="not-measurable", metric="tail", score=score, reason=reason)
    (choosing, counted), (above, beneath) = _halves(members, rng), _halves(held_out, rng)
    ranks = [rank for rank in RANKS if rank <= len(above)]
    rank = max(ranks, key=lambda rank: _identified(choosing, above, rank))
    return Tail(
        kind="tail",
        score=score,
        above_all=_outward(_hits(members, held_out, 1), len(members), up=False),
        rank=rank,
        hits=_outward(_hits(counted, beneath, rank), len(counted), up=False),
        members=rounded(len(members)),
        held_out=rounded(len(held_out)),
    )


def _halves(scores: Scores, rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Return a random half, and the rest, which is one more where the number is odd."""
    shuffled = rng.permutation(scores)
    return shuffled[: len(scores) // 2], shuffled[len(scores) // 2 :]


def _hits(members: Scores, held_out: Scores, rank: int) -> int:
    return int((members > np.sort(held_out)[-rank]).sum())


def _identified(members: Scores, held_out: Scores, rank: int) -> int:
    by_chance = most_by_chance(rank, len(members), len(held_out), _CHOOSING)
    return _hits(members, held_out, rank) - by_chance


@dataclass(frozen=True, slots=True)
class Group:
    """Carriers of one group: a probability for each, shape (n,), and the stratum of each."""

    values: Scores
    strata: Sequence[Stratum]


def excess(
    score: str,
    members: Group,
    held_out: Group,
    *,
    minimum: int,
    strata: str,
    estimator: str | None = None,
) -> Excess | NotMeasurable:
    """Return the members' mean less the held-out mean standardised to the members' strata.

    With n_c of the n members and k_c held-out in cell c, the estimate is the sum over c of n_c / n (mean of
    members less mean of held-out in c), and its variance s^2 / n of the members' differences to their
    cell's held-out mean, plus the sum of (n_c / n)^2 s_c^2 / k_c: a bootstrap over patients, in closed
    form. s_c^2 is the variance of members and held-out of c together, or of held-out alone if larger. Few
    held-out patients often miss the rare high values; their mean and their own variance are then both too
    small, and a gate fails two to four times as often as it should.
    """
    who = f"{_EITHER} to measure it on"
    if reason := _unmeasurable(members.values, held_out.values, max(minimum, LEAST_FOR_EXCESS), who):
        return NotMeasurable(kind="not-measurable", metric="excess", score=score, reason=reason)
    difference, error, standardised = standardised_difference(members, held_out)
    if error == 0:
        return NotMeasurable(
            kind="not-measurable", metric="excess", score=score, reason="the scores have no spread"
        )
    return Excess(
        kind="excess",
        score=score,
        estimate=_published(difference),
        standard_error=_published_error(error),
        member_mean=_published(float(members.values.mean())),
        held_out_mean=_published(standardised),
        members=rounded(len(members.values)),
        held_out=rounded(len(held_out.values)),
        strata=strata,
        estimator=estimator,
    )


def standardised_difference(members: Group, held_out: Group) -> tuple[float, float, float]:
    """Return the difference of means, its standard error, and the standardised held-out mean."""
    n = len(members.values)
    expected = np.empty(n)
    pooled_variance = twins_variance = 0.0
    for own, twins in _cells(members.strata, held_out.strata):
        values = held_out.values[twins]
        expected[own] = values.mean()
        alike = np.concatenate([values, members.values[own]])
        variance = alike.var(ddof=1) if len(values) == 1 else max(values.var(ddof=1), alike.var(ddof=1))
        twins_variance += (len(own) / n) ** 2 * float(variance) / len(twins)
        pooled_variance += len(own) / n * float(alike.var(ddof=1))
    differences = members.values - expected
    # Forty members often hold none of the few whom the model answers otherwise; held-out patients show them.
    error = math.sqrt(max(float(differences.var(ddof=1)), pooled_variance) / n + twins_variance)
    return float(differences.mean()), error, float(expected.mean())


def _cells(members: Sequence[Stratum], held_out: Sequence[Stratum]) -> list[_Cell]:
    """Return the cells: each stratum is split by its facts in turn, as far as its carriers allow.

    What a cell is depends on carriers alone, not on who of them is a member: then, where nothing was learnt
    of anybody, the members of a cell and its held-out are one random draw, and the difference is 0 on
    average. To ask for held-out carriers instead would merge a stratum exactly when they are by chance few,
    and hold its members against others.
    """
    cells = [(list(range(len(members))), list(range(len(held_out))))]
    least = _EXPECTED_TWINS * (1 + len(members) / len(held_out))
    for depth in range(len(members[0])):
        cells = [part for cell in cells for part in _split(cell, depth, members, held_out, least)]
    return [cell for cell in cells if cell[0]]


def _split(
    cell: _Cell, depth: int, members: Sequence[Stratum], held_out: Sequence[Stratum], least: float
) -> list[_Cell]:
    """Split a cell by one fact. Values with fewer than `least` carriers merge into one part.

    If that part still has too few, it joins the smallest of the others. So does a part without any held-out
    carrier, for which nobody could stand.
    """
    parts: dict[Fact, _Cell] = {}
    for i in cell[0]:
        parts.setdefault(members[i][depth], ([], []))[0].append(i)
    for j in cell[1]:
        parts.setdefault(held_out[j][depth], ([], []))[1].append(j)
    ordered = [parts[value] for value in sorted(parts)]
    enough = [part for part in ordered if _stands_alone(part, least)]
    sparse = [part for part in ordered if not _stands_alone(part, least)]
    if not sparse:
        return enough
    merged = _merged(sparse)
    if _stands_alone(merged, least):
        return [*enough, merged]
    if not enough:
        return [cell]
    smallest = min(enough, key=_carriers)
    return [*(part for part in enough if part is not smallest), _merged([smallest, merged])]


def _stands_alone(cell: _Cell, least: float) -> bool:
    return _carriers(cell) >= least and bool(cell[1])


def _carriers(cell: _Cell) -> int:
    return len(cell[0]) + len(cell[1])


def _merged(cells: Sequence[_Cell]) -> _Cell:
    return [i for own, _ in cells for i in own], [j for _, twins in cells for j in twins]


def _unmeasurable(members: Scores, held_out: Scores, minimum: int, who: str = _EITHER) -> str:
    """Return why nothing is said, or nothing; the reason carries the public limit, and no count."""
    if not (np.isfinite(members).all() and np.isfinite(held_out).all()):
        raise WrongInput(
            "the model gave a score that is not a finite number",
            hint="its weights or its adapter are damaged; train or export it again",
        )
    if min(len(members), len(held_out)) < minimum:
        return f"fewer than {minimum} {who}"
    return ""


def published_cost(tokens: int, measures: Sequence[Measure]) -> int:
    """Return the cost as it may leave the site: a power of two, and nothing where nothing was measurable."""
    if all(isinstance(measure, NotMeasurable) for measure in measures):
        return 0
    return 1 << max(tokens - 1, 1).bit_length()


def _outward(hits: int, members: int, *, up: bool) -> int:
    """Return the number of hits, rounded, away from what it would tell of fewer than ten members."""
    if up:
        return rounded(members) if members - hits < _LEAST_SHOWN else max(rounded(hits), _LEAST_SHOWN)
    return 0 if hits < _LEAST_SHOWN else min(rounded(hits), rounded(members) - _LEAST_SHOWN)


def _midranks(values: Scores) -> Scores:
    """Return the rank of each value from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _published(value: float) -> Decimal:
    return Decimal(value).quantize(UNIT, ROUND_HALF_EVEN) + 0


def _published_error(value: float) -> Decimal:
    return Decimal(value).quantize(UNIT, ROUND_CEILING)


def shown_hits(hits: int, members: int) -> int:
    """Return a number of hits as `core.finding.Reconstruction` holds it: near either end it is that end."""
    if hits < _LEAST_SHOWN:
        return 0
    return rounded(members) if members - hits < _LEAST_SHOWN else rounded(hits)


def rounded(count: int) -> int:
    """Return a count as a finding holds it."""
    return _MULTIPLE * round(count / _MULTIPLE)
