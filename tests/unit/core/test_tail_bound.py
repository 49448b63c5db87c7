"""The rank test of a tail is the draw that it says it is; its bound counts nobody whom chance explains."""

from itertools import combinations
from math import comb

import pytest

from oathbound.core.finding import Tail
from oathbound.core.tail import above_by_chance, identified, most_by_chance, rank_test


def drawn(hits, rank, members, held_out):
    """The share of all draws in which at least `hits` members lie above the held-out of that rank."""
    everybody = range(members + held_out)  # by score, the highest first
    found = 0
    for held in combinations(everybody, held_out):
        found += held[rank - 1] - (rank - 1) >= hits if rank <= held_out else True
    return found / comb(members + held_out, held_out)


@pytest.mark.parametrize("members", [1, 4, 6])
@pytest.mark.parametrize("held_out", [1, 3])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_chance_of_so_many_hits_is_the_share_of_the_draws(members, held_out, rank):
    for hits in range(members + 2):
        expected = drawn(hits, rank, members, held_out)
        assert above_by_chance(hits, rank, members, held_out) == pytest.approx(expected, abs=1e-12)


def test_below_no_hits_nothing_is_rare():
    """A count of 0, moved outward by its rounding, is -2 hits: of nothing, nobody is identified."""
    for hits in (-2, -1, 0):
        assert above_by_chance(hits, 1, 10, 10) == 1


def test_a_rank_that_no_held_out_patient_has_shows_nothing():
    """Everybody lies above a threshold that there is none of; the count must not say that this is rare."""
    assert above_by_chance(10, 4, 10, 3) == 1
    assert most_by_chance(4, 10, 3, 0.025) == 10


def tail(above_all, hits, *, rank=1, members=1000, held_out=500):
    facts = {"above_all": above_all, "rank": rank, "hits": hits, "members": members, "held_out": held_out}
    return Tail(kind="tail", score="loss", **facts)


@pytest.mark.parametrize("alpha", [0.025, 0.001])
@pytest.mark.parametrize("rank", [1, 5])
def test_most_by_chance_is_the_least_that_is_rare_enough(rank, alpha):
    most = most_by_chance(rank, 500, 250, alpha)
    assert above_by_chance(most + 1, rank, 500, 250) <= alpha < above_by_chance(most, rank, 500, 250)


def test_members_are_identified_beyond_what_chance_and_rounding_explain():
    # of 500 members, moved outward to 501, and of 249 held-out patients
    most = most_by_chance(1, 501, 249, 0.025)
    assert identified(tail(0, 40), 0.025) == 38 - most
    assert identified(tail(0, 0), 0.025) == 0
    assert identified(tail(0, 5), 0.025) == 0


def test_the_rank_test_moves_every_count_outward():
    assert rank_test(tail(10, 0)) == pytest.approx(comb(1002, 8) / comb(1500, 8), rel=1e-9)
    assert rank_test(tail(0, 0)) == 1
    assert rank_test(tail(5, 0)) > rank_test(tail(10, 0))
