"""What a tail says: members identified beyond chance, and the exact rank test. Standard library only."""

import math
from functools import lru_cache

from oathbound.core.finding import Tail
from oathbound.core.pooling import COUNT_SLACK


def identified(tail: Tail, alpha: float) -> int:
    """Return a lower bound, wrong with probability at most `alpha`, of members identified beyond chance.

    Of the half that was counted: its members whom the score ranks so high because they are members
    (Rosenbaum 2001, attributable effects). Were they not, at most `most_by_chance` of them would lie
    above the threshold, whoever they are; it is assumed that nobody else's membership moves a score across.
    Published counts are first moved outward by what rounding may have taken.
    """
    members = (tail.members + COUNT_SLACK + 1) // 2
    held_out = (tail.held_out - COUNT_SLACK) // 2
    return max(tail.hits - COUNT_SLACK - most_by_chance(tail.rank, members, held_out, alpha), 0)


def rank_test(tail: Tail) -> float:
    """Return the probability of so many members above all held-out if the draw alone had decided."""
    members, held_out = tail.members + COUNT_SLACK, tail.held_out - COUNT_SLACK
    return above_by_chance(tail.above_all - COUNT_SLACK, 1, members, held_out)


@lru_cache(maxsize=256)
def most_by_chance(rank: int, members: int, held_out: int, alpha: float) -> int:
    """Return the least r with P(more than r members above the held-out score of that rank) <= `alpha`."""
    low, high = -1, members
    while high - low > 1:
        middle = (low + high) // 2
        if above_by_chance(middle + 1, rank, members, held_out) <= alpha:
            high = middle
        else:
            low = middle
    return high


def above_by_chance(hits: int, rank: int, members: int, held_out: int) -> float:
    """Return P(at least `hits` members above the `rank`-th highest held-out) if a random draw named them.

    They are where fewer than `rank` of the top `hits` + `rank` - 1 are held out: a hypergeometric
    probability, for rank 1 that of the top `hits` being members all, C(m, r) / C(m + n, r). No distribution
    of scores is assumed; ties only lower it.
    """
    if hits <= 0 or rank > held_out:
        return 1.0
    top = hits + rank - 1
    everybody = _log_choose(members + held_out, top)
    terms = (
        _log_choose(held_out, x) + _log_choose(members, top - x) - everybody
        for x in range(rank)
        if top - x <= members
    )
    return min(math.fsum(map(math.exp, terms)), 1.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
