"""What an audit will cost: every test is run on a few of the patients, and its cost scaled up.

The few are a random draw, in which those who state a sensitive code are as many of all as among everybody:
nearly all of the cost is theirs. There are more of them as long as a test is done with them soon. What the
tests find on the few is thrown away unseen.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.battery import CATALOGUE
from oathbound.audit.coherence import check_coherent
from oathbound.audit.target import AuditedPatients, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import Halted, OathboundError
from oathbound.core.patient import Patient

_TRIED: Final = (16, 64, 256)
"""Members, and held-out patients, that a price is made from: more, while a test takes a few seconds."""

_SOON: Final = 3.0
"""Seconds: a test that takes longer is not tried on more."""

_CARRIERS: Final = 32
"""Those who state a sensitive code among the fewest that are tried, if there are so many.

A model takes longer for each of a few than for each of many: with eight the price was up to twice the cost.
"""

BEFORE: Final = "before-the-tests"
"""What is said in the place of a test of the time until the first one: reading, comparing, coherence."""

_SEED: Final = 11
_PROBED: Final = 64


@dataclass(frozen=True, slots=True)
class TestPrice:
    """What one test is expected to cost: tokens through the model, and seconds on this machine.

    `reason` says why a test will not run.
    """

    test: str
    tokens: int
    seconds: float
    reason: str = ""


def prices(
    target: Target, patients: AuditedPatients, plan: AuditPlan, *, began: float
) -> Iterator[TestPrice]:
    """Yield the price of what comes before the tests, begun at `time.perf_counter` `began`, and of each."""
    tokens = target.tokens_pushed
    check_coherent(target, [*patients.members[:_PROBED], *patients.held_out[:_PROBED]])
    yield TestPrice(BEFORE, target.tokens_pushed - tokens, time.perf_counter() - began)
    draw = _Draw(patients, frozenset(plan.sensitive.codes if plan.sensitive else ()))
    for name in sorted(CATALOGUE):
        price = None
        for size in _TRIED:
            few = draw.few(size)
            price = _price(name, target, few, plan, times=len(patients.evaluated) / len(few.evaluated))
            done = len(few.evaluated) == len(patients.evaluated)
            if done or price.reason or price.seconds > _SOON * len(patients.evaluated) / len(few.evaluated):
                break
        if price is not None:
            yield price


def _price(name: str, target: Target, few: AuditedPatients, plan: AuditPlan, *, times: float) -> TestPrice:
    tokens, began, reason = target.tokens_pushed, time.perf_counter(), ""
    try:
        CATALOGUE[name].run(target, few, plan, _SEED.to_bytes(32))
    except Halted:  # a machine that failed says nothing of a test
        raise
    except OathboundError as error:
        reason = error.message
    if reason:
        return TestPrice(name, 0, 0.0, reason)
    seconds = time.perf_counter() - began
    return TestPrice(name, math.ceil((target.tokens_pushed - tokens) * times), seconds * times, reason)


class _Draw:
    """A random order of the patients, those who state a code and the others each by themselves."""

    def __init__(self, patients: AuditedPatients, codes: frozenset[str]) -> None:
        self._rng = np.random.default_rng(_SEED)
        self._codes = codes
        self._groups = {
            name: (group, self._order(group))
            for name in ("members", "held_out", "reference")
            if (group := getattr(patients, name))
        }

    def _order(self, group: Sequence[Patient]) -> list[NDArray[np.int64]]:
        states = np.fromiter(
            (any(event.code in self._codes for event in patient.events) for patient in group), bool
        )
        return [self._rng.permutation(np.flatnonzero(each)) for each in (states, ~states)]

    def few(self, size: int) -> AuditedPatients:
        """Return about so many of each part, with as large a share of those who state a code."""
        return AuditedPatients(**{name: _few(*group, size) for name, group in self._groups.items()})


def _few(group: Sequence[Patient], order: Sequence[NDArray[np.int64]], size: int) -> Sequence[Patient]:
    share = min(max(size / len(group), _CARRIERS / max(order[0].size, 1)), 1.0)
    places = np.concatenate([each[: math.ceil(share * each.size)] for each in order])
    return tuple(group[int(place)] for place in np.sort(places))
