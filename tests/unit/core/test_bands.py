"""The matrix that DP-FTRL's sums are multiplied by, and the epsilon of what is noised after it."""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from oathbound.core import accounting
from oathbound.core.accounting import epsilon, share_sigma, square_norm
from oathbound.core.bands import MOST_BANDS, SCALE, coefficients
from oathbound.core.event import BandedToeplitz

DELTA = Decimal("1e-6")
BANDS = range(2, MOST_BANDS + 1)


def event(bands: int = 20, noise: str = "6", **changes: Any) -> BandedToeplitz:
    """Return an event of which each block of `bands` attempts is a Gaussian of multiplier `noise`."""
    fields: dict[str, Any] = {
        "mechanism": "banded-toeplitz",
        "coefficients": coefficients(bands),
        "ring_norm": 1024,
        "share_sigma": share_sigma(
            noise_multiplier=Decimal(noise), ring_norm=1024, honest_shares=2, coefficients=coefficients(bands)
        ),
        "honest_shares": 2,
        "shares": 3,
        "dimension": 10**5,
        "tail": Decimal("2e-32"),
        "sites_per_patient": 1,
        "attempts": 200,
    }
    return BandedToeplitz(**(fields | changes))


def test_the_coefficients_are_those_of_the_square_root_in_eighths() -> None:
    assert coefficients(6) == (8, 4, 3, 3, 2, 2)
    exact = np.cumprod([1.0, *((2 * j - 1) / (2 * j) for j in range(1, MOST_BANDS))])
    assert np.abs(np.array(coefficients(MOST_BANDS)) / SCALE - exact).max() <= 1 / (2 * SCALE)
    # its square is the matrix of prefix sums
    assert np.convolve(exact, exact)[:MOST_BANDS] == pytest.approx(np.ones(MOST_BANDS))


@pytest.mark.parametrize("bands", BANDS)
def test_solving_for_the_sums_blows_nothing_up(bands: int) -> None:
    some = coefficients(bands)
    assert some[0] > some[1] > 0
    assert min(some) > 0
    assert list(some) == sorted(some, reverse=True)
    assert np.abs(np.roots(some[::-1])).min() > 1


@pytest.mark.parametrize(("bands", "noise", "attempts"), [(20, "6", 200), (2, "8", 31), (10, "3", 9)])
def test_it_is_so_many_gaussian_mechanisms_as_a_patient_has_turns(
    bands: int, noise: str, attempts: int
) -> None:
    dp = pytest.importorskip("dp_accounting")
    it, turns = event(bands, noise, attempts=attempts), -(-attempts // bands)
    bound = pytest.importorskip("dp_accounting.rdp").RdpAccountant(list(accounting.ORDERS))
    tight = pytest.importorskip("dp_accounting.pld").PLDAccountant(value_discretization_interval=1e-3)
    for accountant in (bound, tight):
        accountant.compose(dp.GaussianDpEvent(float(noise)), turns)
    theirs = bound.get_epsilon(0.99 * float(DELTA))
    assert theirs * (1 - 1e-6) <= float(epsilon(it, DELTA)) <= theirs + 1.1e-4
    assert 0.8 * float(epsilon(it, DELTA)) < tight.get_epsilon(float(DELTA)) < float(epsilon(it, DELTA))


@pytest.mark.parametrize(
    ("bands", "noise", "attempts", "sites", "digits"),
    [(20, "6", 200, 1, "2.5639"), (20, "6", 200, 2, "5.5578"), (4, "60", 201, 3, "1.6789")],
)
def test_vectors(bands: int, noise: str, attempts: int, sites: int, digits: str) -> None:
    it = event(bands, noise, attempts=attempts, sites_per_patient=sites)
    with localcontext(prec=4):
        assert epsilon(it, DELTA) == Decimal(digits)


def test_a_block_that_has_begun_is_paid_for_whole() -> None:
    costs = [epsilon(event(10, attempts=attempts), DELTA) for attempts in (0, 1, 10, 11, 20, 21)]
    assert costs[0] == 0 < costs[1] == costs[2] < costs[3] == costs[4] < costs[5]


def test_every_attempt_pays_for_the_rounding_not_only_every_turn() -> None:
    few, many = 10**15, 2 * 10**15
    with localcontext(accounting._arithmetic()):
        facts: dict[str, Any] = {"rate": Decimal(1), "uses": 1, "sites": 1, "delta": DELTA}
        one, all_of_them = (accounting._bound(Decimal(5), attempts=n, **facts) for n in (few, many))
    assert all_of_them - one >= 2 * accounting.ETA * (many - few)


def test_one_person_at_several_sites_is_one_vector_of_so_many_norms() -> None:
    whole = event(noise="60")
    longer = whole.model_copy(update={"ring_norm": 3 * whole.ring_norm})
    three = epsilon(whole.model_copy(update={"sites_per_patient": 3}), DELTA)
    assert three == epsilon(longer, DELTA) > epsilon(whole, DELTA)


def test_each_field_counts_in_its_direction() -> None:
    base = epsilon(event(), DELTA)
    worse: list[dict[str, Any]] = [
        {"ring_norm": 1100},
        {"share_sigma": Decimal(40_000)},
        {"attempts": 201},
        {"sites_per_patient": 2},
        {"coefficients": (9, *coefficients(20)[1:])},
        {"coefficients": coefficients(10)},  # the same noise, and turns that come twice as often
    ]
    for changes in worse:
        assert epsilon(event(**changes), DELTA) > base
    assert epsilon(event(honest_shares=3), DELTA) < base


def test_the_share_of_noise_is_for_all_that_a_vector_adds() -> None:
    some = coefficients(20)
    sigma = share_sigma(noise_multiplier=Decimal("1.377"), ring_norm=1024, honest_shares=2, coefficients=some)
    wanted = (Decimal("1.377") * 1024) ** 2 * sum(c * c for c in some)
    assert square_norm(some) == sum(c * c for c in some)
    assert 2 * sigma**2 - 4 >= wanted > 2 * (sigma - Decimal("0.000001")) ** 2 - 4
