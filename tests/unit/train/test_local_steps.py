"""FedAvg, FedProx and FedAdam, each against the same written in floats, without our code."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.core.shape import LogisticRegression
from oathbound.core.training_plan import Training
from oathbound.hazmat.ring import decode, encode
from oathbound.models.model import load_flat
from oathbound.models.tabular import build
from oathbound.train.adam import Adam
from oathbound.train.descent import Descent
from oathbound.train.local_steps import MOST_LOSS, Change, local_change, mean_change, to_ring
from oathbound.train.plan import Plan
from oathbound.train.trainer import Trainer
from oathbound.workflow.sibling import Uncharged

torch.set_num_threads(1)

WIDTH = 5
RUN = digest(b"run")
SIZES = {"north": 30, "south": 80, "west": 10}
MEMBERS = sum(SIZES.values())


class Drawn:
    """Members of whom each draw takes those that a test fixed beforehand; all, if it fixed none."""

    def __init__(self, rows, draws=()):
        self.rows, self.draws = rows, iter(draws)
        self.size = len(rows)

    def sample(self, rate):
        assert rate == Decimal("0.5")
        return self.rows[next(self.draws, slice(None))]


def records(site):
    draw = np.random.default_rng(len(site))
    features = draw.normal(len(site) - 5, 1, size=(SIZES[site], WIDTH)).astype(np.float32)
    label = (features.sum(axis=1) > 0).astype(np.float32)
    return np.column_stack([features, label])


def training(local=None, **changes):
    plain = {
        "members": MEMBERS,
        "sampling_rate": "0.5",
        "steps": 4,
        "attempts": 5,
        "round_steps": 4,
        "learning_rate": "1",
        "warmup": 0,
        "ring_norm": 256,
        "clip": "8",
        "local": {"algorithm": "fedavg", "steps": 3, "learning_rate": "0.3", **(local or {})},
    }
    return Training.parse({**plain, **changes}, what="training")


def plan(agreed, sites=tuple(SIZES)):
    return Plan(digest(b"policy"), sites, agreed, WIDTH + 1, privacy=None)


def model():
    return build(LogisticRegression(name="logistic-regression"), WIDTH)


def start():
    return np.linspace(-0.5, 0.5, WIDTH + 1).astype(np.float32)


def by_hand(rows, weights, draws, *, steps=3, rate=0.3, proximal=0.0):
    """Return the weights after local steps, and the losses on the way, in float64."""
    first = weights.astype(np.float64)
    own, inputs, label = first.copy(), np.column_stack([rows[:, :-1], np.ones(len(rows))]), rows[:, -1]
    losses = []
    for some in [*draws, *[slice(None)] * steps][:steps]:
        odds = inputs[some] @ own
        losses.append((np.logaddexp(0, odds) - odds * label[some]).sum() / (len(rows) / 2))
        gradient = inputs[some].T @ (1 / (1 + np.exp(-odds)) - label[some]) / (len(rows) / 2)
        own -= rate * (gradient + proximal * (own - first))
    return own - first, np.mean(losses)


def shares(agreed, weights, draws=None, sites=tuple(SIZES)):
    """Return each site's share of the sum at these weights, and the descent that the sum is for."""
    the_plan = plan(agreed, sites)
    descent = Descent(plan=the_plan, run=RUN, weights=weights)
    step = descent.begin()
    each = []
    for site in sites:
        trainer = Trainer(
            site=site,
            run=RUN,
            plan=the_plan,
            last_step=4,
            model=model(),
            sampler=Drawn(records(site), (draws or {}).get(site, ())),
            ledger=Uncharged(),
            noise=None,
        )
        each.append(trainer.share(trainer.check(step)))
    return descent, each


DRAWS = {
    site: [np.flatnonzero(np.random.default_rng(seed).random(size) < 0.5) for seed in (1, 2, 3)]
    for site, size in SIZES.items()
}


@pytest.mark.parametrize(
    ("local", "proximal"),
    [({}, 0.0), ({"algorithm": "fedprox", "proximal": "0.7"}, 0.7), ({"algorithm": "fedadam"}, 0.0)],
)
def test_the_sum_is_the_members_mean_of_the_changes_and_of_the_losses(local, proximal):
    descent, each = shares(training(local), start(), DRAWS)
    hands = [by_hand(records(site), start(), DRAWS[site], proximal=proximal) for site in SIZES]
    weights = np.array(list(SIZES.values())) / MEMBERS
    total = sum(each).view(np.uint32)
    mean = mean_change(decode(total), descent._plan)
    expected = sum(weight * change for weight, (change, _) in zip(weights, hands, strict=True))
    assert np.abs(mean.weights - expected).max() < 2e-6  # of float32 gradients; the ring rounds to 1e-8
    assert mean.loss == pytest.approx(
        sum(w * loss for w, (_, loss) in zip(weights, hands, strict=True)), rel=1e-5
    )
    progress = descent.take(total)
    assert progress.loss == mean.loss
    if local.get("algorithm") == "fedadam":
        opposite = Adam.at(start()).stepped(-mean.weights.astype(np.float32), step=1, rate=1.0)
        assert np.array_equal(descent.weights, opposite.weights)
        # the first step of Adam is of the learning rate, toward where the sites went
        assert np.allclose(descent.weights - start(), np.sign(expected), atol=1e-3)
    else:
        assert np.allclose(descent.weights, start() + expected, atol=2e-6)
    heavier = sum(hands[place][0] for place in range(3)) / 3
    assert np.abs(mean.weights - heavier).max() > 1e-3, "an unweighted mean would be noticed"


def test_a_proximal_term_would_be_noticed():
    free, _ = by_hand(records("south"), start(), DRAWS["south"])
    held, _ = by_hand(records("south"), start(), DRAWS["south"], proximal=0.7)
    assert np.abs(free - held).max() > 1e-3


def test_a_strong_proximal_term_keeps_near_the_start():
    agreed = training({"algorithm": "fedprox", "steps": 50, "learning_rate": "0.001", "proximal": "1000"})
    sampler = Drawn(records("south"))
    held = local_change(model(), start(), sampler, agreed, agreed.local)
    free = local_change(
        model(), start(), sampler, training(), training({"steps": 50, "learning_rate": "0.001"}).local
    )
    # with proximal times rate at 1, each step begins at the start again
    once = local_change(
        model(), start(), sampler, training(), training({"steps": 1, "learning_rate": "0.001"}).local
    )
    assert np.allclose(held.weights, once.weights, atol=1e-5)
    assert np.abs(free.weights).max() > 20 * np.abs(held.weights).max()


def test_one_step_at_one_site_is_a_step_of_gradient_descent():
    agreed = training({"steps": 1}, members=SIZES["south"])
    descent, [share] = shares(agreed, start(), sites=("south",))
    descent.take(share)
    own = model()
    load_flat(own, start())
    rows = torch.from_numpy(records("south"))
    (own.losses(rows).sum() / (SIZES["south"] / 2)).backward()
    slope = torch.cat([parameter.grad.flatten() for parameter in own.parameters()]).numpy()
    assert np.allclose(descent.weights, start() - 0.3 * slope, atol=1e-7)


def test_one_step_at_each_site_is_a_step_of_all_members_together():
    descent, each = shares(training({"steps": 1}), start())
    descent.take(sum(each).view(np.uint32))
    together, _ = by_hand(np.concatenate([records(site) for site in SIZES]), start(), [], steps=1)
    assert np.allclose(descent.weights, start() + together, atol=1e-6)


def test_nobody_drawn_changes_nothing_but_by_the_proximal_term():
    nobody = [np.zeros(0, dtype=int)] * 3
    agreed = training({"algorithm": "fedprox", "proximal": "1"})
    still = local_change(model(), start(), Drawn(records("west"), nobody), agreed, agreed.local)
    assert not still.weights.any()
    assert still.loss == 0
    moved = local_change(
        model(), start(), Drawn(records("west"), [slice(None), *nobody[:2]]), agreed, agreed.local
    )
    first, _ = by_hand(records("west"), start(), [], steps=1)
    assert np.allclose(moved.weights, first * 0.7**2, atol=1e-6)


def test_a_site_without_members_has_no_say():
    the_plan = plan(training(), ("north",))
    empty = local_change(model(), start(), Drawn(records("north")[:0]), training(), training().local)
    assert not to_ring(empty, 0, the_plan).any()


@pytest.mark.parametrize(
    "rows",
    [
        np.full((10, WIDTH + 1), 1e4, dtype=np.float32),
        np.full((10, WIDTH + 1), np.inf, dtype=np.float32),
        np.full((10, WIDTH + 1), 3e38, dtype=np.float32),
    ],
)
def test_a_site_that_diverged_says_so_in_the_sum_alone(rows):
    rows[:, -1] = 1
    change = local_change(model(), start(), Drawn(rows), training(), training().local)
    assert change.diverged
    assert not change.weights.any()
    fine = Change(np.ones(WIDTH + 1), 1.0)
    the_plan = plan(training())
    shares = [encode(to_ring(each, MEMBERS // 3, the_plan)) for each in (fine, change, fine)]
    with pytest.raises(WrongInput, match="the training diverged") as refused:
        mean_change(decode(sum(shares).view(np.uint32)), the_plan)
    assert "learning_rate" in refused.value.hint


def test_a_change_within_clip_is_not_refused_and_one_above_is():
    sampler = Drawn(records("south"))
    change = local_change(model(), start(), sampler, training(), training().local)
    largest = Decimal(str(np.abs(change.weights).max()))
    for clip in (largest * 2, largest / 2):
        agreed = training(clip=str(round(clip, 9)))
        assert local_change(model(), start(), sampler, agreed, agreed.local).diverged is (clip < largest)


def test_a_loss_that_is_too_large_to_send_is_not_sent():
    rows = np.full((10, WIDTH + 1), 1e4, dtype=np.float32)
    rows[:, -1] = 1  # and all its weights say 0: 5,000 nats
    assert local_change(model(), start(), Drawn(rows), training(clip="1000000"), training().local).diverged


def test_the_greatest_shares_of_all_sites_do_not_wrap_around():
    the_plan = plan(training())
    greatest = Change(np.array([8.0, -8.0] * 3), MOST_LOSS)
    each = to_ring(greatest, MEMBERS + 3, the_plan)
    total = decode(sum(encode(each) for _ in SIZES).view(np.uint32))
    assert np.array_equal(total, 3 * each)
    mean = mean_change(total, the_plan)
    assert np.array_equal(mean.weights, greatest.weights)
    assert mean.loss == MOST_LOSS


@pytest.mark.parametrize(
    "spoilt", [np.zeros(9), [0] * 6 + [-9, 0, 0], [10, 0, 0, 0, 0, 0, 6, 0, 0], [0] * 6 + [6, -10, 0]]
)
def test_a_sum_that_honest_sites_cannot_make_is_refused(spoilt):
    descent = Descent(plan=plan(training()), run=RUN, weights=start())
    descent.begin()
    with pytest.raises(ProtocolRefused, match="not of shares of local steps"):
        descent.take(encode(np.array(spoilt, dtype=np.int64)))
    assert descent.progress.step == 0
    assert np.array_equal(descent.weights, start())


def test_the_vector_has_three_words_more():
    assert plan(training()).words == WIDTH + 4
    assert plan(replace_local(training())).words == WIDTH + 1


def replace_local(agreed):
    return agreed.model_copy(update={"local": None})


@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam"])
def test_it_goes_on_from_a_snapshot(algorithm):
    descent, each = shares(training({"algorithm": algorithm}), start())
    descent.take(sum(each).view(np.uint32))
    again = Descent.restore(descent.snapshot(), plan=descent._plan, run=RUN, charged=1)
    assert again.progress.loss is None, "what a sum opened is not kept"
    for one in (descent, again):
        assert one.begin().label.attempt == 2
        one.take(sum(each).view(np.uint32))
    assert np.array_equal(descent.weights, again.weights)
    assert descent.snapshot() == again.snapshot()
    assert not np.array_equal(descent.weights, start())


def test_a_trainer_charges_before_local_steps():
    the_plan = replace(plan(training()), sites=("north",))
    ledger = Uncharged()

    class Fails(Drawn):
        def sample(self, _rate):
            assert ledger.highest() == 1
            raise InterruptedError

    trainer = Trainer(
        site="north",
        run=RUN,
        plan=the_plan,
        last_step=4,
        model=model(),
        sampler=Fails(records("north")),
        ledger=ledger,
        noise=None,
    )
    step = Descent(plan=the_plan, run=RUN, weights=start()).begin()
    with pytest.raises(InterruptedError):
        trainer.share(trainer.check(step))
