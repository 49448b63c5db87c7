from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import BudgetRefused, ProtocolRefused, Unavailable, WrongInput
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.ring import decode
from oathbound.train.messages import Step


def step(consortium, **changes):
    began = consortium.descent().begin()
    return Step(began.label.model_copy(update=changes), began.weights)


def share(trainer, step):
    return trainer.share(trainer.check(step))


def test_a_share_is_charged_and_of_a_sample(consortium):
    three = consortium()
    vector = share(three.trainers["north"], step(three))
    assert vector.dtype == np.uint32
    assert vector.shape == (three.plan.dimension,)
    assert vector.any()
    assert three.ledgers["north"].charged == [1]
    assert three.samplers["north"].rates == [Decimal("0.5")]


def test_a_replayed_step_is_refused_also_by_a_site_that_was_restarted(consortium):
    three = consortium()
    share(three.trainers["north"], step(three))
    for trainer in (three.trainers["north"], three.trainer("north")):
        with pytest.raises(ProtocolRefused, match="charged before"):
            trainer.check(step(three))
    assert three.ledgers["north"].charged == [1]
    assert len(three.samplers["north"].rates) == 1


def test_a_step_that_was_checked_twice_is_charged_once(consortium):
    three = consortium()
    trainer = three.trainers["north"]
    twice = [trainer.check(step(three)) for _ in range(2)]
    trainer.share(twice[0])
    with pytest.raises(ProtocolRefused, match="charged before"):
        trainer.share(twice[1])
    assert len(three.samplers["north"].rates) == 1


def test_an_attempt_below_a_charged_one_is_refused(consortium):
    three = consortium()
    three.ledgers["north"].charge(5)
    for attempt in (1, 4, 5):
        with pytest.raises(ProtocolRefused, match="charged before"):
            share(three.trainers["north"], step(three, attempt=attempt))
    share(three.trainers["north"], step(three, step=4, attempt=6))


def test_attempts_cannot_be_spent_on_the_first_steps(consortium):
    """Of six attempts for four steps, two may fail: a third of one step is refused."""
    three = consortium()
    for number, attempt in ((1, 3), (2, 4), (4, 6)):
        three.trainers["north"].check(step(three, step=number, attempt=attempt))
        with pytest.raises(BudgetRefused, match="too few are left"):
            three.trainers["north"].check(step(three, step=number, attempt=attempt + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"run": digest(b"other")},
        {"plan": digest(b"other")},
        {"step": 5, "attempt": 6},
        {"step": 2, "attempt": 1},
    ],
)
def test_a_step_of_something_else_is_refused_and_not_charged(consortium, changes):
    three = consortium()
    with pytest.raises(ProtocolRefused):
        share(three.trainers["north"], step(three, **changes))
    assert not three.ledgers["north"].charged
    assert not three.samplers["north"].rates


def test_an_attempt_beyond_the_plan_is_refused(consortium):
    three = consortium()
    with pytest.raises(BudgetRefused, match="all 6 attempts") as refused:
        share(three.trainers["north"], step(three, attempt=7))
    assert refused.value.allowed == "1000"
    assert Decimal(refused.value.needed) > 0
    assert not three.ledgers["north"].charged


class Careless:
    """A ledger that would charge an attempt twice."""

    def highest(self):
        return 5

    def charge(self, attempt):
        pass


def test_a_trainer_does_not_rely_on_its_ledger_to_refuse(consortium):
    three = consortium()
    with pytest.raises(ProtocolRefused, match="no vector is sent twice"):
        share(three.trainer("north", ledger=Careless()), step(three, attempt=5))


class Full:
    def highest(self):
        return 0

    def charge(self, attempt):
        raise Unavailable(f"disk full at {attempt}")


def test_what_cannot_be_charged_is_not_computed(consortium):
    three = consortium()
    trainer = three.trainer("north", ledger=Full())
    with pytest.raises(Unavailable, match="disk full"):
        share(trainer, step(three))
    assert not three.samplers["north"].rates


class Broken:
    sigma = Decimal(9000)

    def sample(self, n):
        raise Unavailable(f"no entropy for {n}")


def test_a_crash_after_the_charge_leaves_it_charged_and_sends_nothing(consortium):
    three = consortium()
    with pytest.raises(Unavailable, match="no entropy"):
        share(three.trainer("north", noise=Broken()), step(three))
    assert three.ledgers["north"].charged == [1]
    with pytest.raises(ProtocolRefused):
        share(three.trainers["north"], step(three))


def test_an_empty_sample_still_sends_noise(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(Decimal(9000)))
    three.samplers["north"].tokens = three.samplers["north"].tokens[:0]
    vector = decode(share(three.trainers["north"], step(three)))
    assert 0.9 < vector.std() / 9000 < 1.1


def test_no_two_attempts_have_the_same_noise(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(Decimal(9000)))
    vectors = [decode(share(three.trainers["north"], step(three, attempt=attempt))) for attempt in (1, 2)]
    apart = vectors[0] - vectors[1]
    assert 0.9 < apart.std() / (9000 * 2**0.5) < 1.1


def test_one_patient_moves_the_sum_by_at_most_the_ring_norm_exactly(consortium):
    three = consortium(attempts=10)
    everybody = three.samplers["north"].tokens
    whole = decode(share(three.trainers["north"], step(three, attempt=1)))
    norms = []
    for attempt, patient in enumerate(range(0, 20, 4), start=2):
        three.samplers["north"].tokens = np.delete(everybody, patient, axis=0)
        apart = whole - decode(share(three.trainers["north"], step(three, attempt=attempt)))
        norms.append(int(apart @ apart))
    assert 0.98 * 16384**2 < max(norms) <= 16384**2


def test_the_noise_and_the_site_must_be_the_plans(consortium):
    three, bare = consortium(), consortium(private=False)
    for wrong in (None, DiscreteGaussian(Decimal(8999))):
        with pytest.raises(WrongInput):
            three.trainer("north", noise=wrong)
    with pytest.raises(WrongInput):
        bare.trainer("north", noise=DiscreteGaussian(Decimal(9000)))
    with pytest.raises(WrongInput):
        three.trainer("north", of="east")


def test_the_plan_of_a_trainer_is_the_policy_that_it_signed(consortium):
    three = consortium()
    other = replace(three.plan, policy=digest(b"another policy"))
    with pytest.raises(ProtocolRefused, match="another run or plan"):
        share(three.trainer("north", plan=other), step(three))


def test_a_step_after_its_round_is_refused_and_not_charged(consortium):
    three = consortium()
    trainer = three.trainer("north", last_step=1)
    share(trainer, step(three))
    with pytest.raises(ProtocolRefused, match="after the round"):
        share(trainer, step(three, step=2, attempt=2))
    assert three.ledgers["north"].charged == [1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_and_not_charged(consortium, value):
    three = consortium()
    began = step(three)
    weights = began.weights.copy()
    weights[-1] = value
    with pytest.raises(ProtocolRefused, match="not finite"):
        three.trainers["north"].check(Step(began.label, weights))
    assert not three.ledgers["north"].charged


def test_a_trainer_shows_no_record(consortium):
    assert "tokens" not in repr(consortium().trainers["north"])
