"""What a step's waves carry, and what becomes of an attempt in which somebody is lost, restarts, or lies."""

from decimal import Decimal

import numpy as np
import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, Unavailable
from oathbound.train.descent import Descent, Progress
from oathbound.train.messages import Step
from oathbound.train.node import Node
from oathbound.train.secure_sum.messages import MASKED

AGREEMENT = ["invitation", "roster", "ciphertexts"]
DEALING = ["deal", "boxes"]
SUM = ["step", "proposal", "certificate"]
SHORT = {"steps": 2, "attempts": 4}


def test_keys_and_seeds_are_agreed_on_once(consortium):
    three = consortium(**SHORT)
    three.run(three.coordinator())
    assert all(node.heard == AGREEMENT + DEALING + 2 * SUM for node in three.nodes.values())


def test_an_attempt_of_the_next_256_has_seeds_of_its_own(consortium):
    three = consortium(steps=2, attempts=300)
    first = three.descent().snapshot()
    descent = Descent.restore(first, plan=three.plan, run=three.terms.run, charged=255)
    three.run(three.coordinator(descent))
    assert three.ledgers["north"].charged == [256, 257]
    assert three.nodes["north"].heard == AGREEMENT + DEALING + SUM + DEALING + SUM
    assert np.array_equal(descent.weights, three.plain_weights())


def test_what_leaves_a_site_is_masked(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator()
    messages = three.carry(coordinator, coordinator.begin(), until="step")
    step, _ = Step.decode(messages["north"], three.plan.dimension)
    for site, answer in three.answers(messages).items():
        _, payload = MASKED.read(answer)
        alone = three.trainer(site, ledger=type(three.ledgers[site])())
        mask = np.frombuffer(payload, dtype="<u4") - alone.share(alone.check(step))
        # A mask is of words of all sizes; by chance a share is beyond these once in a thousand million runs.
        assert 0.2 < (mask < 2**30).mean() < 0.3


@pytest.mark.parametrize(
    ("kind", "summed"),
    [
        ("invitation", 3),
        ("roster", 3),
        ("ciphertexts", 3),
        ("deal", 3),
        ("boxes", 3),
        ("step", 3),
        ("step!", 3),
        ("proposal", 4),  # its vector had come
        ("certificate", 4),
    ],
)
def test_one_of_four_sites_may_be_lost_in_any_wave(consortium, kind, summed):
    four = consortium(sites=4, **SHORT)
    four.nodes["east"].dies_at = kind
    coordinator = four.coordinator(descent := four.descent())
    four.carry(coordinator, coordinator.begin())
    assert coordinator.progress == Progress(step=1, attempt=1)
    assert coordinator.present == summed
    assert np.array_equal(descent.weights, four.plain_weights(steps=1, sites=four.sites[:summed]))
    assert four.ledgers["north"].charged == [1]
    assert four.ledgers["east"].charged == [1] * (kind in {"step!", "proposal", "certificate"})
    four.run(coordinator)
    assert four.ledgers["north"].charged == [1, 2]
    assert len(four.ledgers["east"].charged) <= 1


def test_an_agreement_under_way_begins_again_without_who_is_lost(consortium):
    four = consortium(sites=4, **SHORT)
    four.nodes["east"].dies_at = "roster"
    four.run(four.coordinator())
    assert four.nodes["north"].heard == ["invitation", "roster", *AGREEMENT, *DEALING, *2 * SUM]


@pytest.mark.parametrize("kind", [*AGREEMENT[1:], *DEALING])
def test_who_spoils_the_agreement_of_keys_uses_up_no_attempt(consortium, kind):
    three = consortium(**SHORT)
    coordinator = three.coordinator(descent := three.descent())
    for _ in range(2 * SHORT["attempts"]):
        three.restart("south")
        three.nodes["south"].dies_at = kind
        with pytest.raises(ProtocolRefused):
            three.carry(coordinator, coordinator.begin())
    three.restart("south")
    three.run(coordinator)
    assert np.array_equal(descent.weights, three.plain_weights())
    assert all(ledger.charged == [1, 2] for ledger in three.ledgers.values())


def test_a_site_that_missed_a_sum_is_in_the_next(consortium):
    four = consortium(sites=4, **SHORT)
    four.nodes["east"].dies_at = "step"
    coordinator = four.coordinator(descent := four.descent())
    four.carry(coordinator, coordinator.begin())
    four.nodes["east"].back()
    four.carry(coordinator, coordinator.begin())
    assert four.nodes["east"].heard[-3:] == SUM
    assert four.ledgers["east"].charged == [2]
    assert descent.summed == {"north": 2, "south": 2, "west": 2, "east": 1}
    again = Descent.restore(descent.snapshot(), plan=four.plan, run=four.terms.run, charged=2)
    assert again.summed == descent.summed

    plain, alone = four.descent(), [four.trainer(s, ledger=type(four.ledgers[s])()) for s in four.sites]
    for sites in (alone[:3], alone):
        step = plain.begin()
        plain.take(np.sum([trainer.share(trainer.check(step)) for trainer in sites], axis=0, dtype=np.uint32))
    assert np.array_equal(descent.weights, plain.weights)


@pytest.mark.parametrize("kind", [*AGREEMENT, *DEALING, *SUM, "step!", "proposal!", "certificate!"])
def test_one_of_three_sites_that_is_lost_ends_the_attempt(consortium, kind):
    """It stays charged where it was, and the step is tried again, with new keys, once the site is back.

    Lost before the step is sent, it costs nobody an attempt.
    """
    three = consortium(**SHORT)
    three.nodes["south"].dies_at = kind
    coordinator = three.coordinator(descent := three.descent())
    with pytest.raises(ProtocolRefused):
        three.carry(coordinator, coordinator.begin())
    opened = int(kind.rstrip("!") in SUM)
    assert coordinator.progress == Progress(step=0, attempt=opened)
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        coordinator.proceed()
    three.restart("south")
    three.run(coordinator)
    assert three.nodes["south"].heard == AGREEMENT + DEALING + 2 * SUM
    assert np.array_equal(descent.weights, three.plain_weights())
    later = [opened + 1, opened + 2]
    assert three.ledgers["north"].charged == [1] * opened + later
    assert three.ledgers["south"].charged == [1] * (opened and kind != "step") + later


def test_a_site_that_restarts_between_steps_costs_the_others_an_attempt(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator(descent := three.descent())
    three.carry(coordinator, coordinator.begin())
    three.restart("south")
    messages = coordinator.begin()
    with pytest.raises(ProtocolRefused, match="does not come next"):
        three.nodes["south"].receive(messages["south"])
    coordinator.void()
    three.run(coordinator)
    assert np.array_equal(descent.weights, three.plain_weights())
    assert all(ledger.charged == [1, 3] for ledger in three.ledgers.values())


def test_a_coordinator_that_restarts_invites_everybody_again(consortium, run_digest):
    three = consortium(**SHORT)
    coordinator = three.coordinator(descent := three.descent())
    three.carry(coordinator, coordinator.begin())
    saved = coordinator.snapshot()
    messages = coordinator.begin()
    late = three.nodes["north"].receive(messages["north"])
    again = Descent.restore(saved, plan=three.plan, run=run_digest, charged=2)
    coordinator = three.coordinator(again)
    messages = three.carry(coordinator, coordinator.begin(), until="step")
    with pytest.raises(ProtocolRefused):
        coordinator.receive("north", late)
    three.carry(coordinator, messages)
    three.run(coordinator)
    assert np.array_equal(again.weights, three.plain_weights())
    assert three.ledgers["north"].charged == [1, 2, 3]
    assert three.ledgers["south"].charged == [1, 3]
    assert descent.progress.step == 1


def test_a_replayed_step_is_refused_and_not_charged_again(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator()
    message = three.carry(coordinator, coordinator.begin(), until="step")["north"]
    three.nodes["north"].receive(message)
    for site in ("north", "restarted"):
        if site == "restarted":
            three.restart("north")
        with pytest.raises(ProtocolRefused, match="charged before"):
            three.nodes["north"].receive(message)
    assert three.ledgers["north"].charged == [1]
    assert len(three.samplers["north"].rates) == 1


def test_a_step_that_cannot_be_summed_is_not_charged(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator()
    message = three.carry(coordinator, coordinator.begin(), until="step")["north"]
    step, announcement = Step.decode(message, three.plan.dimension)
    other = Step(step.label.model_copy(update={"attempt": 2}), step.weights)
    for wrong in (
        step.encode(b""),
        step.encode(announcement[:-1]),
        other.encode(announcement),
    ):
        with pytest.raises(ProtocolRefused):
            three.nodes["north"].receive(wrong)
    assert not three.ledgers["north"].charged
    assert not three.samplers["north"].rates
    three.nodes["north"].receive(message)
    assert three.ledgers["north"].charged == [1]


def test_a_step_that_a_site_must_not_compute_does_not_use_the_attempt_up(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator()
    message = three.carry(coordinator, coordinator.begin(), until="step")["north"]
    node = three.nodes["north"].node
    with pytest.raises(ProtocolRefused, match="after the round"):
        Node(three.trainer("north", last_step=0), node.client).receive(message)
    node.receive(message)
    assert three.ledgers["north"].charged == [1]


def test_an_interruption_of_the_coordinator_is_no_step(consortium):
    three = consortium(**SHORT)
    descent = three.descent()
    take = descent.take

    def interrupted(_total, _sites):
        raise KeyboardInterrupt

    descent.take = interrupted
    coordinator = three.coordinator(descent)
    with pytest.raises(KeyboardInterrupt):
        three.carry(coordinator, coordinator.begin())
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        coordinator.proceed()
    descent.take = take
    coordinator.void()
    three.run(coordinator)
    assert three.ledgers["north"].charged == [1, 2, 3]
    assert np.array_equal(descent.weights, three.plain_weights())


class Full:
    def highest(self):
        return 0

    def charge(self, attempt):
        raise Unavailable(f"disk full at {attempt}")


class Broken:
    sigma = Decimal(9000)

    def sample(self, n):
        raise Unavailable(f"no entropy for {n}")


@pytest.mark.parametrize("broken", [{"ledger": Full()}, {"noise": Broken()}])
def test_after_a_failure_nothing_leaves_and_the_attempt_is_not_taken_up_again(consortium, broken):
    three = consortium(**SHORT)
    three.nodes["north"].node = three.node("north", **broken)
    coordinator = three.coordinator()
    message = three.carry(coordinator, coordinator.begin(), until="step")["north"]
    with pytest.raises(Unavailable, match=r"disk full|no entropy"):
        three.nodes["north"].receive(message)
    assert three.ledgers["north"].charged == ([] if "ledger" in broken else [1])
    with pytest.raises(ProtocolRefused):
        three.nodes["north"].receive(message)


def test_answers_of_others_twice_or_relabelled_are_refused_and_change_nothing(consortium):
    three = consortium(**SHORT)
    coordinator = three.coordinator(descent := three.descent())
    messages = coordinator.begin()
    with pytest.raises(ProtocolRefused, match="an attempt is open"):
        coordinator.begin()
    while messages:
        answers = three.answers(messages)
        for site, other in (("north", "south"), ("south", "west"), ("west", "north")):
            if answers[other]:
                with pytest.raises(ProtocolRefused):
                    coordinator.receive(site, answers[other])
            with pytest.raises(ProtocolRefused):
                coordinator.receive(site, answers[site] + b"\0")
        for site in reversed(answers):
            coordinator.receive(site, answers[site])
        for site in (*answers, "east", "nobody"):
            with pytest.raises(ProtocolRefused, match="not asked, or has answered"):
                coordinator.receive(site, answers["north"])
        messages = coordinator.proceed()
    assert np.array_equal(descent.weights, three.plain_weights(steps=1))
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        coordinator.receive("north", b"")
    with pytest.raises(ProtocolRefused, match="no attempt is open"):
        coordinator.proceed()


def test_a_node_answers_no_message_that_is_not_for_sites(consortium):
    three = consortium(**SHORT)
    node = three.nodes["north"].node
    for message in (b"", b"\n", b"oathbound/step/v2\n", MASKED.magic, digest(b"").encode()):
        with pytest.raises(ProtocolRefused):
            node.receive(message)
