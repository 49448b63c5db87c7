"""Whatever bytes a site or the server is given, the answer is a refusal that speaks, and nothing else."""

from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from oathbound.core.errors import ProtocolRefused
from oathbound.testing.sums import Sums, label, sum_of
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.client import Client

KINDS = [kind for kind in vars(m).values() if isinstance(kind, m.Kind)]
OPAQUE = {"dealt", "masked", "revealed"}
"""What the server takes for what it is, if it has the right length."""


def corrupt(data, message, *, opaque):
    """Return other bytes: one changed, some cut off or added, or any at all."""
    head = message.index(b"}") + 1 if opaque else len(message)
    way = data.draw(st.sampled_from(["flip", "cut", "add", "any", "length"]))
    if way == "flip":
        at = data.draw(st.integers(0, head - 1))
        return message[:at] + bytes([message[at] ^ data.draw(st.integers(1, 255))]) + message[at + 1 :]
    if way == "cut":
        return message[: data.draw(st.integers(0, len(message) - 1))]
    if way == "add":
        return message + data.draw(st.binary(min_size=1, max_size=9))
    if way == "length":
        start = message.index(b"\n") + 1
        size = data.draw(st.binary(min_size=4, max_size=4).filter(lambda s: s != message[start : start + 4]))
        return message[:start] + size + message[start + 4 :]
    return data.draw(st.binary(max_size=200).filter(lambda other: other != message))


class Tried:
    """A client or a server that is given corrupted messages before each right one."""

    def __init__(self, data, target):
        self.data, self.target = data, target

    def __getattr__(self, name):
        return partial(self._try, name)

    def _try(self, name, *arguments, **more):
        method = getattr(self.target, name)
        if arguments and isinstance(arguments[-1], bytes | memoryview):
            *first, message = arguments
            message = bytes(message)
            kept = getattr(self.target, "_open", None)
            with pytest.raises(ProtocolRefused) as refusal:
                method(*first, corrupt(self.data, message, opaque=name in OPAQUE), **more)
            assert refusal.value.message
            if isinstance(self.target, Client):
                self.target._open = kept  # a refused list closes a client's attempt
        return method(*arguments, **more)


class TriedSums(Sums):
    """Sites and a server that are tried at every message."""

    data = None

    def __setattr__(self, name, value):
        super().__setattr__(name, Tried(self.data, value) if name in {"gathering", "server"} else value)

    def restart(self, site):
        client = super().restart(site)
        self.clients[site] = Tried(self.data, client)
        return client


@settings(max_examples=25, deadline=None, phases=[Phase.generate])  # shrinking would take minutes
@given(st.data())
def test_corrupted_messages_are_refused_and_change_nothing(data):
    TriedSums.data = data
    sums = TriedSums.of(3, 1)
    sums.gather()
    sums.deal()
    for attempt in (1, 2):
        vectors = sums.vectors(attempt)
        assert np.array_equal(sums.sum(vectors, attempt), sum_of(vectors))


@given(
    st.binary(max_size=300), st.sampled_from([kind for kind in vars(m).values() if isinstance(kind, m.Kind)])
)
def test_no_bytes_are_a_message_but_its_own(data, kind):
    for message in (data, kind.magic + data, kind.magic + len(data).to_bytes(4, "little") + data):
        with pytest.raises(ProtocolRefused):
            kind.read(message)


def test_every_kind_has_a_first_line_of_its_own():
    lines = [kind.magic for kind in KINDS]
    assert len(set(lines)) == len(lines) == 16
    assert not any(one != other and other.startswith(one) for one in lines for other in lines)


def test_the_largest_headers_fit():
    attempt = m.Attempt(
        session=label(1).run,
        previous=label(1).plan,
        **label(10_000_000).model_copy(update={"step": 10_000_000}).plain(),
    )
    places = tuple(range(1, 51))
    message = m.CERTIFICATE.write(m.Certified(survivors=places, signers=places, **attempt.plain()))
    assert m.CERTIFICATE.read(message)[0].signers == places
