"""The random source: lengths, freshness, and exact comparison of coins."""

from decimal import Decimal

import numpy as np
import pytest
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.hazmat.random import bernoulli, permutation, random_bytes, random_words


class Script:
    """Words in a fixed order, call by call."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    def __call__(self, n: int) -> NDArray[np.uint64]:
        answer = self.answers.pop(0)
        assert len(answer) == n
        return np.array(answer, dtype=np.uint64)


@pytest.mark.parametrize("n", [0, 1, 32, 4096, 4097, 100_000])
def test_lengths(n: int) -> None:
    assert len(random_bytes(n)) == n
    assert random_words(n).shape == (n,)


@pytest.mark.parametrize("n", [32, 8192])
def test_no_two_draws_are_equal(n: int) -> None:
    assert len({random_bytes(n) for _ in range(50)}) == 50


def test_coins_compare_with_the_expansion_of_the_probability() -> None:
    third = 2**64 // 3  # 1/3 = 0.0101...: every word of its expansion is this one
    probability = Decimal(1) / 3
    script = Script([0, third - 1, third + 1, 2**64 - 1])
    assert bernoulli(probability, 4, words=script).tolist() == [True, True, False, False]


def test_coins_draw_again_while_they_tie() -> None:
    probability = Decimal("0.1")
    first, rest = divmod(2**64, 10)
    second, more = divmod(rest * 2**64, 10)
    third = more * 2**64 // 10
    script = Script([first, 0, first, first], [second - 1, second + 1, second], [third + 1])
    assert bernoulli(probability, 4, words=script).tolist() == [True, True, False, False]
    assert not script.answers


def test_a_tie_with_a_finite_expansion_is_false() -> None:
    script = Script([2**63 - 1, 2**63])
    assert bernoulli(Decimal("0.5"), 2, words=script).tolist() == [True, False]


def test_certain_coins_draw_nothing() -> None:
    assert bernoulli(Decimal(0), 3, words=Script()).tolist() == [False] * 3
    assert bernoulli(Decimal(1), 3, words=Script()).tolist() == [True] * 3
    assert bernoulli(Decimal("0.5"), 0, words=Script()).shape == (0,)


@pytest.mark.parametrize("probability", ["-0.1", "1.0000001"])
def test_refuses_what_is_no_probability(probability: str) -> None:
    with pytest.raises(WrongInput):
        bernoulli(Decimal(probability), 1)


def test_permutation_orders_the_words_and_repeats_on_a_tie() -> None:
    script = Script([5, 5, 1], [9, 2, 4])
    assert permutation(3, words=script).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_has_every_index_once(n: int) -> None:
    assert sorted(permutation(n).tolist()) == list(range(n))
