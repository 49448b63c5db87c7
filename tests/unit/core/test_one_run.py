"""The bound from one run: the paper's numbers, a brute force, and what a policy's procedure is accounted."""

import math
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from oathbound.core import accounting
from oathbound.core.bands import coefficients
from oathbound.core.catalogue import check_gates
from oathbound.core.errors import WrongInput
from oathbound.core.event import BandedToeplitz, SampledGaussian
from oathbound.core.finding import OneRun
from oathbound.core.one_run import Accounted, delta_of, epsilon_at_least, most_likely, shown
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east", "south")]


def run(planted, guesses, right):
    return OneRun(
        kind="one-run",
        score="loss-difference",
        planted=planted,
        guesses=guesses,
        right=right,
        delta=Decimal("0.000001"),
    )


def brute(run, epsilon, delta):
    """Theorem 5.2 with scipy's binomial, every i tried."""
    w = stats.binom(run.guesses, 1 / (1 + math.exp(-epsilon)))
    i = np.arange(1, run.planted + 1)
    mass = np.cumsum(w.pmf(run.right - i)) / i
    return min(w.sf(run.right - 1) + 2 * run.planted * delta * max(mass), 1)


def test_the_papers_own_example():
    """Appendix D: 1,000 planted, 75 of 100 guesses right, delta 1e-4, 95 %: epsilon at least 0.673."""
    bound = epsilon_at_least(run(1000, 100, 75), Decimal("0.0001"), 0.05)
    assert bound == Decimal("0.672")  # 0.67298, rounded down


def test_the_papers_own_experiment():
    """Section 7: 1,439 of 1,510 guesses right, of 100,000 planted, delta 1e-5, 95 %: 2.675."""
    facts = {"kind": "one-run", "score": "x", "planted": 100_000, "guesses": 1510, "right": 1439}
    assert epsilon_at_least(OneRun.model_construct(**facts), Decimal("0.00001"), 0.05) == Decimal("2.675")


@pytest.mark.parametrize("counts", [(30, 12, 12), (30, 12, 9), (30, 12, 0), (40, 40, 25), (500, 100, 71)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("delta", [0.0, 0.001, 0.02])
def test_the_right_hand_side_is_the_theorems(counts, epsilon, delta):
    one = run(*counts)
    computed = most_likely(one, Decimal(str(epsilon)), Decimal(str(delta)))
    assert float(computed) == pytest.approx(brute(one, epsilon, delta), rel=1e-9)


def test_the_bound_is_where_the_theorem_stops_to_reject():
    one, delta, alpha = run(300, 100, 80), Decimal("0.000001"), 0.025
    bound = epsilon_at_least(one, delta, alpha)
    assert most_likely(one, bound, delta) <= Decimal(alpha)
    assert most_likely(one, bound + Decimal("0.001"), delta) > Decimal(alpha)


def test_what_guessing_explains_shows_nothing_and_every_right_guess_shows_more():
    bounds = [epsilon_at_least(run(200, 100, right), Decimal("0.000001"), 0.025) for right in range(101)]
    assert bounds[50] == bounds[0] == 0
    assert bounds == sorted(bounds)
    assert bounds[60] == 0 < bounds[61]
    # all right: q ** 100 = alpha, but for delta's share
    q = 0.025 ** (1 / 100)
    assert float(bounds[100]) == pytest.approx(math.log(q / (1 - q)), abs=0.01)


def test_delta_and_confidence_lower_the_bound():
    one = run(300, 100, 85)
    assert epsilon_at_least(one, Decimal("0.0005"), 0.025) < epsilon_at_least(one, Decimal(0), 0.025)
    assert epsilon_at_least(one, Decimal(0), 0.001) < epsilon_at_least(one, Decimal(0), 0.025)


@pytest.mark.parametrize("counts", [(10, 12, 3), (10, 4, 5), (1, 1, 1), (20_000, 100, 50)])
def test_impossible_counts_are_refused(counts):
    facts = dict(zip(("planted", "guesses", "right"), counts, strict=True))
    with pytest.raises(WrongInput):
        OneRun.parse(
            {"kind": "one-run", "score": "loss-difference", "delta": "0.000001", **facts}, what="measure"
        )


def test_accounted_is_the_plan_with_every_step_taken_once():
    policy = policy_for(SECRETS, min_sites=3, colluding=1)
    accounted = Accounted.of(policy)
    event = SampledGaussian(
        mechanism="sampled-gaussian",
        sampling_rate=policy.training.sampling_rate,
        ring_norm=policy.training.ring_norm,
        share_sigma=accounting.share_sigma(noise_multiplier=Decimal("1.5"), ring_norm=16384, honest_shares=2),
        honest_shares=2,
        shares=3,
        dimension=policy.weights,
        tail=accounting.SAMPLER_TAIL,
        sites_per_patient=1,
        attempts=policy.training.steps,
    )
    assert accounted == Accounted(accounting.epsilon(event, policy.budget.delta), policy.budget.delta)
    assert accounted.epsilon < policy.budget.epsilon


def test_a_canary_is_accounted_at_one_site_wherever_people_may_be():
    plan = {"min_sites": 3, "colluding": 1}
    budget = policy_for(SECRETS, **plan).budget.plain()
    everywhere = policy_for(SECRETS, **plan, budget={**budget, "sites_per_patient": 3})
    assert Accounted.of(everywhere) == Accounted.of(policy_for(SECRETS, **plan))


def test_what_is_accounted_of_turns_is_so_many_turns():
    training = policy_for(SECRETS).training.plain()
    bands = {"bands": 10, "sampling_rate": "0.1", "steps": 20, "attempts": 20, "ring_norm": 1024}
    policy = policy_for(SECRETS, training={**training, **bands}, min_sites=len(SECRETS) - 1)
    honest = len(SECRETS) - 1
    event = BandedToeplitz(
        mechanism="banded-toeplitz",
        coefficients=coefficients(10),
        ring_norm=1024,
        share_sigma=accounting.share_sigma(
            noise_multiplier=Decimal("1.5"),
            ring_norm=1024,
            honest_shares=honest,
            coefficients=coefficients(10),
        ),
        honest_shares=honest,
        shares=honest,
        dimension=policy.weights,
        tail=accounting.SAMPLER_TAIL,
        sites_per_patient=1,
        attempts=20,
    )
    assert Accounted.of(policy).epsilon == accounting.epsilon(event, policy.budget.delta)


def test_nothing_is_accounted_where_nothing_is_promised():
    assert Accounted.of(policy_for(SECRETS, privacy="none", budget=None, min_sites=len(SECRETS) - 1)) is None


def test_a_bound_is_said_with_its_delta_and_confidence_and_so_is_that_there_is_none():
    assert shown(run(200, 100, 50)) == "no epsilon above 0 is shown"
    least = epsilon_at_least(run(200, 100, 90), Decimal("0.000001"), 0.025)
    assert shown(run(200, 100, 90)) == (f"epsilon at least {least} at delta 0.000001, with confidence 97.5 %")


def test_delta_is_the_policys_or_a_stated_one():
    assert delta_of(policy_for(SECRETS)) == Decimal("0.000001")
    assert delta_of(policy_for(SECRETS, privacy="none", budget=None, min_sites=len(SECRETS) - 1)) == Decimal(
        "0.00001"
    )


def test_no_gate_can_ask_for_it():
    gate = {"test": "canary", "metric": "one-run", "at_most": "1"}
    audit = {"alpha": "0.05", "minimum_patients": 20, "canaries": {"planted": 40, "guesses": 20}}
    with pytest.raises(WrongInput, match="canary does not measure one-run") as refused:
        check_gates(policy_for(SECRETS, audit=audit, gates=[gate]))
    assert refused.value.hint == "take the gate out: what it finds fails by itself"
    with pytest.raises(WrongInput, match="cannot be measured in this study"):
        check_gates(policy_for(SECRETS, gates=[gate]))
