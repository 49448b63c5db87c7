import numpy as np
import pytest

from oathbound.core.errors import BudgetRefused, ProtocolRefused, WrongInput
from oathbound.hazmat.ring import decode
from oathbound.train.adam import Adam
from oathbound.train.coordinator import Coordinator, Progress
from oathbound.train.engines import local
from oathbound.train.messages import Share


def run_all(coordinator, nodes, *, save=lambda _: None, on_progress=lambda _: None):
    local.run(
        coordinator, nodes, goes_on=lambda: not coordinator.finished, save=save, on_progress=on_progress
    )


def shares(three, messages):
    return {site: three.nodes[site].receive(message) for site, message in messages.items()}


def test_a_step_is_adam_on_the_integer_sum_of_the_shares(consortium):
    three = consortium()
    coordinator = three.coordinator()
    sent = shares(three, coordinator.begin())
    answers = [coordinator.receive(site, share) for site, share in sent.items()]
    assert answers == [None, None, Progress(step=1, attempt=1)]
    total = sum(decode(Share.decode(share, three.plan.dimension).vector) for share in sent.values())
    gradient = (total / (16384 / 0.5 * 30)).astype(np.float32)
    expected = Adam.at(three.first).stepped(gradient, step=1, rate=three.plan.learning_rate(1))
    assert np.array_equal(coordinator.weights, expected.weights)
    assert not np.array_equal(coordinator.weights, three.first)


def test_shares_add_up_modulo_the_ring_in_any_order(consortium):
    three = consortium()
    coordinator, other = three.coordinator(), three.coordinator()
    sent = shares(three, coordinator.begin())
    other.begin()
    for site in sent:
        coordinator.receive(site, sent[site])
    for site in reversed(sent):
        other.receive(site, sent[site])
    assert np.array_equal(coordinator.weights, other.weights)


def test_a_run_ends_after_its_steps(consortium):
    three = consortium()
    coordinator, saved, seen = three.coordinator(), [], []
    run_all(coordinator, three.nodes, save=saved.append, on_progress=seen.append)
    assert coordinator.finished
    assert seen == [Progress(n, n) for n in (1, 2, 3, 4)]
    assert saved[-1] == coordinator.snapshot()
    assert len(set(saved)) == 4
    assert all(ledger.charged == [1, 2, 3, 4] for ledger in three.ledgers.values())
    with pytest.raises(ProtocolRefused):
        coordinator.begin()


def test_training_learns_with_and_without_privacy(consortium):
    for private in (True, False):
        three = consortium(private=private, steps=30, attempts=30)
        for sampler in three.samplers.values():
            sampler.tokens = np.tile(np.arange(1, 20), (20, 1))
        coordinator = three.coordinator()
        run_all(coordinator, three.nodes)
        assert three.loss(coordinator.weights) < 0.5 * three.loss(three.first)


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_run_that_is_killed_goes_on_exactly(consortium, run_digest, dies_at):
    whole, three = consortium(), consortium()
    expected = whole.coordinator()
    run_all(expected, whole.nodes)

    saved = []

    def die(progress):
        if progress.step == dies_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(three.coordinator(), three.nodes, save=saved.append, on_progress=die)
    three.ledgers["south"].charge(dies_at + 1)  # one site had charged the attempt under way
    highest = max(ledger.highest() for ledger in three.ledgers.values())
    again = Coordinator.restore(saved[-1], plan=three.plan, run=run_digest, charged=highest)
    run_all(again, three.nodes, save=saved.append)
    assert np.array_equal(again.weights, expected.weights)
    assert again.progress == Progress(step=4, attempt=5)
    skipped = [n for n in range(1, 6) if n != dies_at + 1]
    assert three.ledgers["north"].charged == skipped
    assert three.ledgers["south"].charged == [1, 2, 3, 4, 5]


def test_attempts_that_are_voided_are_not_forgotten(consortium, run_digest):
    three = consortium()
    coordinator = three.coordinator()
    late = shares(three, coordinator.begin())
    coordinator.receive("north", late["north"])
    coordinator.void()
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        coordinator.receive("south", late["south"])
    restored = Coordinator.restore(coordinator.snapshot(), plan=three.plan, run=run_digest, charged=0)
    for one in (coordinator, restored):
        one.begin()
        assert one.progress == Progress(step=0, attempt=2)
        with pytest.raises(ProtocolRefused, match="another"):
            one.receive("south", late["south"])


@pytest.mark.parametrize("private", [True, False])
def test_no_attempt_begins_when_the_steps_can_no_longer_be_finished(consortium, private):
    three = consortium(private=private)
    coordinator, training = three.coordinator(), three.plan.training
    for _ in range(training.attempts - training.steps + 1):
        coordinator.begin()
        coordinator.void()
    with pytest.raises(BudgetRefused) as refused:
        coordinator.begin()
    assert refused.value.hint


def test_duplicate_foreign_and_relabelled_shares_are_refused(consortium):
    three = consortium()
    coordinator = three.coordinator()
    sent = shares(three, coordinator.begin())
    dimension = three.plan.dimension
    with pytest.raises(ProtocolRefused, match="while one is open"):
        coordinator.begin()
    coordinator.receive("north", sent["north"])
    with pytest.raises(ProtocolRefused, match="second share"):
        coordinator.receive("north", sent["north"])
    with pytest.raises(ProtocolRefused, match="another site"):
        coordinator.receive("south", sent["north"])
    with pytest.raises(ProtocolRefused):
        coordinator.receive("south", sent["south"][:-1])
    good = Share.decode(sent["south"], dimension)
    for changes in ({"attempt": 2}, {"step": 2}, {"model": good.label.run}, {"site": "east"}):
        bad = Share(good.label.model_copy(update=changes), good.vector).encode()
        for site in ("south", "east"):
            with pytest.raises(ProtocolRefused, match="another"):
                coordinator.receive(site, bad)
    coordinator.receive("west", sent["west"])
    assert coordinator.progress.step == 0
    assert coordinator.receive("south", sent["south"]) == Progress(step=1, attempt=1)


def test_a_share_of_another_run_is_refused(consortium):
    three = consortium()
    coordinator = three.coordinator(run=three.plan.policy)
    coordinator.begin()
    foreign = shares(three, three.coordinator().begin())
    with pytest.raises(ProtocolRefused, match="another"):
        coordinator.receive("north", foreign["north"])


def test_a_snapshot_is_whole_or_refused(consortium, run_digest):
    three = consortium()
    coordinator = three.coordinator()
    run_all(coordinator, three.nodes)
    snapshot = coordinator.snapshot()
    again = Coordinator.restore(snapshot, plan=three.plan, run=run_digest, charged=0)
    assert again.finished
    assert again.snapshot() == snapshot
    flipped = bytearray(snapshot)
    flipped[-1] ^= 1
    for damaged in (b"", snapshot[:-1], snapshot + b"\0", bytes(flipped), b"x" + snapshot[1:]):
        with pytest.raises(WrongInput, match="damaged"):
            Coordinator.restore(damaged, plan=three.plan, run=run_digest, charged=0)
    with pytest.raises(WrongInput, match="another run"):
        Coordinator.restore(snapshot, plan=three.plan, run=three.plan.policy, charged=0)


def test_first_weights_must_fit_the_plan(consortium):
    three = consortium()
    with pytest.raises(WrongInput, match="float32 weights"):
        Coordinator(plan=three.plan, run=three.plan.policy, weights=three.first[:-1])
