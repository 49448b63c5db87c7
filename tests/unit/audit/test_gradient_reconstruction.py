"""Recordings that come back from gradients: the control finds them, strangers' gradients find nobody."""

from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the audit's models are an extra")

from oathbound.audit.catalog import gradient_reconstruction
from oathbound.audit.catalog.gradient_reconstruction import (
    TEST,
    GradientReconstruction,
    attacked,
    cosines,
    people_of,
    strangers,
)
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, ReconstructionPlan
from oathbound.core.errors import NothingExamined, Unavailable
from oathbound.core.patient import Event, Patient
from oathbound.core.pooling import controlled
from oathbound.core.shape import BeatNet, Features, LogisticRegression, Recordings
from oathbound.models import convolutional, tabular
from oathbound.models.family import Family
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import flat
from oathbound.models.recordings import RecordingEncoder
from oathbound.train.clip import plain_sums

SEEN = Recordings(shape=(24,), most=2, centre=Decimal(0), scale=Decimal(1), classes=("A", "B"))
NET = BeatNet(name="beat-net", widths=(4,), activation="gelu", seed=1)
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=10,
    reconstruction=ReconstructionPlan(targets=40, decoys=4),
)
SEED = bytes([7] * 32)


def people(count, first, rng, code="A"):
    """Each with a signal of three waves of its own."""
    waves = np.sin(np.arange(24) * np.arange(1, 4)[:, None] / 4)
    signals = rng.normal(size=(count, 3)) @ waves
    return tuple(
        Patient(first + number, (Event(None, code, None, signal.astype(np.float32)),))
        for number, signal in enumerate(signals)
    )


class Sends:
    """What is sent of a step; of some rows somebody else's gradients; without noise unless some is asked."""

    def __init__(self, *, together=1, spread=0.0, strangers=None):
        self.family = Family(convolutional.build(NET, SEEN), RecordingEncoder(SEEN))
        self.together, self.spread, self._strangers, self.asked = together, spread, strangers or {}, 0

    def gradient(self, row):
        self.asked += 1
        return plain_sums(self.family.model, self._strangers.get(row.tobytes(), row)[None])[0]

    def clipped(self, gradient):
        return gradient / np.linalg.norm(gradient)

    def noise(self, words):
        uniform = words(12 * flat(self.family.model).size).reshape(12, -1) / 2.0**64
        return self.spread * (uniform.sum(axis=0) - 6)


@pytest.fixture
def patients():
    rng = np.random.default_rng(3)
    return AuditedPatients(people(40, 1, rng), people(80, 100, rng))


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    monkeypatch.setattr(gradient_reconstruction, "_MADE", 200)


def measured(updates, patients, plan=PLAN, seed=SEED):
    (measure,) = GradientReconstruction(updates).run(None, patients, plan, seed).measures
    return measure


def test_a_bare_gradient_gives_the_recording_back_and_neither_many_nor_noise_do(patients):
    found = measured(Sends(together=30, spread=1000.0), patients)
    assert controlled(found)
    assert found.bare >= 30
    assert (found.summed, found.noised) == (0, 0)
    assert (found.members, found.held_out, found.decoys) == (40, 40, 4)
    assert found.opened == 0


def test_a_sum_of_one_patient_hides_nothing_and_clipping_alone_little(patients):
    found = measured(Sends(spread=1e-9), patients)
    assert found.summed == found.bare >= 30
    assert found.noised >= 30


def test_the_same_seed_finds_the_same_and_no_budget_has_no_noise(patients):
    first, second = (measured(Sends(), patients) for _ in range(2))
    assert first == second
    assert first.noised is None
    assert first.opened == first.summed


def test_gradients_of_strangers_find_nobody(patients):
    encode = RecordingEncoder(SEEN).encode_all
    others = encode(people(40, 1000, np.random.default_rng(5)))
    instead = {row.tobytes(): other for row, other in zip(encode(patients.members), others, strict=True)}
    found = measured(Sends(strangers=instead), patients)
    assert (found.bare, found.summed) == (0, 0)
    assert not controlled(found)


def test_reference_patients_are_learnt_from_where_there_are_some(patients):
    rng = np.random.default_rng(6)
    more = AuditedPatients(patients.members, patients.held_out, people(30, 500, rng))
    known, decoys = strangers(RecordingEncoder(SEEN), more, rng)
    assert (len(known), len(decoys)) == (30, 80)
    assert measured(Sends(), more).held_out == 80


def test_nobody_who_is_learnt_from_is_a_decoy(patients):
    known, decoys = strangers(RecordingEncoder(SEEN), patients, np.random.default_rng(1))
    images = {person.image.tobytes() for person in known}
    assert len(known) == len(decoys) == 40
    assert not any(person.image.tobytes() in images for person in decoys)


def test_what_is_looked_for_is_the_mean_of_labelled_recordings_among_those_of_the_class():
    row = np.zeros((3, 25), dtype=np.float32)
    row[0, :24], row[1, :24], row[2] = 1, 3, np.nan
    row[:2, -1] = 1
    (person,) = people_of([row])
    assert (person.image == 2).all()
    assert person.label == 1
    assert not list(people_of([row[2:]]))
    how = ReconstructionPlan(targets=20, decoys=4)
    rng = np.random.default_rng(1)
    assert not list(attacked([row], [person] * 3, how, rng)), "too few decoys of the class"
    (target,) = attacked([row[2:], row], [person] * 4, how, rng)
    assert (target.member, target.images.shape) == (1, (5, 24))


def test_too_few_are_not_measured_and_those_without_a_class_are_no_targets(patients):
    rng = np.random.default_rng(4)
    unlabelled = AuditedPatients(people(30, 1, rng, code="other"), patients.held_out)
    lonely = AuditedPatients(people(30, 1, rng, code="B"), patients.held_out)
    for group in (unlabelled, lonely, AuditedPatients(patients.members[:5], patients.held_out)):
        assert measured(Sends(), group).kind == "not-measurable"


def test_it_says_why_it_does_not_run(patients):
    with pytest.raises(Unavailable, match="in a study alone"):
        TEST.run(None, patients, PLAN, SEED)
    with pytest.raises(NothingExamined, match="attacks no gradients"):
        measured(Sends(), patients, PLAN.model_copy(update={"reconstruction": None}))
    few = AuditedPatients(patients.members, patients.held_out[:38])
    updates = Sends()
    with pytest.raises(NothingExamined, match="learns from 20 people"):
        measured(updates, few)
    assert updates.asked == 0
    features = Features.parse({"present": ["A"], "numbers": [], "label": {"code": "Y"}}, what="features")
    model = tabular.build(LogisticRegression(name="logistic-regression"), features.width)
    rows = SimpleNamespace(family=Family(model, FeatureEncoder(features)), together=1)
    with pytest.raises(NothingExamined, match="sees no recordings"):
        measured(rows, patients)


def test_a_cosine_with_what_lies_in_the_middle_is_the_least():
    place = np.array([0.0, 2.0])
    assert cosines(place, np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])).tolist() == [1, 0, -1]
    assert cosines(np.zeros(2), place[None]).tolist() == [-1]
