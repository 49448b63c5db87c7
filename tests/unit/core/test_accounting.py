"""The binding epsilon: against dp-accounting, against integration, and against its own promises."""

from decimal import Decimal, localcontext
from math import comb
from typing import Any

import pytest

from oathbound.core import accounting
from oathbound.core.accounting import epsilon, noise_multiplier_for, share_sigma
from oathbound.core.errors import WrongInput
from oathbound.core.event import SampledGaussian

DELTA = Decimal("1e-6")


def event(**changes: Any) -> SampledGaussian:
    fields: dict[str, Any] = {
        "mechanism": "sampled-gaussian",
        "sampling_rate": Decimal("0.01"),
        "ring_norm": 16384,
        "share_sigma": Decimal(12000),
        "honest_shares": 2,
        "shares": 3,
        "dimension": 10**6,
        "tail": Decimal("2e-32"),
        "sites_per_patient": 1,
        "attempts": 5000,
    }
    return SampledGaussian(**(fields | changes))


def noise_of(it: SampledGaussian) -> float:
    return float((it.honest_shares * it.share_sigma**2 - 4).sqrt() / it.ring_norm)


def bound(noise: Decimal, rate: Decimal, attempts: int) -> Decimal:
    return accounting._bound(noise, rate=rate, uses=attempts, sites=1, attempts=attempts, delta=DELTA)


CASES = [
    event(),
    event(sampling_rate=Decimal("0.1"), share_sigma=Decimal(30000), attempts=300),
    event(sampling_rate=Decimal(1), share_sigma=Decimal(60000), attempts=10),
    event(sampling_rate=Decimal("0.001"), share_sigma=Decimal(9000), attempts=100_000),
    event(sampling_rate=Decimal("0.3"), attempts=1),
    event(ring_norm=10, share_sigma=Decimal(8), attempts=20),
]


@pytest.mark.parametrize("it", CASES)
def test_agrees_with_dp_accounting(it: SampledGaussian) -> None:
    dp = pytest.importorskip("dp_accounting")
    accountant = pytest.importorskip("dp_accounting.rdp").RdpAccountant(list(accounting.ORDERS))
    gaussian = dp.GaussianDpEvent(noise_of(it))
    accountant.compose(dp.PoissonSampledDpEvent(float(it.sampling_rate), gaussian), it.attempts)
    theirs = accountant.get_epsilon(0.99 * float(DELTA))
    with localcontext(prec=50):
        ours = bound(Decimal(noise_of(it)), it.sampling_rate, it.attempts)
    assert float(ours) == pytest.approx(theirs, rel=1e-6)
    assert theirs <= float(epsilon(it, DELTA)) <= theirs + 1.1e-4


@pytest.mark.parametrize("it", CASES[:3])
def test_is_above_the_tight_figure(it: SampledGaussian) -> None:
    dp = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld")
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    gaussian = dp.GaussianDpEvent(noise_of(it))
    accountant.compose(dp.PoissonSampledDpEvent(float(it.sampling_rate), gaussian), it.attempts)
    tight = accountant.get_epsilon(float(DELTA))
    assert 0.5 * float(epsilon(it, DELTA)) < tight < float(epsilon(it, DELTA))


@pytest.mark.parametrize("sites", [2, 3])
@pytest.mark.parametrize(
    "it", [CASES[2], event(share_sigma=Decimal(40000), sampling_rate=Decimal("0.1"), attempts=300)]
)
def test_one_person_at_several_sites_is_above_the_tight_figure(it: SampledGaussian, sites: int) -> None:
    """The tight one: each site's coin adds one more norm to the mean of one Gaussian."""
    mixture = pytest.importorskip("dp_accounting.dp_event").MixtureOfGaussiansDpEvent
    accountant = pytest.importorskip("dp_accounting.pld").PLDAccountant(value_discretization_interval=1e-2)
    q = float(it.sampling_rate)
    chances = [comb(sites, n) * q**n * (1 - q) ** (sites - n) for n in range(sites + 1)]
    accountant.compose(mixture(noise_of(it), list(range(sites + 1)), chances), it.attempts)
    ours, tight = float(epsilon(at(it, sites), DELTA)), accountant.get_epsilon(float(DELTA))
    assert 0.7 * ours < tight < ours
    assert tight > float(epsilon(it, DELTA))  # so who accounts for one site alone promises too much


def test_one_person_at_several_sites_always_sampled_is_one_vector_of_so_many_norms() -> None:
    whole = event(sampling_rate=Decimal(1), share_sigma=Decimal(400_000), attempts=10)
    for sites in (2, 7):
        longer = whole.model_copy(update={"ring_norm": sites * whole.ring_norm})
        assert epsilon(at(whole, sites), DELTA) == epsilon(longer, DELTA) > epsilon(whole, DELTA)


def at(it: SampledGaussian, sites: int) -> SampledGaussian:
    return it.model_copy(update={"sites_per_patient": sites})


@pytest.mark.parametrize(("noise", "rate"), [("0.7", "0.02"), ("1.5", "0.3"), ("1", "1")])
@pytest.mark.parametrize("order", [2, 3, 12])
def test_divergence_by_integration(noise: str, rate: str, order: int) -> None:
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(20):
        z, q = mp.mpf(noise), mp.mpf(rate)

        def integrand(x: Any) -> Any:
            base = mp.npdf(x, 0, z)
            return base * ((1 - q) + q * mp.npdf(x, 1, z) / base) ** order

        moment = mp.quad(integrand, mp.linspace(-12 * z, order + 12 * z, 12))
        expected = mp.log(moment) / (order - 1)
        with localcontext(accounting._arithmetic()):
            divergences = list(accounting._divergences(Decimal(noise), Decimal(rate)))
        assert mp.almosteq(mp.mpf(str(divergences[order - 2])), expected, 1e-12)


def test_rounded_gaussian_is_the_sum_of_shares_up_to_eta() -> None:
    """Spec, steps 1 and 5, at the least sigma: how far the laws of a coordinate are apart."""
    mp = pytest.importorskip("mpmath").mp
    points = (0, 1, 5)
    with mp.workdps(60):
        # The trapezoid rule, in steps of 1/8, converges faster than any power here.
        wholes = [mp.fsum(mp.exp(-((k - mp.mpf(i) / 8) ** 2) / 8) for k in range(-34, 36)) for i in range(8)]

        def rounded(x: int, variance: Any) -> Any:
            total = mp.mpf(0)
            for i in range(-8 * 36, 8 * 36 + 1):
                kernel = mp.exp(-((mp.mpf(i) / 8) ** 2) / 8) / wholes[i % 8]
                total += mp.npdf(x + mp.mpf(i) / 8, 0, mp.sqrt(variance)) * kernel
            return total / 8

        def two_shares(x: int) -> Any:
            whole = mp.fsum(mp.exp(-mp.mpf(k * k) / 128) for k in range(-140, 141))
            both = mp.fsum(mp.exp(-mp.mpf(k * k + (x - k) ** 2) / 128) for k in range(-140, 141))
            return both / whole**2

        per_coordinate = mp.mpf(str(accounting.ETA)) / 2**40
        shares = [two_shares(x) for x in points]

        def distance(variance: Any) -> Any:
            return max(
                mp.fabs(mp.log(rounded(x, variance) / share)) for x, share in zip(points, shares, strict=True)
            )

        effective = 2 * 64 - accounting.ROUNDING_VARIANCE
        assert distance(mp.mpf(effective)) <= per_coordinate
        assert distance(effective + mp.mpf("1e-20")) > per_coordinate


def test_every_attempt_pays_for_the_rounding() -> None:
    many = 2**53 - 1
    with localcontext(accounting._arithmetic()):
        one, all_of_them = (bound(Decimal(1), Decimal("1e-40"), n) for n in (1, many))
    assert all_of_them - one > 2 * accounting.ETA * (many - 1)


def test_no_attempts_cost_nothing() -> None:
    assert epsilon(event(attempts=0), DELTA) == 0


@pytest.mark.parametrize("delta", ["0", "1", "-1e-6", "2"])
def test_refuses_a_delta_that_is_no_probability(delta: str) -> None:
    with pytest.raises(WrongInput, match="delta"):
        epsilon(event(), Decimal(delta))


@pytest.mark.parametrize(
    "changes",
    [
        {"share_sigma": Decimal(8)},
        {"share_sigma": Decimal(1700)},
        {"attempts": 2**53 - 1},
        {"tail": Decimal("1e-20")},
        {"share_sigma": Decimal(5000), "sites_per_patient": 50},
    ],
)
def test_refuses_noise_that_promises_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(WrongInput, match="noise"):
        epsilon(event(**changes), DELTA)


def test_each_field_counts_in_its_direction() -> None:
    base = epsilon(event(), DELTA)
    worse: list[dict[str, Any]] = [
        {"sampling_rate": Decimal("0.011")},
        {"ring_norm": 17000},
        {"share_sigma": Decimal(11500)},
        {"attempts": 5500},
        {"sites_per_patient": 2},
    ]
    for changes in worse:
        assert epsilon(event(**changes), DELTA) > base
    assert epsilon(event(honest_shares=3), DELTA) < base
    assert epsilon(event(), Decimal("1e-5")) < base


def test_more_colluders_cost_more() -> None:
    assert epsilon(event(honest_shares=2, shares=5), DELTA) > epsilon(event(honest_shares=4, shares=5), DELTA)


def test_digits_do_not_depend_on_the_callers_arithmetic() -> None:
    with localcontext(prec=4):
        assert epsilon(event(), DELTA) == Decimal("4.7855")
    assert epsilon(event(), DELTA) == Decimal("4.7855")


@pytest.mark.parametrize(("sites", "digits"), [(1, "1.7375"), (2, "3.9803"), (3, "6.7856")])
def test_vectors_for_several_sites(sites: int, digits: str) -> None:
    assert epsilon(at(event(share_sigma=Decimal(24_000)), sites), DELTA) == Decimal(digits)


@pytest.mark.parametrize(
    ("target", "rate", "attempts", "sites"),
    [
        ("3", "0.01", 5000, 1),
        ("0.5", "0.1", 100, 1),
        ("8", "1", 3, 1),
        ("3", "0.01", 5000, 3),
        ("30", "1", 3, 49),
    ],
)
def test_the_least_noise_multiplier(target: str, rate: str, attempts: int, sites: int) -> None:
    q = Decimal(rate)
    noise = noise_multiplier_for(
        epsilon=Decimal(target), delta=DELTA, sampling_rate=q, attempts=attempts, sites_per_patient=sites
    )
    reached, missed = (
        epsilon(
            event(
                share_sigma=share_sigma(noise_multiplier=z, ring_norm=10**6, honest_shares=4),
                ring_norm=10**6,
                honest_shares=4,
                shares=4,
                sampling_rate=q,
                attempts=attempts,
                sites_per_patient=sites,
            ),
            DELTA,
        )
        for z in (noise, noise - Decimal("0.0001"))
    )
    assert reached <= Decimal(target) < missed


def test_noise_multiplier_out_of_reach() -> None:
    with pytest.raises(WrongInput, match="1000"):
        noise_multiplier_for(
            epsilon=Decimal("0.0001"), delta=DELTA, sampling_rate=Decimal(1), attempts=10_000_000
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": Decimal(0)},
        {"attempts": 0},
        {"sites_per_patient": 0},
        {"sampling_rate": Decimal(0)},
        {"sampling_rate": Decimal("1.1")},
        {"delta": Decimal(1)},
    ],
)
def test_noise_multiplier_refuses_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "epsilon": Decimal(3),
        "delta": DELTA,
        "sampling_rate": Decimal("0.1"),
        "attempts": 10,
    }
    with pytest.raises(WrongInput):
        noise_multiplier_for(**(asked | wrong))


def test_share_sigma_is_least() -> None:
    sigma = share_sigma(noise_multiplier=Decimal("1.377"), ring_norm=16384, honest_shares=2)
    wanted = (Decimal("1.377") * 16384) ** 2
    assert 2 * sigma**2 - 4 >= wanted > 2 * (sigma - Decimal("0.000001")) ** 2 - 4
    assert share_sigma(noise_multiplier=Decimal(1), ring_norm=2, honest_shares=2) == 8
    with pytest.raises(WrongInput):
        share_sigma(noise_multiplier=Decimal(0), ring_norm=2, honest_shares=2)
