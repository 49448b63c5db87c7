"""A study whose members took turns: `verify` recomputes its epsilon, and refuses another mechanism."""

from decimal import Decimal
from typing import Any

import pytest

from oathbound.core import accounting
from oathbound.core.bands import coefficients
from oathbound.core.errors import NotAcceptable
from oathbound.core.event import SampledGaussian, Unbounded
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

TRAINING = {
    "members": 1000,
    "sampling_rate": "0.1",
    "bands": 10,
    "steps": 20,
    "attempts": 20,
    "round_steps": 10,
    "learning_rate": "0.01",
    "warmup": 0,
    "ring_norm": 1024,
    "clip": "1",
}
BUDGET = {
    "epsilon": "4",
    "delta": "0.000001",
    "unit": "patient",
    "neighbours": "add-remove",
    "noise_multiplier": "3",
    "sites_per_patient": 1,
}


def consortium(**changes: Any) -> Consortium:
    return Consortium.of(training=TRAINING, budget=BUDGET | changes).swear().admit().start()


def verified(some: Consortium) -> Any:
    return verify(some.bundle(), some.trust(), at=NOW + 3600)


def trained(some: Consortium, event: Any) -> Consortium:
    return some.train(event=event).make().audit().decide()


@pytest.mark.parametrize("sites", [1, 2])
def test_epsilon_is_that_of_so_many_turns(sites: int) -> None:
    some = consortium(sites_per_patient=sites, epsilon="12")
    event = some.event()
    spent = verified(trained(some, event)).epsilon
    assert spent == accounting.epsilon(event, Decimal("0.000001"))
    # two turns of noise multiplier 3, over the number of a person's sites
    one_step = event.model_copy(update={"attempts": 1})
    assert spent > accounting.epsilon(one_step, Decimal("0.000001"))
    assert spent < Decimal(4) * sites**2


@pytest.mark.parametrize(
    "changes",
    [
        {"coefficients": (7, *coefficients(10)[1:])},
        {"coefficients": (*coefficients(10)[:-1], 2)},
        {"coefficients": coefficients(20)},
        {"coefficients": coefficients(5)},
        {"share_sigma": Decimal(99_999)},
        {"share_sigma": Decimal(9)},
        {"ring_norm": 1},
        {"honest_shares": 3},
        {"shares": 3},
        {"sites_per_patient": 2},
        {"dimension": 1},
        {"tail": Decimal(0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_part_of_the_mechanism_is_the_policys(changes: dict[str, Any]) -> None:
    some = consortium()
    with pytest.raises(NotAcceptable, match="another mechanism than the policy's") as refused:
        verified(trained(some, some.event(**changes)))
    assert refused.value.step == 12


def test_coins_are_not_turns_and_turns_are_not_coins() -> None:
    some, other = consortium(), Consortium.of().swear().admit().start()
    assert isinstance(other.event(), SampledGaussian)
    for one, event in ((some, other.event()), (other, some.event())):
        with pytest.raises(NotAcceptable, match="another mechanism than the policy's"):
            verified(trained(one, event))
    unbounded = Unbounded(mechanism="unbounded", attempts=20)
    with pytest.raises(NotAcceptable, match="another mechanism than the policy's"):
        verified(trained(consortium(), unbounded))
    plain = Consortium.of(privacy="none", budget=None).swear().admit().start()
    with pytest.raises(NotAcceptable, match="without privacy"):
        verified(trained(plain, some.event()))


@pytest.mark.parametrize(("attempts", "step"), [(19, 11), (21, 11), (10, 11)])
def test_turns_that_were_not_charged_or_that_no_step_was_made_of_are_noticed(
    attempts: int, step: int
) -> None:
    some = consortium()
    with pytest.raises(NotAcceptable, match="charged do not fit") as refused:
        verified(trained(some, some.event(attempts=attempts)))
    assert refused.value.step == step


def test_a_budget_that_the_turns_exceed_is_refused() -> None:
    some = consortium(epsilon="1")
    with pytest.raises(NotAcceptable, match="was spent; the policy allows 1"):
        verified(trained(some, some.event()))
