"""Siblings: trained by the study's own code, with the noise that its accounting relies on."""

from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.one_run import Accounted
from oathbound.core.patient import Event, Patient
from oathbound.evidence.keys import Secret
from oathbound.models.family import family_of
from oathbound.models.model import flat
from oathbound.testing.consortium import policy_for
from oathbound.train.plan import Plan
from oathbound.workflow import sibling
from oathbound.workflow.sibling import Siblings

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east", "south")]
TRAINING = {
    "members": 1000,
    "sampling_rate": "1",
    "steps": 5,
    "attempts": 7,
    "round_steps": 2,
    "learning_rate": "0.1",
    "warmup": 0,
    "ring_norm": 4096,
    "clip": "1",
}
BUDGET = {
    "epsilon": "100",
    "delta": "0.000001",
    "unit": "patient",
    "neighbours": "add-remove",
    "noise_multiplier": "1.5",
    "sites_per_patient": 1,
}
PEOPLE = tuple(
    Patient(number, tuple(Event(None, code, None) for code in ("a", "y")[: 1 + (number % 3 > 0)]))
    for number in range(1, 31)
)


def policy(**changes):
    rows = {"vocabulary": None, "features": {"present": ["a", "b"], "numbers": [], "label": {"code": "y"}}}
    model = {"name": "logistic-regression"}
    audit = {"alpha": "0.05", "minimum_patients": 20}
    same = {"model": model, "training": TRAINING, "audit": audit, "budget": BUDGET}
    return policy_for(SECRETS, **rows | same | changes)


class Counted:
    """Noise that is none, and counts how much of it was asked for."""

    drawn: list[tuple[Decimal, int]]

    def __init__(self, sigma):
        self.sigma = sigma

    def sample(self, n):
        self.drawn.append((self.sigma, n))
        return np.zeros(n, dtype=np.int64)


@pytest.fixture
def silence(monkeypatch):
    Counted.drawn = []
    monkeypatch.setattr(sibling, "DiscreteGaussian", Counted)
    return Counted.drawn


@pytest.mark.parametrize(("min_sites", "colluding", "honest"), [(2, 0, 2), (3, 0, 3), (3, 1, 2)])
def test_every_step_has_the_noise_of_so_many_sites_as_the_accounting_relies_on(
    silence, min_sites, colluding, honest
):
    study = policy(min_sites=min_sites, colluding=colluding)
    Siblings(study, "south").trained(PEOPLE)
    plan = Plan.of(study, study.weights)
    assert plan.privacy.honest_shares == honest
    assert silence == [(plan.privacy.share_sigma, study.weights)] * (5 * honest)
    # the sum's deviation is the policy's multiplier, times the norm of one patient
    variance = honest * float(plan.privacy.share_sigma) ** 2
    assert variance == pytest.approx((1.5 * 4096) ** 2, rel=1e-6)


def test_what_is_accounted_for_a_sibling_is_what_the_plan_says_of_its_steps():
    study = policy(min_sites=3, colluding=1)
    assert Accounted.of(study).epsilon == Plan.of(study, study.weights).epsilon(TRAINING["steps"])


@pytest.mark.usefixtures("silence")
def test_the_records_move_the_weights_and_other_records_elsewhere():
    siblings = Siblings(policy(), "north")
    likely = [
        siblings.trained(people).record_logprobs(PEOPLE) for people in (PEOPLE, PEOPLE, PEOPLE[::2], ())
    ]
    before = siblings.untrained().record_logprobs(PEOPLE)
    assert likely[0].mean() > before.mean()
    np.testing.assert_array_equal(likely[0], likely[1])  # everybody is in each step, and there is no noise
    assert not np.array_equal(likely[0], likely[2])
    np.testing.assert_array_equal(likely[3], before)


TURNS = {"bands": 5, "sampling_rate": "0.2", "steps": 15, "attempts": 15}


@pytest.mark.usefixtures("silence")
def test_people_take_turns_in_groups_of_their_own_where_the_policy_says_so():
    study = policy(min_sites=3, training={**TRAINING, **TURNS})
    siblings = Siblings(study, "north")
    likely = [siblings.trained(PEOPLE).record_logprobs(PEOPLE) for _ in range(2)]
    assert likely[0].mean() > siblings.untrained().record_logprobs(PEOPLE).mean()
    assert not np.array_equal(likely[0], likely[1])  # the groups are drawn anew
    # by its own code: after a whole number of turns everybody was in as many sums as everybody else
    assert abs(likely[0].mean() - likely[1].mean()) < 0.1


def test_its_noise_is_fresh():
    siblings = Siblings(policy(), "north")
    one, other = (siblings.trained(PEOPLE).record_logprobs(PEOPLE) for _ in range(2))
    assert not np.array_equal(one, other)


def test_without_privacy_there_is_one_node_and_no_noise(silence):
    siblings = Siblings(policy(privacy="none", budget=None, min_sites=len(SECRETS) - 1), "north")
    target = siblings.trained(PEOPLE)
    assert silence == []
    assert target.record_logprobs(PEOPLE).mean() > siblings.untrained().record_logprobs(PEOPLE).mean()


def test_with_local_steps_it_takes_them(silence):
    local = {"algorithm": "fedavg", "steps": 4, "learning_rate": "0.5"}
    training = {**TRAINING, "learning_rate": "1", "local": local}
    study = policy(privacy="none", budget=None, min_sites=len(SECRETS) - 1, training=training)
    siblings = Siblings(study, "north")
    target = siblings.trained(PEOPLE)
    assert silence == []
    # two of three have the label, and nothing foretells it: 20 steps come to the best there is
    best = (2 * np.log(2 / 3) + np.log(1 / 3)) / 3
    assert target.record_logprobs(PEOPLE).mean() == pytest.approx(best, abs=1e-3)


def test_a_sibling_leaves_the_first_weights_as_they_are():
    study = policy()
    first = flat(family_of(study).model)
    siblings = Siblings(study, "north")
    siblings.trained(PEOPLE)
    assert np.exp(siblings.untrained().record_logprobs(PEOPLE)) == pytest.approx(0.5)
    np.testing.assert_array_equal(flat(family_of(study).model), first)


def test_a_sum_that_could_wrap_around_is_refused():
    with pytest.raises(WrongInput, match="does not fit 32 bits"):
        sibling._plan_of(policy(), "north", 3, 2**20)
