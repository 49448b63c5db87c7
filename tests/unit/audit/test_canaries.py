"""Planted patients: whole, valid for what the model sees, drawn from the seed, and guessed without a coin."""

from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit import canaries
from oathbound.audit.battery import run_tests
from oathbound.audit.canaries import invented
from oathbound.audit.catalog.canary import TEST, Canary, guessed_right
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, CanaryPlan
from oathbound.core.errors import NothingExamined, Unavailable, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Features, Recordings, Vocabulary
from oathbound.models.features import FeatureEncoder
from oathbound.models.tokenizer import Tokenizer

VOCABULARY = Vocabulary.parse(
    {
        "codes": ["MEDS_BIRTH", "A", "B", "LAB", "C"],
        "edges": {"LAB": ["5", "7.5"]},
        "ages": ["40", "60"],
        "gaps": ["2", "60"],
    },
    what="vocabulary",
)
FEATURES = Features.parse(
    {
        "present": ["A", "B"],
        "numbers": [{"code": "LAB", "centre": "5", "scale": "2", "missing": []}],
        "label": {"code": "Y", "at_least": "3"},
    },
    what="features",
)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=10, canaries=CanaryPlan(planted=60, guesses=20))
MEMBERS = tuple(Patient(number, (Event(None, "A", None),)) for number in range(1, 21))
HELD_OUT = tuple(Patient(number, (Event(None, "A", None),)) for number in range(21, 41))
PATIENTS = AuditedPatients(MEMBERS, HELD_OUT)


def draw(seen, count, seed=0):
    return invented(seen, count, np.random.default_rng(seed))


class Rows:
    """A model that finds a record as likely as it was told."""

    def __init__(self, likely):
        self.likely, self.tokens_pushed = likely, 0

    def record_logprobs(self, patients):
        self.tokens_pushed += len(patients)
        return np.array([self.likely(patient) for patient in patients])


class Remembering:
    """Siblings that find whom they were trained on as likely as `share` of certainty."""

    seen = FEATURES
    delta = Decimal("0.000001")

    def __init__(self, share=1.0):
        self.share, self.trained_on = share, ()

    def untrained(self):
        return Rows(lambda _: -2.0)

    def trained(self, people):
        self.trained_on = people
        return Rows(lambda patient: -2.0 + self.share * (patient in people))


def test_a_canary_is_said_whole_by_the_vocabulary_with_every_band_of_it():
    tokenizer = Tokenizer(VOCABULARY)
    spoken = set()
    for patient in draw(VOCABULARY, 300):
        tokens = tokenizer.encode(patient, 64)
        assert tokens[-1] == tokenizer.eos
        assert len(tokens) == 3 + 2 * canaries.EVENTS - 1, "BOS, age, events with gaps between them, EOS"
        spoken |= {tokenizer.names[token] for token in tokens}
    assert spoken == set(tokenizer.names) - {"PAD", "UNK", "MEDS_BIRTH", "LAB//no value"}


@pytest.mark.parametrize(
    "empty", [{"ages": []}, {"gaps": []}, {"ages": [], "gaps": []}, {"edges": {"A": []}}]
)
def test_a_vocabulary_without_bands_has_canaries_too(empty):
    vocabulary = Vocabulary.parse(VOCABULARY.plain() | empty, what="vocabulary")
    tokenizer = Tokenizer(vocabulary)
    assert all(tokenizer.unk not in tokenizer.encode(each, 64) for each in draw(vocabulary, 20))


def test_bands_beyond_any_calendar_break_nothing():
    wide = VOCABULARY.plain() | {"ages": ["99999999"], "gaps": ["99999999"]}
    assert len(draw(Vocabulary.parse(wide, what="vocabulary"), 20)) == 20


def test_a_row_lies_at_the_far_ends_with_a_fair_label():
    rows = FeatureEncoder(FEATURES).encode_all(draw(FEATURES, 400))
    assert set(rows[:, :2].flatten()) == {0.0, 1.0}
    assert set(rows[:, 2]) == {-4.0, 4.0}
    assert set(rows[:, 3]) == {1.0}
    assert 160 < rows[:, 4].sum() < 240
    correlations = np.corrcoef(rows[:, [0, 1, 2, 4]].T)
    assert np.abs(correlations[np.triu_indices(4, 1)]).max() < 0.2, "the label says nothing of the features"


def test_a_label_that_is_a_code_is_there_or_not():
    features = Features.parse(FEATURES.plain() | {"label": {"code": "Y"}}, what="features")
    assert set(FeatureEncoder(features).encode_all(draw(features, 50))[:, -1]) == {0.0, 1.0}


def test_canaries_follow_from_the_seed_and_are_nobody():
    assert draw(VOCABULARY, 30) == draw(VOCABULARY, 30) != draw(VOCABULARY, 30, seed=1)
    ids = [patient.subject_id for patient in draw(VOCABULARY, 30)]
    assert max(ids) < 0
    assert len(set(ids)) == 30


def test_guesses_are_the_ends_of_the_order_and_ties_know_no_coin():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 0.0])
    coins = np.array([True, False, False, True, True, False])
    assert guessed_right(scores, coins, 2) == 2
    assert guessed_right(scores, coins, 4) == 3
    assert guessed_right(scores, coins, 6) == 4
    assert guessed_right(-scores, coins, 2) == 0
    assert guessed_right(np.zeros(6), coins, 2) == 0, "by place: the last is called in, the first out"


def test_what_a_sibling_remembers_is_counted_exactly_and_the_model_under_audit_is_not_asked():
    asked = Rows(lambda _: 1 / 0)
    siblings = Remembering()
    found = Canary(siblings).run(asked, PATIENTS, PLAN, bytes(32))
    (measure,) = found.measures
    assert (measure.planted, measure.guesses, measure.right) == (60, 20, 20)
    assert asked.tokens_pushed == 0
    assert found.tokens == 64, "a power of two"
    assert siblings.trained_on[:20] == MEMBERS
    planted = siblings.trained_on[20:]
    assert 15 < len(planted) < 45
    assert not set(planted) & set(HELD_OUT)
    (chance,) = Canary(Remembering(0.0)).run(asked, PATIENTS, PLAN, bytes(32)).measures
    assert 3 <= chance.right <= 17


def test_one_seed_plants_the_same_patients_and_another_seed_others():
    planted = []
    for seed in (bytes(32), bytes(32), bytes([1] * 32)):
        siblings = Remembering()
        Canary(siblings).run(Rows(None), PATIENTS, PLAN, seed)
        planted.append(siblings.trained_on[20:])
    assert planted[0] == planted[1] != planted[2]


def test_nothing_is_measured_of_fewer_members_than_the_minimum():
    siblings = Remembering()
    few = AuditedPatients(MEMBERS[:9], HELD_OUT)
    found = Canary(siblings).run(Rows(None), few, PLAN, bytes(32))
    assert {measure.kind for measure in found.measures} == {"not-measurable"}
    assert (found.tokens, siblings.trained_on) == (0, ())


def test_without_siblings_or_a_plan_it_does_not_run():
    with pytest.raises(Unavailable, match="in a study alone"):
        TEST.run(Rows(None), PATIENTS, PLAN, bytes(32))
    with pytest.raises(NothingExamined, match="plants no canaries"):
        Canary(Remembering()).run(Rows(None), PATIENTS, PLAN.model_copy(update={"canaries": None}), bytes(32))


def test_a_model_of_no_study_gets_the_reason():
    findings = run_tests(Rows(lambda _: -1.0), PATIENTS, PLAN, model="sha256:" + "a" * 64)
    (finding,) = (finding for finding in findings if finding.test == "canary")
    assert finding.outcome.reason == "canaries are planted in a study alone: its procedure trains the sibling"


@pytest.mark.parametrize("counts", [(60, 21), (60, 62), (1, 0), (20_000, 100)])
def test_a_plan_guesses_an_even_number_of_those_that_it_plants(counts):
    facts = dict(zip(("planted", "guesses"), counts, strict=True))
    with pytest.raises(WrongInput):
        CanaryPlan.parse(facts, what="canaries")


def test_a_recording_is_noise_of_any_class():
    plain = {"shape": [3, 4], "most": 2, "centre": "10", "scale": "2", "classes": ["a", "b"]}
    drawn = draw(Recordings.parse(plain, what="recordings"), 100)
    assert {len(patient.events) for patient in drawn} == {1}
    assert {patient.events[0].code for patient in drawn} == {"a", "b"}
    frames = np.stack([patient.events[0].frame for patient in drawn])
    assert frames.shape == (100, 3, 4)
    assert set(np.unique(frames).tolist()) == {8.0, 12.0}
    assert abs(frames.mean() - 10) < 0.3
