from decimal import Decimal
from itertools import pairwise

import pytest

from oathbound.core import accounting
from oathbound.core.errors import BudgetRefused, WrongInput
from oathbound.core.event import BandedToeplitz, SampledGaussian, Unbounded
from oathbound.core.study import Policy
from oathbound.train.plan import Plan

BUDGET = {
    "epsilon": "3",
    "delta": "1e-6",
    "unit": "patient",
    "neighbours": "add-remove",
    "noise_multiplier": "1.8",
    "sites_per_patient": 1,
}
TRAINING = {
    "members": 10_000,
    "sampling_rate": "0.05",
    "steps": 300,
    "attempts": 320,
    "round_steps": 1000,
    "learning_rate": "0.01",
    "warmup": 20,
    "ring_norm": 16384,
    "clip": "0.5",
}


def member(name, digit):
    return {"name": name, "fingerprint": "sha256:" + digit * 64}


def policy(*, privacy="patient-dp", budget=BUDGET, **training):
    plain = {
        "study": "s",
        "purpose": "p",
        "coordinator": member("c", "0"),
        "sites": [member(name, digit) for name, digit in (("north", "1"), ("south", "2"), ("west", "3"))],
        "min_sites": 3,
        "colluding": 1,
        "dishonest_witnesses": 0,
        "aggregator": "secure-sum",
        "privacy": privacy,
        "budget": budget,
        "consent": {
            "training_purpose": "HRESCH",
            "audit_purpose": "HRESCH",
            "classes": [],
            "staleness_hours": 24,
        },
        "drawing": {"window": ["0", "1"], "held_out": "0.1", "reference": "0.1"},
        "vocabulary": {"codes": ["A"], "edges": {}, "ages": [], "gaps": []},
        "model": {
            "name": "event-transformer",
            "layers": 1,
            "width": 8,
            "heads": 1,
            "length": 8,
            "seed": 1,
        },
        "training": {**TRAINING, **training},
        "audit": {
            "alpha": "0.05",
            "minimum_patients": 20,
            "sensitive": {
                "name": "n",
                "codes": ["A"],
                "implied_by": [],
                "prompt_events": 1,
                "horizon": 1,
                "chains": 1,
            },
        },
        "gates": [{"test": "membership", "metric": "auc", "at_most": "0.55"}],
    }
    return Policy.parse({key: value for key, value in plain.items() if value is not None}, what="policy")


def test_a_plan_holds_what_the_policy_says():
    signed = policy()
    plan = Plan.of(signed, 1000)
    assert (plan.policy, plan.sites, plan.dimension) == (signed.digest, ("north", "south", "west"), 1000)
    assert plan.divisor == 500
    assert plan.scale == 16384 / 0.5
    assert plan.privacy.honest_shares == 2
    assert plan.privacy.share_sigma == accounting.share_sigma(
        noise_multiplier=Decimal("1.8"), ring_norm=16384, honest_shares=2
    )


def test_its_event_is_what_accounting_takes_and_its_price_is_within_the_budget():
    plan = Plan.of(policy(), 1000)
    event = plan.event(320)
    assert isinstance(event, SampledGaussian)
    assert (event.shares, event.honest_shares, event.attempts) == (3, 2, 320)
    assert event.share_sigma**2 * 2 - 4 >= (Decimal("1.8") * 16384) ** 2
    price = plan.price()
    assert price == accounting.epsilon(event, Decimal("1e-6")) == plan.epsilon(320)
    assert 1 < price <= 3
    assert plan.epsilon(0) == 0
    assert plan.epsilon(160) < price


def test_a_plan_above_its_budget_is_refused_with_both_numbers():
    with pytest.raises(BudgetRefused) as refused:
        Plan.of(policy(budget={**BUDGET, "epsilon": "2"}), 1000)
    assert refused.value.allowed == "2"
    assert Decimal(refused.value.needed) > 2
    with pytest.raises(BudgetRefused):
        Plan.of(policy(attempts=3000), 1000)


def test_who_is_a_patient_of_several_sites_is_charged_for_each():
    one, two = (
        Plan.of(policy(budget={**BUDGET, "epsilon": "9", "sites_per_patient": k}), 1000) for k in (1, 2)
    )
    assert two.event(320).sites_per_patient == 2
    assert two.price() == accounting.epsilon(two.event(320), Decimal("1e-6")) > 2 * one.price()
    with pytest.raises(BudgetRefused, match=f"costs epsilon {two.price()}"):
        Plan.of(policy(budget={**BUDGET, "sites_per_patient": 2}), 1000)


def test_a_sum_that_could_wrap_around_is_refused():
    with pytest.raises(WrongInput, match="does not fit 32 bits"):
        Plan.of(policy(members=3_000_000), 1000)


BANDS = {"bands": 20, "sampling_rate": "0.05", "attempts": 300, "ring_norm": 1024}


def test_a_plan_with_bands_has_noise_for_all_that_a_patient_adds_in_a_block():
    loud = {**BUDGET, "noise_multiplier": "8"}
    plan = Plan.of(policy(budget=loud, **BANDS), 1000)
    square = sum(c * c for c in plan.coefficients)
    assert len(plan.coefficients) == 20
    assert plan.privacy.share_sigma == accounting.share_sigma(
        noise_multiplier=Decimal(8), ring_norm=1024, honest_shares=2, coefficients=plan.coefficients
    )
    assert 2 * plan.privacy.share_sigma**2 > 64 * 1024**2 * square
    event = plan.event(300)
    assert isinstance(event, BandedToeplitz)
    assert event.coefficients == plan.coefficients
    assert plan.price() == accounting.epsilon(event, Decimal("1e-6")) < 3
    assert plan.divisor == 500
    assert Plan.of(policy(), 1000).coefficients == (1,)


def test_a_plan_with_bands_is_refused_where_its_sums_or_its_noise_do_not_fit():
    with pytest.raises(WrongInput, match="does not fit 32 bits"):
        Plan.of(policy(budget={**BUDGET, "noise_multiplier": "8"}, **BANDS, members=1_500_000), 1000)
    Plan.of(policy(budget={**BUDGET, "noise_multiplier": "8"}, **BANDS, members=200_000), 1000)
    with pytest.raises(WrongInput, match="noise parameter"):
        Plan.of(policy(budget={**BUDGET, "noise_multiplier": "8"}, **{**BANDS, "ring_norm": 4096}), 1000)
    with pytest.raises(BudgetRefused):
        Plan.of(policy(budget={**BUDGET, "noise_multiplier": "2"}, **BANDS), 1000)


def test_noise_out_of_the_samplers_range_is_refused():
    with pytest.raises(WrongInput, match="noise parameter"):
        Plan.of(policy(budget={**BUDGET, "noise_multiplier": "100"}), 1000)


def test_without_privacy_nothing_is_bounded():
    plan = Plan.of(policy(privacy="none", budget=None), 1000)
    assert plan.privacy is None
    assert isinstance(plan.event(7), Unbounded)
    assert plan.event(7).attempts == 7
    assert plan.price() is None
    assert 3 * plan.saturation < 2**31


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_zero():
    plan = Plan.of(policy(), 1000)
    rates = [plan.learning_rate(step) for step in range(1, 301)]
    assert rates[0] == pytest.approx(0.01 / 20)
    assert max(rates) == rates[19] <= 0.01
    assert all(high > low for high, low in pairwise(rates[19:]))
    assert rates[-1] == pytest.approx(0.01 / 300)
    assert Plan.of(policy(warmup=0), 1000).learning_rate(1) == 0.01
