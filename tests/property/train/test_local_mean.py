"""Whatever sites change, however many members they have: the sum opens the members' mean, and never wraps."""

from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oathbound.core.canonical import digest
from oathbound.core.training_plan import Training
from oathbound.hazmat.ring import decode, encode
from oathbound.train.local_steps import MOST_LOSS, Change, mean_change, to_ring
from oathbound.train.plan import Plan

WEIGHTS = 3
UNIT = st.floats(-1, 1, width=32)
SITES = st.lists(
    st.tuples(st.integers(1, 10_000), st.lists(UNIT, min_size=WEIGHTS, max_size=WEIGHTS), st.floats(0, 1)),
    min_size=2,
    max_size=50,
)


def plan(sites, members, clip):
    training = {
        "members": members,
        "sampling_rate": "0.5",
        "steps": 1,
        "attempts": 1,
        "round_steps": 1,
        "learning_rate": "1",
        "warmup": 0,
        "ring_norm": 256,
        "clip": clip,
        "local": {"algorithm": "fedavg", "steps": 1, "learning_rate": "1"},
    }
    names = tuple(f"s{number}" for number in range(sites))
    return Plan(digest(b"policy"), names, Training.parse(training, what="training"), WEIGHTS, privacy=None)


@settings(max_examples=50, deadline=None)
@given(sites=SITES, spare=st.integers(0, 1000), clip=st.sampled_from(["0.001", "1", "1000"]))
def test_the_sum_of_any_shares_is_their_mean(sites, spare, clip):
    members = np.array([count for count, _, _ in sites])
    agreed, most = plan(len(sites), int(members.sum()) + spare, clip), float(Decimal(clip))
    changes = most * np.array([change for _, change, _ in sites])
    losses = MOST_LOSS * np.array([loss for _, _, loss in sites])
    shares = [
        encode(to_ring(Change(change, loss), int(count), agreed))
        for count, change, loss in zip(members, changes, losses, strict=True)
    ]
    mean = mean_change(decode(np.sum(shares, axis=0, dtype=np.uint64).astype(np.uint32)), agreed)
    # each of the n shares is rounded by half a unit, in what is divided and in what it is divided by
    parts = agreed.saturation * members.sum() / agreed.training.members
    error = 1.01 * len(sites) / parts
    assert np.abs(mean.weights - members @ changes / members.sum()).max() <= error * most
    assert abs(mean.loss - members @ losses / members.sum()) <= error * MOST_LOSS
    assert error < 1e-3
