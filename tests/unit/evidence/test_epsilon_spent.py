"""What was spent, where the policy's model is an extension's: its number of weights is not known here."""

import pytest

from oathbound.core.errors import NotAcceptable
from oathbound.core.event import Unbounded
from oathbound.evidence.keys import Secret
from oathbound.evidence.predicates import Charged
from oathbound.evidence.steps import epsilon_spent
from oathbound.testing.consortium import policy_for

CODE = {"distribution": "oracle", "version": "1", "digest": "sha256:" + "0" * 64}


def test_a_charge_without_a_bound_is_refused_in_a_private_study():
    policy = policy_for(
        [Secret.generate(name) for name in ("coordinator", "north", "east")],
        model={"name": "oracle", "options": {}, "seed": 1},
        extensions=[{"group": "models", "name": "oracle", **CODE}],
    )
    assert policy.weights is None
    event = Unbounded(mechanism="unbounded", attempts=20)
    charged = Charged(policy_digest=policy.digest, site="north", run="sha256:" + "1" * 64, event=event)
    with pytest.raises(NotAcceptable, match="another mechanism than the policy's"):
        epsilon_spent([charged], policy)
