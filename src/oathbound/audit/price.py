"""What an audit will cost: every test is run on a few of the patients, and its cost scaled up.

The few are a random draw, in which those who state a sensitive code are as many of all as among everybody:
nearly all of the cost is theirs. What the tests find on the few is thrown away unseen.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from oathbound.audit.battery import CATALOGUE
from oathbound.audit.target import AuditedPatients, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import OathboundError
from oathbound.core.patient import Patient

_TRIED: Final = 256
"""Members, and held-out patients, that a price is made from."""

_CARRIERS: Final = 32
"""Of them, those who state a sensitive code, if a quarter of the patients has so many."""

_MOST: Final = 0.25

_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class TestPrice:
    """What one test is expected to cost: tokens through the model, and seconds on this machine.

    `reason` says why a test will not run.
    """

    test: str
    tokens: int
    seconds: float
    reason: str = ""


def prices(target: Target, patients: AuditedPatients, plan: AuditPlan) -> Iterator[TestPrice]:
    """Yield the price of every test, in order of name."""
    rng = np.random.default_rng(_SEED)
    codes = frozenset(plan.sensitive.codes if plan.sensitive else ())
    drawn = {
        name: _few(group, codes, rng)
        for name in ("members", "held_out", "reference")
        if (group := getattr(patients, name))
    }
    few = AuditedPatients(**drawn)
    times = len(patients.evaluated) / len(few.evaluated)
    for name in sorted(CATALOGUE):
        tokens, began = target.tokens_pushed, time.perf_counter()
        reason = ""
        try:
            CATALOGUE[name].run(target, few, plan, _SEED.to_bytes(32))
        except OathboundError as error:
            reason = error.message
        yield TestPrice(
            name,
            math.ceil((target.tokens_pushed - tokens) * times),
            (time.perf_counter() - began) * times,
            reason,
        )


def _few(group: Sequence[Patient], codes: frozenset[str], rng: np.random.Generator) -> Sequence[Patient]:
    """Return a random draw, with as large a share of those who state a code and of the others."""
    states = np.fromiter((any(event.code in codes for event in patient.events) for patient in group), bool)
    share = min(
        max(_TRIED / len(group), _CARRIERS / max(int(states.sum()), 1)), max(_MOST, _TRIED / len(group)), 1.0
    )
    places = [rng.permutation(np.flatnonzero(each)) for each in (states, ~states)]
    taken = np.concatenate([each[: math.ceil(share * each.size)] for each in places])
    return tuple(group[int(place)] for place in np.sort(taken))
