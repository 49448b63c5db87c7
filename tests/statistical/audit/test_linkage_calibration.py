"""How often people are said to be linked more surely who are not, and who are.

What a model makes of a recording is drawn here; `docs/audits/image-linkage.md` has the numbers.
"""

import logging

import numpy as np
import pytest

from oathbound.audit.catalog.image_linkage import group, linked
from oathbound.audit.statistics import excess
from oathbound.core.pooling import pool

log = logging.getLogger(__name__)

RUNS, PEOPLE, COLUMNS = 400, 60, 8


def represented(rng, alike):
    """Pairs of recordings, (people, 2, columns), that share so much."""
    own = rng.normal(size=(PEOPLE, 1, COLUMNS))
    return alike * own + rng.normal(size=(PEOPLE, 2, COLUMNS))


def intervals(members, held_out, runs):
    """The .95 intervals of the excess, of so many draws of both groups."""
    rng = np.random.default_rng(7)
    for _ in range(runs):
        groups = linked(represented(rng, members)), linked(represented(rng, held_out))
        yield pool([excess("verification", *map(group, groups), minimum=10, strata="none")]).interval(0.025)


@pytest.mark.parametrize("alike", [0.5, 0.7, 1.5])
def test_groups_that_are_linked_alike_are_seldom_told_apart(alike):
    found = list(intervals(alike, alike, RUNS))
    above, below = sum(each.lower > 0 for each in found), sum(each.upper < 0 for each in found)
    log.info("alike %s: %d above, %d below, of %d", alike, above, below, RUNS)
    assert max(above, below) <= 20  # of 400 at 2.5 % more come in one of 1,000 trials


def test_members_who_are_linked_more_surely_are_found():
    above = sum(each.lower > 0 for each in intervals(1.5, 0.7, 100))
    log.info("%d above, of 100", above)
    assert above >= 80


@pytest.mark.parametrize("uneven", [0.0, 1.0])
def test_the_error_is_that_of_people_drawn_anew(uneven):
    """Though all probes of a group share a gallery; also where some recordings are much worse than others."""
    rng = np.random.default_rng(3)
    draws = []
    for _ in range(RUNS):
        noise = np.exp(uneven * rng.normal(size=(PEOPLE, 2, 1))) * rng.normal(size=(PEOPLE, 2, COLUMNS))
        draws.append(linked(rng.normal(size=(PEOPLE, 1, COLUMNS)) + noise))
    spread = np.std([each.mean() for each in draws])
    error = np.mean([each.std(ddof=1) for each in draws]) / PEOPLE**0.5
    log.info("uneven %s: spread %.4f, error %.4f", uneven, spread, error)
    assert 0.9 < error / spread < 1.25
