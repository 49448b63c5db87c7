"""A policy that parses is coherent: each contradiction between its keys is named."""

import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.study import Policy
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]


def policy(**changes):
    return policy_for(SECRETS, **changes)


def test_a_site_is_found_by_its_name_and_nobody_else_is():
    assert policy().site("east").fingerprint == SECRETS[2].party().fingerprint
    assert policy().site("coordinator") is None


@pytest.mark.parametrize("window", [["-0.1", "1"], ["0", "1.1"], ["0.5", "0.5"], ["0.6", "0.5"]])
def test_a_window_is_part_of_everybody(window):
    with pytest.raises(WrongInput, match="window must be"):
        policy(drawing={"window": window, "held_out": "0.3", "reference": "0"})


def test_somebody_must_be_left_to_train_on():
    with pytest.raises(WrongInput, match="leave no members"):
        policy(drawing={"window": ["0", "1"], "held_out": "0.5", "reference": "0.5"})


def test_parties_are_distinct():
    members = policy().plain()["sites"]
    for key, of in (("name", 0), ("fingerprint", 0)):
        twin = {**members[1], key: members[of][key]}
        with pytest.raises(WrongInput, match=f"share a {key}"):
            policy(sites=[members[0], twin])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_sites": 3}, "min_sites is more"),
        ({"colluding": 1}, "must be at least 2"),
        ({"dishonest_witnesses": 1}, "dishonest_witnesses is too many"),
        ({"privacy": "none"}, "need each other"),
        ({"budget": None}, "need each other"),
        (
            {
                "gates": [
                    {"test": "membership", "metric": "auc", "at_most": "0.6"},
                    {"test": "membership", "metric": "auc", "at_most": "0.7"},
                ]
            },
            "two gates",
        ),
    ],
)
def test_a_contradiction_is_named(changes, said):
    with pytest.raises(WrongInput, match=said):
        policy(**changes)


def test_a_policy_is_named_by_the_digest_of_all_of_it():
    assert Policy.parse(policy().plain(), what="policy").digest == policy().digest
    assert policy(purpose="Another").digest != policy().digest
