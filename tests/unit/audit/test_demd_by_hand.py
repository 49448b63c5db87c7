"""Distances of trajectories against enumeration, a linear program, and arithmetic."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from oathbound.audit.demd import (
    CAP_HOURS,
    CodeTable,
    additive,
    exact_recall,
    least_mean,
    published,
    tokens_in,
)
from oathbound.audit.timeline import NO_GAP, Trajectory, path_of
from oathbound.core.errors import WrongInput

PATHS = {0: path_of("ICD10CM//B20"), 1: path_of("ICD10CM//B20.1"), 2: path_of("ICD10CM//I10")}
TABLE = CodeTable.of_paths(np.arange(4), PATHS, 4)


def trajectory(*tokens, hours=None, gaps=None):
    n = len(tokens)
    return Trajectory(
        np.array(tokens, dtype=np.int64),
        np.full(n, NO_GAP) if gaps is None else np.array(gaps),
        np.zeros(n) if hours is None else np.array(hours, dtype=float),
    )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_assignment_is_the_optimum_of_the_transport(n):
    cost = np.random.default_rng(n).random((n, n))
    best = min(cost[np.arange(n), list(order)].mean() for order in itertools.permutations(range(n)))
    rows, columns = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    program = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.full(2 * n, 1 / n))
    assert least_mean(cost) == pytest.approx(best)
    assert least_mean(cost) == pytest.approx(program.fun)


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("ICD10CM//B20.1", ("icd10cm", "B", "2", "0", "1")),
        ("DIAGNOSIS//ICD//10//B20", ("icd10cm", "B", "2", "0")),
        ("LOINC//718-7", ("loinc", "7187")),
        ("LAB//50912//mg/dL", ("LAB", "50912", "mg", "dL")),
        ("A", ("A",)),
    ],
)
def test_a_path_shares_what_codes_have_in_common(code, path):
    assert path_of(code) == path


def test_the_tree_distance_is_the_share_of_steps_that_differ():
    assert TABLE.table.diagonal().tolist() == [0, 0, 0, 0]
    assert TABLE.table[0, 1] == pytest.approx(1 / 5)  # four steps of five are shared
    assert TABLE.table[0, 2] == pytest.approx(1 - 1 / 7)  # one of four and four
    assert TABLE.table[0, 3] == 1
    np.testing.assert_array_equal(TABLE.table, TABLE.table.T)


def test_embeddings_give_the_cosine_distance_and_must_be_directions():
    table = CodeTable.of_embeddings(np.array([0, 2, 3]), np.array([[1, 0], [9, 9], [0, 2], [-3, 0]]))
    assert table.between(np.array([0]), np.array([0, 2, 3])).tolist() == [[0, 1, 2]]
    for broken in (0, np.nan):
        with pytest.raises(WrongInput, match="not a finite direction"):
            CodeTable.of_embeddings(np.array([0]), np.full((1, 2), broken))


def test_times_multiply_in_the_published_distance_and_add_in_ours():
    one, other = trajectory(0, hours=[0]), trajectory(1, hours=[24])
    assert published(one, other, TABLE) == pytest.approx(25 / 5)
    assert additive(one, other, TABLE) == pytest.approx(1 / 5 + 24 / CAP_HOURS)
    assert additive(one, trajectory(1, hours=[1e6]), TABLE) == pytest.approx(1 / 5 + 1)


def test_an_event_without_partner_costs_the_most_and_the_published_distance_cuts_it():
    one, longer, none = trajectory(0), trajectory(0, 2), trajectory()
    assert additive(one, longer, TABLE) == pytest.approx(2 / 2)
    assert additive(none, longer, TABLE) == TABLE.farthest + 1
    assert published(one, longer, TABLE) == 0
    assert published(none, longer, TABLE) == float("inf")
    assert additive(none, none, TABLE) == published(none, none, TABLE) == 0


def test_exact_recall_asks_for_code_and_gap_in_their_place():
    true = trajectory(0, 1, 2, 2, gaps=[NO_GAP, 9, 9, 8])
    assert exact_recall(true, true) == 1
    assert exact_recall(true, trajectory(0, 1, gaps=[NO_GAP, 9])) == 0.5
    assert exact_recall(true, trajectory(0, 1, 2, gaps=[NO_GAP, 8, NO_GAP])) == 0.25
    assert exact_recall(true, trajectory(1, 0, 1, 1)) == 0
    assert exact_recall(true, trajectory()) == 0


def test_every_token_that_occurs_is_in_the_table():
    assert tokens_in([trajectory(3, 1), trajectory(), trajectory(1, 0)]).tolist() == [0, 1, 3]
