"""Sites whose members take turns (DP-FTRL): without noise it is descent on groups; a lost step ends it."""

import numpy as np
import pytest

from oathbound.core.errors import BudgetRefused, ProtocolRefused, Unavailable, WrongInput
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.models.model import load_flat
from oathbound.train.adam import Adam
from oathbound.train.clip import clipped_sum
from oathbound.train.descent import Descent, Progress
from oathbound.train.engines import local, parallel
from oathbound.train.ftrl import Turns
from oathbound.train.messages import Step

BANDS = {"bands": 4, "sampling_rate": "0.25", "steps": 10, "attempts": 10}


def run_all(descent, consortium, *, engine=local.run, save=lambda _: None, on_progress=lambda _: None):
    engine(
        consortium.coordinator(descent),
        consortium.nodes,
        goes_on=lambda: not descent.finished,
        save=save,
        on_progress=on_progress,
    )


def asked(consortium, step, attempt=None):
    began = consortium.descent().begin()
    label = began.label.model_copy(update={"step": step, "attempt": attempt or step})
    return Step(began.label.model_copy(update=dict(label)), began.weights)


def share(trainer, step):
    return trainer.share(trainer.check(step))


def group_descent(some):
    """Return the weights after all steps of Adam on the integer sums of the groups: DP-SGD by turns."""
    plan, adam = some.plan, Adam.at(some.first)
    model, training = build_model(some), some.plan.training
    for step in range(1, training.steps + 1):
        load_flat(model, adam.weights)
        total = np.zeros(plan.dimension, dtype=np.int64)
        for sampler in some.samplers.values():
            group = sampler.tokens[step % 4 :: 4]
            total += clipped_sum(model, group, clip=float(training.clip), ring_norm=training.ring_norm)
        gradient = (total / (plan.scale * plan.divisor)).astype(np.float32)
        adam = adam.stepped(gradient, step=step, rate=plan.learning_rate(step))
    return adam.weights


def build_model(some):
    return some.trainers["north"].model


@pytest.mark.parametrize("engine", [local.run, parallel.run])
def test_without_noise_it_is_descent_on_the_sums_of_the_groups_exactly(consortium, engine):
    three = consortium(**BANDS)
    descent = three.descent()
    run_all(descent, three, engine=engine)
    assert np.array_equal(descent.weights, group_descent(three))
    assert not np.array_equal(descent.weights, three.first)
    assert descent.progress == Progress(10, 10)
    assert all(ledger.charged == list(range(1, 11)) for ledger in three.ledgers.values())


@pytest.mark.parametrize("dies_at", [1, 3, 7])
def test_a_run_that_is_killed_between_steps_goes_on_exactly(consortium, run_digest, dies_at):
    three = consortium(**BANDS)
    expected, saved = group_descent(three), []

    def die(progress):
        if progress.step == dies_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(three.descent(), three, save=saved.append, on_progress=die)
    for site in three.sites:
        three.restart(site)  # with its ledger and its last sums, and nothing else
    again = Descent.restore(saved[-1], plan=three.plan, run=run_digest, charged=dies_at)
    run_all(again, three)
    assert np.array_equal(again.weights, expected)


def test_a_coordinator_that_is_killed_before_anybody_got_the_step_goes_on_exactly(consortium, run_digest):
    three = consortium(**BANDS)
    expected = group_descent(three)
    coordinator = three.coordinator()
    for _ in range(3):
        three.carry(coordinator, coordinator.begin())
    saved = coordinator.snapshot()
    assert three.carry(coordinator, coordinator.begin(), until="step")  # nobody gets these
    for site in three.sites:
        three.restart(site)
    again = Descent.restore(saved, plan=three.plan, run=run_digest, charged=3)
    run_all(again, three)
    assert np.array_equal(again.weights, expected)
    assert again.progress == Progress(10, 10)


def test_a_snapshot_without_the_last_sums_is_refused(consortium, run_digest):
    three = consortium(**BANDS)
    saved = []
    run_all(three.descent(), three, save=saved.append)
    for wrong in (saved[3][: -8 * three.plan.dimension], saved[3][:-1] + b"\1", saved[3] + b"\0"):
        with pytest.raises(WrongInput, match="snapshot is damaged"):
            Descent.restore(wrong, plan=three.plan, run=run_digest, charged=4)


@pytest.mark.parametrize("dies_at", ["step", "step!", "proposal"])
def test_a_site_that_is_lost_in_a_step_voids_the_run_which_stays_charged(consortium, dies_at):
    three = consortium(**BANDS)
    descent = three.descent()
    coordinator = three.coordinator(descent)
    for _ in range(3):
        three.carry(coordinator, coordinator.begin())
    three.nodes["south"].dies_at = dies_at
    with pytest.raises(ProtocolRefused):
        three.carry(coordinator, coordinator.begin())
    three.nodes["south"].back()
    with pytest.raises(BudgetRefused, match="with bands none is tried again: this training is void"):
        coordinator.begin()
    assert three.ledgers["north"].charged == [1, 2, 3, 4]
    assert three.ledgers["south"].charged == ([1, 2, 3] if dies_at == "step" else [1, 2, 3, 4])
    # a coordinator that forgets what it began does not get the step a second time
    for attempt in (4, 5):
        with pytest.raises((ProtocolRefused, BudgetRefused)):
            three.trainers["north"].check(asked(three, 4, attempt))
    if dies_at == "step":  # and one that leaves it out gets no sum of all sites any more
        with pytest.raises(ProtocolRefused, match="must follow the last one"):
            three.trainers["south"].check(asked(three, 5))


def test_an_engine_ends_a_void_run_with_its_reason(consortium):
    three = consortium(**BANDS)
    three.nodes["south"].dies_at = "step!"
    with pytest.raises(BudgetRefused, match="this training is void"):
        run_all(three.descent(), three, engine=parallel.run)
    assert all(ledger.charged == [1] for ledger in three.ledgers.values())


def test_a_site_that_is_lost_before_the_step_is_sent_costs_nothing(consortium):
    three = consortium(**BANDS)
    descent = three.descent()
    coordinator = three.coordinator(descent)
    three.carry(coordinator, coordinator.begin())
    coordinator.void()
    three.nodes["south"].dies_at = "roster"
    with pytest.raises(ProtocolRefused):
        three.carry(coordinator, coordinator.begin())
    three.restart("south")
    run_all(descent, three)
    assert np.array_equal(descent.weights, group_descent(three))


def test_a_step_twice_or_left_out_is_refused_and_not_charged(consortium):
    three = consortium(**BANDS)
    north = three.trainers["north"]
    with pytest.raises(ProtocolRefused, match="must follow the last one"):
        north.check(asked(three, 2))
    for step in (1, 2):
        share(north, asked(three, step))
    for step in (1, 2):
        with pytest.raises(ProtocolRefused, match="charged before"):
            north.check(asked(three, step))
    for step in (4, 5, 6):
        with pytest.raises(ProtocolRefused, match="must follow the last one"):
            north.check(asked(three, step))
    assert three.ledgers["north"].charged == [1, 2]


def test_a_site_that_lost_its_sums_refuses_and_is_not_charged(consortium):
    three = consortium(**BANDS)
    for step in (1, 2):
        share(three.trainers["north"], asked(three, step))
    three.pasts["north"].kept.clear()
    with pytest.raises(ProtocolRefused, match="whose sum is not here"):
        three.trainers["north"].check(asked(three, 3))
    assert three.ledgers["north"].charged == [1, 2]


class Full:
    def steps(self):
        return ()

    def sums(self):
        return {}

    def keep(self, step, total, *, most):
        raise Unavailable(f"disk full at {step}, of {len(total)} bytes and {most}")


def test_what_cannot_be_kept_is_not_sent(consortium):
    three = consortium(**BANDS)
    turns = three.sampler("north")
    trainer = three.trainer("north", sampler=Turns(turns.groups, Full(), turns.coefficients))
    with pytest.raises(Unavailable, match="disk full"):
        share(trainer, asked(three, 1))
    assert three.ledgers["north"].charged == [1]


def test_one_patient_moves_the_sums_of_a_block_by_at_most_the_norm_that_is_accounted(consortium):
    whole, less = consortium(**BANDS), consortium(**BANDS)
    tokens = less.samplers["north"].tokens.copy()
    tokens[1] = 0  # a row without a token adds nothing: as if the patient were not there
    less.samplers["north"].tokens = tokens
    shares = [
        [
            share(some.trainer("north"), asked(some, step)).view(np.int32).astype(np.int64)
            for step in range(1, 5)
        ]
        for some in (whole, less)
    ]
    apart = [int(((one - other) ** 2).sum()) for one, other in zip(*shares, strict=True)]
    bound = 16384**2 * sum(c * c for c in whole.plan.coefficients)
    assert 0.95 * bound < sum(apart) <= bound
    assert [round(each / apart[0], 3) for each in apart] == [1, 0.25, 0.141, 0.141]


def test_turns_are_for_plans_with_bands_and_of_their_coefficients(consortium):
    bands, coins = consortium(**BANDS), consortium()
    turns = bands.sampler("north")
    wrong = Turns(turns.groups, turns.past, (8, 4, 3))
    for some, sampler in ((bands, coins.sampler("north")), (coins, turns), (bands, wrong)):
        with pytest.raises(WrongInput, match="turns must be those of the plan"):
            some.trainer("north", sampler=sampler)


def test_noise_is_fresh_in_every_step(consortium):
    three = consortium(noise=lambda: DiscreteGaussian(consortium().plan.privacy.share_sigma), **BANDS)
    quiet = consortium(**BANDS)
    drawn = [
        (
            share(three.trainers["north"], asked(three, step))
            - share(quiet.trainers["north"], asked(quiet, step))
        )
        .view(np.int32)
        .astype(np.float64)
        for step in (1, 2)
    ]
    for each in drawn:
        assert 0.9 < each.std() / 9000 < 1.1
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.1
