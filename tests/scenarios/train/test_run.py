"""One site each, all honest: what a run is, from its first attempt to its last snapshot."""

import numpy as np
import pytest

from oathbound.core.errors import BudgetRefused, ProtocolRefused, WrongInput
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.ring import decode
from oathbound.train.adam import Adam
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent, Progress
from oathbound.train.engines import local


def run_all(descent, consortium, *, save=lambda _: None, on_progress=lambda _: None):
    local.run(
        consortium.coordinator(descent),
        consortium.nodes,
        goes_on=lambda: not descent.finished,
        save=save,
        on_progress=on_progress,
    )


def test_a_step_is_adam_on_the_integer_sum_of_the_shares(consortium):
    three = consortium()
    descent = three.descent()
    step = descent.begin()
    shares = [trainer.share(trainer.check(step)) for trainer in three.trainers.values()]
    total = np.sum(shares, axis=0, dtype=np.uint32)
    assert descent.take(total) == Progress(step=1, attempt=1)
    gradient = (sum(decode(share) for share in shares) / (16384 / 0.5 * 30)).astype(np.float32)
    expected = Adam.at(three.first).stepped(gradient, step=1, rate=three.plan.learning_rate(1))
    assert np.array_equal(descent.weights, expected.weights)
    assert not np.array_equal(descent.weights, three.first)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("sites", [3, 4])
def test_the_secure_sum_trains_the_weights_that_plain_addition_does(consortium, private, sites):
    some = consortium(private=private, sites=sites)
    descent = some.descent()
    run_all(descent, some)
    assert np.array_equal(descent.weights, some.plain_weights())


def test_the_noise_of_every_site_is_in_the_sum(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(consortium().plan.privacy.share_sigma))
    quiet = consortium()
    sums = []
    for some in (three, quiet):
        descent = some.descent()
        take = descent.take
        descent.take = lambda total, sites, take=take: (sums.append(decode(total)), take(total, sites))[1]
        coordinator = some.coordinator(descent)
        some.carry(coordinator, coordinator.begin())
    assert 0.9 < (sums[0] - sums[1]).std() / (9000 * 3**0.5) < 1.1


def test_a_run_ends_after_its_steps(consortium):
    three = consortium()
    descent, saved, seen = three.descent(), [], []
    run_all(descent, three, save=saved.append, on_progress=seen.append)
    assert descent.finished
    assert seen == [Progress(n, n) for n in (1, 2, 3, 4)]
    assert saved[-1] == descent.snapshot()
    assert len(set(saved)) == 4
    assert all(ledger.charged == [1, 2, 3, 4] for ledger in three.ledgers.values())
    with pytest.raises(ProtocolRefused):
        descent.begin()
    with pytest.raises(ProtocolRefused):
        three.coordinator(descent).begin()


def test_training_learns_with_and_without_privacy(consortium):
    for private in (True, False):
        three = consortium(private=private, steps=30, attempts=30)
        for sampler in three.samplers.values():
            sampler.tokens = np.tile(np.arange(1, 20), (20, 1))
        descent = three.descent()
        run_all(descent, three)
        assert three.loss(descent.weights) < 0.5 * three.loss(three.first)


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_run_that_is_killed_goes_on_exactly(consortium, run_digest, dies_at):
    three = consortium()
    expected = three.plain_weights()
    saved = []

    def die(progress):
        if progress.step == dies_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(three.descent(), three, save=saved.append, on_progress=die)
    three.ledgers["south"].charge(dies_at + 1)  # one site had charged the attempt under way
    highest = max(ledger.highest() for ledger in three.ledgers.values())
    again = Descent.restore(saved[-1], plan=three.plan, run=run_digest, charged=highest)
    run_all(again, three, save=saved.append)
    assert np.array_equal(again.weights, expected)
    assert again.progress == Progress(step=4, attempt=5)
    skipped = [n for n in range(1, 6) if n != dies_at + 1]
    assert three.ledgers["north"].charged == skipped
    assert three.ledgers["south"].charged == [1, 2, 3, 4, 5]


def test_attempts_that_are_voided_are_not_forgotten(consortium, run_digest):
    three = consortium()
    descent = three.descent()
    descent.begin()
    descent.void()
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        descent.take(np.zeros(three.plan.dimension, dtype=np.uint32))
    restored = Descent.restore(descent.snapshot(), plan=three.plan, run=run_digest, charged=0)
    for one in (descent, restored):
        assert one.begin().label.attempt == 2
        assert one.progress == Progress(step=0, attempt=2)


@pytest.mark.parametrize("private", [True, False])
def test_no_attempt_begins_when_the_steps_can_no_longer_be_finished(consortium, private):
    three = consortium(private=private)
    coordinator, training = three.coordinator(), three.plan.training
    for _ in range(training.attempts - training.steps + 1):
        three.carry(coordinator, coordinator.begin(), until="step")
        coordinator.void()
    with pytest.raises(BudgetRefused) as refused:
        coordinator.begin()
    assert refused.value.hint


def test_a_snapshot_is_whole_or_refused(consortium, run_digest):
    three = consortium()
    descent = three.descent()
    run_all(descent, three)
    snapshot = descent.snapshot()
    again = Descent.restore(snapshot, plan=three.plan, run=run_digest, charged=0)
    assert again.finished
    assert again.snapshot() == snapshot == Coordinator(again, three.terms).snapshot()
    flipped = bytearray(snapshot)
    flipped[-1] ^= 1
    for damaged in (b"", snapshot[:-1], snapshot + b"\0", bytes(flipped), b"x" + snapshot[1:]):
        with pytest.raises(WrongInput, match="damaged"):
            Descent.restore(damaged, plan=three.plan, run=run_digest, charged=0)
    with pytest.raises(WrongInput, match="another run"):
        Descent.restore(snapshot, plan=three.plan, run=three.plan.policy, charged=0)


def test_first_weights_must_fit_the_plan(consortium):
    three = consortium()
    with pytest.raises(WrongInput, match="float32 weights"):
        Descent(plan=three.plan, run=three.plan.policy, weights=three.first[:-1])
