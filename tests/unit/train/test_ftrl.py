"""The sums of DP-FTRL without noise, at a site and at the coordinator: what a patient adds, and its bound."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from oathbound.core.bands import coefficients
from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.ring import decode, encode
from oathbound.train.ftrl import Solved, Turns
from oathbound.workflow.sibling import Unkept

NORM = 3


class Nobody:
    """Groups without anybody: what they sum to is given by hand."""

    def __init__(self):
        self.asked = []

    def group(self, number):
        self.asked.append(number)
        return np.empty((0, 1), dtype=np.float32)


def turns(bands):
    return Turns(Nobody(), Unkept(), coefficients(bands))


def rows(bands, sums):
    """Return what a site noises when the groups of the steps sum to `sums`, int64 [T, d]."""
    site, out = turns(bands), []
    for step, total in enumerate(sums, start=1):
        site.check(step)
        out.append(site.correlated(step, total))
    return np.array(out)


@pytest.mark.parametrize("bands", [2, 5, 20, 64])
def test_the_coordinator_finds_the_sums_exactly_where_there_is_no_noise(bands):
    sums = np.random.default_rng(bands).integers(-(10**5), 10**5, (3 * bands, 7))
    state = Solved.at_first(coefficients(bands), 7)
    for row, total in zip(rows(bands, sums), sums, strict=True):
        solved, state = state.solve(decode(encode(row)))
        assert np.array_equal(solved, total)
    assert len(state.sums) == bands - 1


def test_one_coefficient_changes_nothing():
    total = np.arange(-3, 4)
    solved, state = Solved.at_first((1,), 7).solve(total)
    assert np.array_equal(solved, total)
    assert state.sums == ()


def test_what_is_noised_is_the_matrix_times_the_sums_also_beyond_the_ring():
    sums = np.random.default_rng(1).integers(-(2**31), 2**31, (9, 4))
    matrix = np.zeros((9, 9), dtype=np.int64)
    for step, back in product(range(9), range(4)):
        if step >= back:
            matrix[step, step - back] = coefficients(4)[back]
    assert np.array_equal(encode(rows(4, sums)), encode(matrix @ sums))


@pytest.mark.parametrize(("bands", "steps"), [(2, 6), (2, 5), (3, 6), (3, 8), (4, 8), (5, 4)])
def test_no_participation_of_a_patient_adds_more_than_the_norm_that_is_accounted(bands, steps):
    """Every group, and every vector of the patient's turns among the longest: the bound holds, and is met."""
    blocks = -(-steps // bands)
    most = blocks * accounted(bands)
    norms = {}
    for group in range(bands):
        mine = [step for step in range(1, steps + 1) if step % bands == group]
        for signs in product((-NORM, 0, NORM), repeat=len(mine)):
            sums = np.zeros((steps, 1), dtype=np.int64)
            sums[[step - 1 for step in mine], 0] = signs
            norms[group, signs] = int((rows(bands, sums) ** 2).sum())
    assert max(norms.values()) <= most
    if steps % bands == 0:  # then the first group's last turn, too, has all its sums
        assert max(norms.values()) == most
    # whoever counted one turn less, or one coefficient less, would promise too much
    assert max(norms.values()) > most - accounted(bands)
    if steps >= bands:
        assert max(norms.values()) > blocks * NORM**2 * sum(c * c for c in coefficients(bands)[:-1])


def accounted(bands):
    return NORM**2 * sum(c * c for c in coefficients(bands))


@pytest.mark.parametrize("sites", [2, 3])
def test_a_patient_of_several_sites_adds_at_most_so_many_norms(sites):
    """The groups of one person at the sites are the sites' own: the worst case is one group everywhere."""
    bands, steps, norms = 3, 6, {}
    for groups in combinations_with_replacement(range(bands), sites):
        sums = np.zeros((steps, 1), dtype=np.int64)
        for group in groups:
            sums[[step - 1 for step in range(1, steps + 1) if step % bands == group], 0] += NORM
        norms[groups] = int((rows(bands, sums) ** 2).sum())
    assert max(norms.values()) == sites**2 * 2 * accounted(bands)
    assert all(len(set(groups)) == 1 for groups, norm in norms.items() if norm == max(norms.values()))


def test_groups_take_turns():
    site = turns(4)
    for step in range(1, 10):
        site.members(step)
    assert site.groups.asked == [1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_a_site_keeps_no_more_than_it_needs():
    site = turns(3)
    for step in range(1, 6):
        site.check(step)
        site.correlated(step, np.array([step]))
        assert len(site.past.sums()) == min(step, 2)


@pytest.mark.parametrize("step", [1, 3, 5, 6, 7, 9])
def test_a_step_that_does_not_follow_the_last_one_is_refused(step):
    site = turns(3)
    for number in range(1, 4):
        site.correlated(number, np.array([1]))
    site.check(4)
    with pytest.raises(ProtocolRefused, match="must follow the last one"):
        site.check(step)


def test_a_step_whose_earlier_sums_are_lost_is_refused():
    site = turns(3)
    site.check(1)
    for number in range(1, 4):
        site.correlated(number, np.array([1]))
    del site.past.sums()[2]
    with pytest.raises(ProtocolRefused, match="is not here"):
        site.check(4)
    assert "past" not in repr(site)
