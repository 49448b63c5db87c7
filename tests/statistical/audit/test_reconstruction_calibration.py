"""How often a reconstruction of nobody, or of somebody else, is said to be a target's.

Gradients are the recordings themselves here, so that many runs take seconds;
`docs/audits/gradient-reconstruction.md` has what comes back from those of models.
"""

import logging
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("torch", reason="the audit's models are an extra")

from oathbound.audit.catalog import gradient_reconstruction
from oathbound.audit.catalog.gradient_reconstruction import GradientReconstruction
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, ReconstructionPlan
from oathbound.core.patient import Event, Patient
from oathbound.core.pooling import controlled, pool
from oathbound.core.shape import BeatNet, Recordings
from oathbound.models import convolutional
from oathbound.models.family import Family
from oathbound.models.model import flat
from oathbound.models.recordings import RecordingEncoder

log = logging.getLogger(__name__)

SEEN = Recordings(shape=(12,), most=1, centre=Decimal(0), scale=Decimal(1), classes=("A", "B"))
NET = BeatNet(name="beat-net", widths=(2,), activation="gelu", seed=1)
TARGETS, DECOYS, RUNS = 60, 3, 40
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=10,
    reconstruction=ReconstructionPlan(targets=TARGETS, decoys=DECOYS),
)
TEMPLATES = {"A": np.sin(np.arange(12) / 2), "B": np.cos(np.arange(12) / 2)}


class Sends:
    """A training whose gradient is the recording itself; `instead` may put somebody else's in its place."""

    def __init__(self, *, together=1, spread=0.0, instead=lambda row: row):
        self.family = Family(convolutional.build(NET, SEEN), RecordingEncoder(SEEN))
        self.together, self.spread, self._instead = together, spread, instead
        self._size = flat(self.family.model).size

    def gradient(self, row):
        return np.resize(self._instead(row)[0, :-1].astype(np.float64), self._size)

    def clipped(self, gradient):
        return gradient / np.linalg.norm(gradient)

    def noise(self, words):
        uniform = words(12 * self._size).reshape(12, -1) / 2.0**64
        return self.spread * (uniform.sum(axis=0) - 6)


def people(count, first, rng):
    """Two classes that look very different, and people who differ within them."""
    found = []
    for number in range(count):
        code = "AB"[number % 2]
        signal = (3 * TEMPLATES[code] + rng.normal(size=12)).astype(np.float32)
        found.append(Patient(first + number, (Event(None, code, None, signal),)))
    return tuple(found)


def runs(monkeypatch, count, **how):
    """The measures of runs on new people."""
    monkeypatch.setattr(gradient_reconstruction, "_MADE", 60)
    rng = np.random.default_rng(11)
    for run in range(count):
        audited = AuditedPatients(people(TARGETS, 0, rng), people(60, 1000, rng))
        attack = GradientReconstruction(Sends(**how))
        yield attack.run(None, audited, PLAN, run.to_bytes(32)).measures[0]


def strangers():
    """Put somebody else of the class in the place of every row: nothing is seen of anybody's own."""
    rng = np.random.default_rng(5)

    def instead(row):
        template = TEMPLATES["AB"[int(row[0, -1])]]
        return np.append(3 * template + rng.normal(size=12), row[0, -1])[None]

    return instead


def its_class(row):
    """Put what the class looks like in the place of every row."""
    return np.append(3 * TEMPLATES["AB"[int(row[0, -1])]], row[0, -1])[None]


@pytest.mark.parametrize("instead", [strangers(), its_class])
def test_what_is_nobody_s_is_found_by_chance(monkeypatch, instead):
    measures = list(runs(monkeypatch, RUNS, instead=instead))
    hits = sum(measure.bare for measure in measures)
    ends = [pool([measure]).interval(0.025) for measure in measures]
    above, below = sum(end.lower > 0 for end in ends), sum(end.upper < 0 for end in ends)
    controls = sum(map(controlled, measures))
    log.info(
        "%d of %d found; of %d runs %d above chance, %d below, %d controls work",
        hits,
        TARGETS * RUNS,
        RUNS,
        above,
        below,
        controls,
    )
    share = Decimal(hits) / (TARGETS * RUNS)
    assert abs(share - Decimal(1) / (DECOYS + 1)) < Decimal("0.05"), "counts are rounded; few are none"
    assert max(above, below, controls) <= 4  # of 40 at 2.5 % more come in one of 250 trials


def test_what_is_the_target_s_own_is_found_and_neither_in_a_sum_nor_in_noise(monkeypatch):
    measures = list(runs(monkeypatch, 5, together=50, spread=1.0))
    log.info("%s", [(measure.bare, measure.summed, measure.noised) for measure in measures])
    for measure in measures:
        assert measure.bare >= 0.9 * TARGETS
        assert controlled(measure)
        assert pool([measure]).interval(0.025).lower <= 0
    hits = sum(measure.summed + measure.noised for measure in measures)
    assert hits < 0.4 * 2 * TARGETS * 5


def test_a_sum_of_two_gives_many_away(monkeypatch):
    for measure in runs(monkeypatch, 3, together=2):
        assert pool([measure]).interval(0.025).lower > 0
