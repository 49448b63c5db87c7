"""The additive distance is a metric that sees time; the published one costs nothing at a wrong time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oathbound.audit.demd import CAP_HOURS, CodeTable, additive, exact_recall, published
from oathbound.audit.timeline import NO_GAP, Trajectory, path_of

CODES = ("ICD10CM//B20", "ICD10CM//B20.1", "ICD10CM//I10", "LOINC//718-7", "GENDER//F", "ATC//J05AR01")
PATHS = {token: path_of(code) for token, code in enumerate(CODES)}
TABLE = CodeTable.of_paths(np.arange(8), PATHS, 8)  # 6 and 7 have no path

events = st.tuples(st.integers(0, 7), st.floats(0, 3 * CAP_HOURS, width=32))
trajectories = st.lists(events, max_size=6)
some = st.lists(events, min_size=1, max_size=6)


def trajectory(events):
    tokens, hours = (list(each) for each in zip(*events, strict=True)) if events else ([], [])
    return Trajectory(
        np.array(tokens, dtype=np.int64), np.full(len(tokens), NO_GAP), np.sort(np.array(hours, dtype=float))
    )


@given(some)
def test_nothing_is_nearer_than_the_same(events):
    one = trajectory(events)
    assert additive(one, one, TABLE) == published(one, one, TABLE) == 0
    assert exact_recall(one, one) == 1


@settings(deadline=None)
@given(trajectories, trajectories, trajectories)
def test_a_symmetric_and_bounded_metric(a, b, c):
    a, b, c = map(trajectory, (a, b, c))
    ab, bc, ac = additive(a, b, TABLE), additive(b, c, TABLE), additive(a, c, TABLE)
    assert 0 <= ab <= TABLE.farthest + 1
    assert ab == pytest.approx(additive(b, a, TABLE), abs=1e-6)
    assert ac <= ab + bc + 1e-6


@given(some, st.floats(1, 10 * CAP_HOURS))
def test_a_shift_in_time_costs_and_the_published_distance_does_not_see_it(events, shift):
    one = trajectory(events)
    later = Trajectory(one.tokens, one.gaps, one.hours + shift)
    assert 0 < additive(one, later, TABLE) <= min(shift, CAP_HOURS) / CAP_HOURS + 1e-6
    assert published(one, later, TABLE) == 0


@given(some, some)
def test_codes_come_into_the_published_distance_at_least_as_they_are(a, b):
    events = min(len(a), len(b))
    one, other = trajectory(a).first(events), trajectory(b).first(events)
    still = Trajectory(other.tokens, other.gaps, one.hours[:1].repeat(events))
    assert published(one, other, TABLE) >= 0
    assert published(Trajectory(one.tokens, one.gaps, still.hours), still, TABLE) <= TABLE.farthest
