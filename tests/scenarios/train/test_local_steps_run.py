"""Local steps through the secure sum: every engine's path, a killed run, a lost site and a diverged one."""

import numpy as np
import pytest

from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.train.descent import Descent
from oathbound.train.engines import local, parallel
from oathbound.train.messages import STEP_MAGIC, Step
from oathbound.train.node import Node

ALGORITHMS = {
    "fedavg": {"learning_rate": "1", "warmup": 0},
    "fedprox": {"learning_rate": "1", "warmup": 0},
    "fedadam": {"learning_rate": "0.01", "warmup": 1},
}


def changes(algorithm="fedavg", **of_local):
    more = {"proximal": "0.5"} if algorithm == "fedprox" else {}
    steps = {"algorithm": algorithm, "steps": 2, "learning_rate": "0.5", **more, **of_local}
    return {"private": False, "local": steps, "clip": "5", **ALGORITHMS[algorithm]}


def run_all(engine, some, coordinator, told):
    engine.run(
        coordinator,
        some.nodes,
        goes_on=lambda: coordinator.progress.step < some.plan.training.steps,
        save=lambda _: None,
        on_progress=told.append,
    )


@pytest.mark.parametrize("engine", [local, parallel])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_secure_sum_trains_what_plain_addition_does_and_tells_the_loss(consortium, engine, algorithm):
    three, told = consortium(**changes(algorithm)), []
    coordinator = three.coordinator()
    run_all(engine, three, coordinator, told)
    assert np.array_equal(coordinator._descent.weights, three.plain_weights())
    assert [each.step for each in told] == [1, 2, 3, 4]
    assert [each.loss for each in told] == sorted((each.loss for each in told), reverse=True)
    # by whose coins it is: everybody's, in the place of half of them
    assert told[0].loss / 2 == pytest.approx(three.loss(three.first), rel=0.2)
    assert three.loss(coordinator._descent.weights) < three.loss(three.first)


@pytest.mark.parametrize("private", [True, False])
def test_no_loss_is_told_where_gradients_are_summed(consortium, private):
    three, told = consortium(private=private), []
    run_all(local, three, three.coordinator(), told)
    assert [each.loss for each in told] == [None] * 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_that_is_killed_goes_on_exactly(consortium, run_digest, algorithm):
    three = consortium(**changes(algorithm))
    coordinator, expected = three.coordinator(), three.plain_weights()
    for _ in range(2):
        three.carry(coordinator, coordinator.begin())
    three.carry(coordinator, coordinator.begin(), until="proposal")  # charged, and then killed
    again = Descent.restore(coordinator.snapshot(), plan=three.plan, run=run_digest, charged=3)
    for site in three.sites:
        three.restart(site)
    three.run(three.coordinator(again))
    assert np.array_equal(again.weights, expected)
    assert (again.progress.step, again.progress.attempt) == (4, 5)


@pytest.mark.parametrize("engine", [local, parallel])
def test_a_site_that_diverged_ends_it_and_stays_charged(consortium, engine):
    three = consortium(**changes(learning_rate="10") | {"clip": "0.001"})
    coordinator, told = three.coordinator(), []
    with pytest.raises(WrongInput, match="the training diverged"):
        run_all(engine, three, coordinator, told)
    assert not told
    assert np.array_equal(coordinator._descent.weights, three.first)
    assert three.ledgers["north"].charged == [1]


def test_a_site_that_sends_gradients_is_refused(consortium):
    """It runs another plan, of the same digest: what it masks has another length."""
    three, other = consortium(**changes()), consortium(private=False)
    coordinator = three.coordinator()
    messages = three.carry(coordinator, coordinator.begin(), until="step")
    node = Node(other.trainer("north"), three.nodes["north"].node.client)
    with pytest.raises(WrongInput, match="a vector to sum is"):
        node.receive(messages["north"])


def test_a_site_that_spoils_the_sum_voids_the_attempt(consortium):
    three = consortium(**changes())
    coordinator = three.coordinator()
    messages = three.carry(coordinator, coordinator.begin(), until="step")

    class Spoils:
        def __init__(self, node):
            self.client = node.client
            self.trainer = node.trainer

        def receive(self, message):
            if not message.startswith(STEP_MAGIC):
                return self.client.receive(message)
            step, announcement = Step.decode(message, self.trainer.plan.dimension)
            self.client.begin(announcement, step=step.label)
            share = self.trainer.share(self.trainer.check(step))
            share[0] = 2**31 - 1
            return bytes(self.client.mask(share))

    three.nodes["north"] = Spoils(three.nodes["north"].node)
    with pytest.raises(ProtocolRefused, match="not of shares of local steps"):
        three.carry(coordinator, messages)
    assert coordinator.progress.step == 0
