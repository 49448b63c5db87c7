"""The probe on a target whose representations are known: what it reads, of whom, and from which prompts."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit.battery import CATALOGUE as BATTERY
from oathbound.audit.catalog.embedding_probe import EmbeddingProbe, Probe, embedded
from oathbound.audit.statistics import auc_difference
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, ProbePlan, SensitiveSet
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer

SENSITIVE = SensitiveSet(name="S", codes=("S",), implied_by=("T",), prompt_events=1, horizon=1, chains=2)
PLAN = AuditPlan(
    alpha=Decimal("0.05"), minimum_patients=20, sensitive=SENSITIVE, probe=ProbePlan(prompt_events=9)
)
TOKENIZER = Tokenizer(Vocabulary(codes=("A", "B", "S", "T"), edges={}, ages=(), gaps=()))
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
A, B = (min(TOKENIZER.tokens_of(code)) for code in "AB")
FEW = "fewer than 20 members or held-out patients who have, or lack, a sensitive code"


def patient(number, codes):
    return Patient(number, tuple(Event(FIRST, code, None) for code in codes))  # of one day: no gaps between


def people(first, n, *, seed=0):
    """Eight codes that say who it is, a hint of the secret that is right in three of four, and the secret."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(first, first + n):
        secret = rng.random() < 0.5
        hint = secret == (rng.random() < 0.75)
        bits = ["AB"[i >> bit & 1] for bit in range(8)]
        found.append(patient(i, [*bits, "AB"[hint], "S" if secret else "A"]))
    return tuple(found)


class Represents:
    """Four numbers of a prompt: its last code, which of known people is the secret instead; 7; and noise."""

    eos, size, length = TOKENIZER.eos, TOKENIZER.size, 24

    def __init__(self, known=(), broken=()):
        self.tokens_pushed = 0
        self.asked = []
        self.secrets = {TOKENIZER.encode(each, 24)[:-2]: each.events[-1].code == "S" for each in known}
        self.broken = [TOKENIZER.encode(each, 24)[:-2] for each in broken]

    def tokenize(self, patient):
        return TOKENIZER.encode(patient, self.length)

    def tokens_of(self, code):
        return TOKENIZER.tokens_of(code)

    def embed(self, sequences):
        self.asked += sequences
        self.tokens_pushed += sum(map(len, sequences))
        rng = np.random.default_rng(len(self.asked))
        states = np.concatenate(
            [
                np.zeros((len(sequences), 1)),
                np.full((len(sequences), 1), 7),
                rng.normal(size=(len(sequences), 2)),
            ],
            axis=1,
        )
        for row, said in zip(states, sequences, strict=True):
            row[0] = 5 * self.secrets[said] if said in self.secrets else said[-1] == B
            row[0] = np.nan if said in self.broken else row[0] + rng.normal() / 5
        return states


MEMBERS, HELD_OUT, REFERENCE = people(0, 80, seed=1), people(80, 80, seed=2), people(160, 90, seed=3)
PATIENTS = AuditedPatients(MEMBERS, HELD_OUT, REFERENCE)


def run(target, patients=PATIENTS, plan=PLAN):
    return EmbeddingProbe().run(target, patients, plan, bytes(32))


def test_it_reads_the_hint_of_everybody_and_the_secret_of_whom_the_model_knows():
    (measure,) = run(Represents()).measures
    assert abs(measure.member_auc - measure.held_out_auc) < Decimal("0.15")
    assert Decimal("0.6") < measure.held_out_auc < Decimal("0.9")
    (measure,) = run(Represents(MEMBERS)).measures
    assert measure.member_auc == 1
    assert measure.held_out_auc < Decimal("0.9")
    assert measure.score == "probe"


def test_it_is_fitted_on_reference_patients_alone():
    known = Represents(MEMBERS)
    one = Probe.of(embedded(known, REFERENCE, SENSITIVE, 9))
    run(known)
    assert known.asked[:90] == known.asked[90:180]  # first the reference patients, whoever is evaluated
    assert np.isfinite(one.weights).all()
    assert one.weights[2] == 0  # the constant column


def test_its_answers_do_not_know_how_a_representation_is_scaled():
    plain = embedded(Represents(), REFERENCE, SENSITIVE, 9)
    scaled = type(plain)(plain.states * [3, 5, 1e-3, 1e4] + 1, plain.carries)
    for own, other in zip(Probe.of(plain).answers(plain), Probe.of(scaled).answers(scaled), strict=True):
        assert own == pytest.approx(other, rel=1e-6)


def test_answers_are_graded_not_labels_and_carriers_come_first():
    asked = embedded(Represents(MEMBERS), MEMBERS, SENSITIVE, 9)
    carriers, others = Probe.of(asked).answers(asked)
    assert len(carriers) == asked.carries.sum()
    assert len(np.unique([*carriers, *others])) == len(MEMBERS)
    assert carriers.min() > others.max()


def test_a_prompt_states_neither_the_secret_nor_what_implies_it():
    target = Represents()
    found = embedded(target, [patient(1, "STATAS"), patient(2, "STATBB")], SENSITIVE, 2)
    assert [list(said) for said in target.asked] == [[TOKENIZER.bos, A, A], [TOKENIZER.bos, A, B]]
    assert found.carries.tolist() == [True, False]


def test_whose_record_ends_with_the_prompt_or_within_it_or_beyond_the_context_is_left_out():
    target = Represents()
    target.length = 3  # BOS and two codes
    short, cut_off = patient(1, "A"), patient(2, "AAS")
    assert embedded(target, [short, cut_off], SENSITIVE, 2).carries.tolist() == []
    target.length = 4
    assert embedded(target, [short, cut_off], SENSITIVE, 2).carries.tolist() == [True]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [((), "no reference patients"), (REFERENCE[:30], "too few reference patients"), ((MEMBERS[0],), "twice")],
)
def test_without_enough_reference_patients_it_does_not_run(reference, reason):
    with pytest.raises((NothingExamined, WrongInput), match=reason):
        run(Represents(), AuditedPatients(MEMBERS, HELD_OUT, reference))


def test_too_few_carriers_of_either_group_are_not_measured_and_cost_nothing():
    outcome = run(Represents(), AuditedPatients(MEMBERS, HELD_OUT[:30], REFERENCE))
    assert [measure.reason for measure in outcome.measures] == [FEW]
    assert outcome.tokens == 0


def test_a_representation_that_is_no_number_is_refused():
    for broken in (MEMBERS, HELD_OUT, REFERENCE):
        with pytest.raises(WrongInput, match="finite"):
            run(Represents(broken=broken[5:6]))


def test_without_a_plan_or_representations_it_does_not_run():
    with pytest.raises(NothingExamined, match="names no sensitive codes"):
        run(Represents(), plan=PLAN.model_copy(update={"probe": None}))
    with pytest.raises(NothingExamined, match="names no sensitive codes"):
        run(Represents(), plan=PLAN.model_copy(update={"sensitive": None}))
    shown = type("Mute", (), {"eos": 2, "size": 9, "length": 9, "tokens_pushed": 0})()
    shown.tokenize, shown.tokens_of = Represents().tokenize, Represents().tokens_of
    with pytest.raises(NothingExamined, match="inner representation"):
        run(shown)


def test_scores_without_spread_and_too_few_of_either_kind_are_not_measurable():
    rng = np.random.default_rng(0)
    good = rng.normal(size=30), rng.normal(size=30)
    flat = np.zeros(30), np.zeros(30)
    assert auc_difference("probe", good, good, minimum=20).kind == "auc-difference"
    assert auc_difference("probe", good, flat, minimum=20).reason == "the scores have no spread"
    for few in ((good[0][:19], good[1]), (good[0], good[1][:19])):
        assert auc_difference("probe", few, good, minimum=10).reason == FEW
        assert auc_difference("probe", good, few, minimum=10).reason == FEW


def test_it_stands_in_the_catalogue_and_in_the_battery():
    assert BATTERY["embedding-probe"].threat == CATALOGUE["embedding-probe"].threat
