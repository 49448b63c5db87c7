"""Planted patients: invented, whole, valid for what the model sees, and as unlike anybody as that allows.

The audit is as strong as what a canary adds to the model is large and its own. So each is drawn uniformly:
codes that have nothing to do with each other, in a random order, any age, any time between events, any bin of
a value; or features at the far ends of their range, with a label that they say nothing of; or a recording of
noise, of any class. What the members
teach about patients does not help to guess a canary, and two canaries have little in common. A record is
short: its gradient is clipped to one norm anyway, a patient's loss is a mean over tokens, and few tokens move
it further. Only what the encoder knows is drawn, so a canary goes through the very code that a patient does.

A stronger canary would be a vector, not a patient: a gradient of the clip's norm in a coordinate that nobody
else's touches, which the attacker looks for in each opened sum (Nasr et al. 2023). It bounds a mechanism
closely and says nothing of the way from a record to a gradient, where the mistakes are made that this test is
for.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np

from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Features, Recordings, Seen, Vocabulary
from oathbound.models.features import CUT
from oathbound.models.tokenizer import BIRTH

EVENTS: Final = 4
"""The events of a canary that a sequence model sees."""

_FIRST: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - times of records have no zone
_DAY: Final = timedelta(days=1)
_YEAR: Final = 365.25
_OLDEST: Final = 1000.0
"""Years, and so many times ten days: bands beyond are not drawn, for no calendar holds them."""


def invented(seen: Seen, count: int, rng: np.random.Generator) -> tuple[Patient, ...]:
    """Return so many patients whom nobody is, with ids below 0."""
    return tuple(Patient(-1 - number, _record(seen, rng)) for number in range(count))


def _record(seen: Seen, rng: np.random.Generator) -> tuple[Event, ...]:
    if isinstance(seen, Vocabulary):
        return _sequence(seen, rng)
    return _row(seen, rng) if isinstance(seen, Features) else _recording(seen, rng)


def _sequence(vocabulary: Vocabulary, rng: np.random.Generator) -> tuple[Event, ...]:
    codes = [code for code in vocabulary.codes if code != BIRTH]
    age = min(_in_a_band(vocabulary.ages, rng, below=0.5), _OLDEST)
    events = [Event(_FIRST - timedelta(days=age * _YEAR) - _DAY, BIRTH, None)]
    time = _FIRST
    for code in rng.choice(codes, EVENTS) if codes else ():
        edges = vocabulary.edges.get(code)
        value = None if edges is None else _in_a_band(edges, rng, below=None)
        events.append(Event(time, str(code), value))
        time += timedelta(days=min(_in_a_band(vocabulary.gaps, rng, below=0.5), 10 * _OLDEST))
    return tuple(events)


def _row(features: Features, rng: np.random.Generator) -> tuple[Event, ...]:
    events = [Event(_FIRST, code, None) for code in features.present if rng.random() < 0.5]  # noqa: PLR2004
    for number in features.numbers:
        far = rng.choice([-CUT, CUT]) * float(number.scale)
        events.append(Event(_FIRST, number.code, float(number.centre) + far))
    label, positive = features.label, rng.random() < 0.5  # noqa: PLR2004 - fair coins
    if label.at_least is not None:
        events.append(Event(_FIRST, label.code, float(label.at_least) - (not positive)))
    elif positive:
        events.append(Event(_FIRST, label.code, None))
    return tuple(events)


def _recording(recordings: Recordings, rng: np.random.Generator) -> tuple[Event, ...]:
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), recordings.shape)
    frame = np.float32(recordings.centre) + signs * np.float32(recordings.scale)
    return (Event(None, str(rng.choice(recordings.classes)), None, frame),)


def _in_a_band(edges: Sequence[Decimal], rng: np.random.Generator, *, below: float | None) -> float:
    """Return a number in a band that is drawn uniformly: its lower edge, which it holds.

    In the lowest band, `below` times the first edge, or one less than it.
    """
    if not edges:
        return 1.0
    first = float(edges[0])
    band = int(rng.integers(len(edges) + 1))
    if band:
        return float(edges[band - 1])
    return first - 1 if below is None else below * first
