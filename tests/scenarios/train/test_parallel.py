"""Sites of processes or machines of their own: all of a wave at once, and without those that are lost."""

import numpy as np
import pytest

from oathbound.core.errors import ConsentRefused, ProtocolRefused, Unavailable

pytest.importorskip("torch", reason="training is an extra")

from oathbound.train.engines import parallel

STEPS = 3


class Saved:
    """What an engine saves and tells."""

    def __init__(self, coordinator):
        self.coordinator = coordinator
        self.snapshots, self.told = [], []

    def run(self, nodes):
        parallel.run(
            self.coordinator,
            nodes,
            goes_on=lambda: self.coordinator.progress.step < STEPS,
            save=self.snapshots.append,
            on_progress=self.told.append,
        )


def test_sites_that_are_asked_at_once_make_the_model_that_plain_addition_makes(consortium):
    three = consortium(private=False, steps=STEPS, attempts=9)
    coordinator = three.coordinator()
    Saved(coordinator).run(three.nodes)
    assert np.array_equal(coordinator._descent.weights, three.plain_weights())


def test_three_sites_one_lost_void_charged_and_tried_again(consortium):
    three = consortium(private=False, steps=STEPS, attempts=9)
    south = three.nodes["south"]
    south.dies_at = "proposal"

    class Back:
        """A site that is there again after one message."""

        def receive(self, message):
            try:
                return south.receive(message)
            except Unavailable:
                south.back()
                raise

    saved = Saved(three.coordinator())
    saved.run({**three.nodes, "south": Back()})
    assert [(each.step, each.attempt) for each in saved.told] == [(1, 2), (2, 3), (3, 4)]
    assert {name: ledger.highest() for name, ledger in three.ledgers.items()} == dict.fromkeys(three.sites, 4)
    assert np.array_equal(saved.coordinator._descent.weights, three.plain_weights())


@pytest.mark.parametrize("kind", ["step", "proposal", "certificate"])
def test_four_sites_one_lost_the_step_is_taken(consortium, kind):
    four = consortium(sites=4, private=True, steps=STEPS, attempts=9)
    four.nodes["east"].dies_at = kind
    saved = Saved(four.coordinator())
    saved.run(four.nodes)
    assert [(each.step, each.attempt) for each in saved.told] == [(1, 1), (2, 2), (3, 3)]
    assert four.ledgers["east"].highest() == (0 if kind == "step" else 1)


def test_a_site_that_stays_away_ends_the_training_before_all_attempts_are_used_up(consortium):
    three = consortium(private=False, steps=STEPS, attempts=50)
    three.nodes["south"].dies_at = "step"
    saved = Saved(three.coordinator())
    with pytest.raises(Unavailable, match=r"3 attempts in a row were void: south: the site is gone"):
        saved.run(three.nodes)
    assert three.coordinator().progress.step == 0
    charged = {name: ledger.highest() for name, ledger in three.ledgers.items()}
    # from the second attempt on the lost site is noticed while keys are agreed, before anybody charges
    assert charged == {name: int(name != "south") for name in three.sites}
    assert not saved.snapshots


def test_an_answer_that_cannot_be_taken_is_no_answer(consortium):
    four = consortium(sites=4, private=True, steps=STEPS, attempts=9)
    east = four.nodes["east"]

    class Lying:
        def receive(self, message):
            answer = east.receive(message)
            return b"\0" * len(answer) if message.startswith(b"oathbound/step") else answer

    saved = Saved(four.coordinator())
    saved.run({**four.nodes, "east": Lying()})
    assert saved.told[-1].step == STEPS


@pytest.mark.parametrize("error", [ConsentRefused, ZeroDivisionError])
def test_what_another_attempt_cannot_mend_is_raised(consortium, error):
    three = consortium(private=False, steps=STEPS, attempts=9)

    class Refusing:
        def receive(self, message):
            if message.startswith(b"oathbound/step"):
                raise error("no")
            return three.nodes["south"].receive(message)

    saved = Saved(three.coordinator())
    with pytest.raises(error, match="no"):
        saved.run({**three.nodes, "south": Refusing()})
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        saved.coordinator.proceed()
