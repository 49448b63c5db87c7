from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import BudgetRefused, ProtocolRefused, Unavailable, WrongInput
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.ring import decode
from oathbound.train.messages import Share, Step, weight_bytes


def step(consortium, **changes):
    message = Step.decode(consortium.coordinator().begin()["north"], consortium.plan.dimension)
    return Step(message.label.model_copy(update=changes), message.weights).encode()


def total(consortium, message):
    return decode(Share.decode(message, consortium.plan.dimension).vector)


def test_a_share_answers_its_step(consortium, run_digest):
    three = consortium()
    share = Share.decode(three.nodes["north"].receive(step(three)), three.plan.dimension)
    assert share.label.site == "north"
    assert (share.label.run, share.label.plan) == (run_digest, three.plan.policy)
    assert (share.label.step, share.label.attempt) == (1, 1)
    assert share.label.model == digest(weight_bytes(three.first))
    assert three.ledgers["north"].charged == [1]
    assert three.samplers["north"].rates == [Decimal("0.5")]


def test_a_replayed_step_is_refused_also_by_a_node_that_was_restarted(consortium):
    three = consortium()
    message = step(three)
    three.nodes["north"].receive(message)
    for node in (three.nodes["north"], three.node("north")):
        with pytest.raises(ProtocolRefused, match="charged before"):
            node.receive(message)
    assert three.ledgers["north"].charged == [1]
    assert len(three.samplers["north"].rates) == 1


def test_an_attempt_below_a_charged_one_is_refused(consortium):
    three = consortium()
    three.ledgers["north"].charge(5)
    for attempt in (1, 4, 5):
        with pytest.raises(ProtocolRefused, match="charged before"):
            three.nodes["north"].receive(step(three, attempt=attempt))
    three.nodes["north"].receive(step(three, attempt=6))


@pytest.mark.parametrize(
    "changes",
    [
        {"run": digest(b"other")},
        {"plan": digest(b"other")},
        {"model": digest(b"other")},
        {"step": 5, "attempt": 6},
        {"step": 2, "attempt": 1},
    ],
)
def test_a_step_of_something_else_is_refused_and_not_charged(consortium, changes):
    three = consortium()
    with pytest.raises(ProtocolRefused):
        three.nodes["north"].receive(step(three, **changes))
    assert not three.ledgers["north"].charged
    assert not three.samplers["north"].rates


def test_an_attempt_beyond_the_plan_is_refused(consortium):
    three = consortium()
    with pytest.raises(BudgetRefused, match="all 6 attempts") as refused:
        three.nodes["north"].receive(step(three, attempt=7))
    assert refused.value.allowed == "1000"
    assert Decimal(refused.value.needed) > 0
    assert not three.ledgers["north"].charged


class Careless:
    """A ledger that would charge an attempt twice."""

    def highest(self):
        return 5

    def charge(self, attempt):
        pass


def test_the_node_does_not_rely_on_its_ledger_to_refuse(consortium):
    three = consortium()
    with pytest.raises(ProtocolRefused, match="no vector is sent twice"):
        three.node("north", ledger=Careless()).receive(step(three, attempt=5))


class Full:
    def highest(self):
        return 0

    def charge(self, attempt):
        raise Unavailable(f"disk full at {attempt}")


def test_what_cannot_be_charged_is_not_computed(consortium):
    three = consortium()
    node = three.node("north", ledger=Full())
    with pytest.raises(Unavailable, match="disk full"):
        node.receive(step(three))
    assert not three.samplers["north"].rates


class Broken:
    sigma = Decimal(9000)

    def sample(self, n):
        raise Unavailable(f"no entropy for {n}")


def test_a_crash_after_the_charge_leaves_it_charged_and_sends_nothing(consortium):
    three = consortium()
    with pytest.raises(Unavailable, match="no entropy"):
        three.node("north", noise=Broken()).receive(step(three))
    assert three.ledgers["north"].charged == [1]
    with pytest.raises(ProtocolRefused):
        three.nodes["north"].receive(step(three))


def test_an_empty_sample_still_sends_noise(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(Decimal(9000)))
    three.samplers["north"].tokens = three.samplers["north"].tokens[:0]
    vector = total(three, three.nodes["north"].receive(step(three)))
    assert 0.9 < vector.std() / 9000 < 1.1


def test_no_two_attempts_have_the_same_noise(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(Decimal(9000)))
    vectors = [total(three, three.nodes["north"].receive(step(three, attempt=attempt))) for attempt in (1, 2)]
    apart = vectors[0] - vectors[1]
    assert 0.9 < apart.std() / (9000 * 2**0.5) < 1.1


def test_one_patient_moves_the_sum_by_at_most_the_ring_norm_exactly(consortium):
    three = consortium()
    everybody = three.samplers["north"].tokens
    whole = total(three, three.nodes["north"].receive(step(three, attempt=1)))
    norms = []
    for attempt, patient in enumerate(range(0, 20, 4), start=2):
        three.samplers["north"].tokens = np.delete(everybody, patient, axis=0)
        apart = whole - total(three, three.nodes["north"].receive(step(three, attempt=attempt)))
        norms.append(int(apart @ apart))
    assert 0.98 * 16384**2 < max(norms) <= 16384**2


def test_the_noise_and_the_site_must_be_the_plans(consortium):
    three, bare = consortium(), consortium(private=False)
    for wrong in (None, DiscreteGaussian(Decimal(8999))):
        with pytest.raises(WrongInput):
            three.node("north", noise=wrong)
    with pytest.raises(WrongInput):
        bare.node("north", noise=DiscreteGaussian(Decimal(9000)))
    with pytest.raises(WrongInput):
        three.node("north", of="east")


def test_the_plan_of_a_node_is_the_policy_that_it_signed(consortium):
    three = consortium()
    other = replace(three.plan, policy=digest(b"another policy"))
    with pytest.raises(ProtocolRefused, match="another run or plan"):
        three.node("north", plan=other).receive(step(three))


def test_a_step_after_its_round_is_refused_and_not_charged(consortium):
    three = consortium()
    node = three.node("north", last_step=1)
    node.receive(step(three))
    with pytest.raises(ProtocolRefused, match="after the round"):
        node.receive(step(three, step=2, attempt=2))
    assert three.ledgers["north"].charged == [1]
