"""Attribute inference on a target whose likelihoods are known: it gives away whom it remembers alone."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit.battery import CATALOGUE as BATTERY
from oathbound.audit.battery import run_tests
from oathbound.audit.catalog.attribute_inference import NOT_EXPRESSIBLE, AttributeInference, inferred
from oathbound.audit.target import AuditedPatients, TokenScores
from oathbound.core.audit_plan import Attribute, AuditPlan
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import NotMeasurable
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer

SEXES = ("GENDER//F", "GENDER//M")
SEX = Attribute(name="sex", codes=SEXES)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, attributes=(SEX,))
TOKENIZER = Tokenizer(Vocabulary(codes=("A", "B", *SEXES, "RACE//X"), edges={}, ages=(), gaps=()))
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone


def patient(number, *codes, sexes=("GENDER//F",)):
    dated = (Event(FIRST + dt.timedelta(days=i), code, None) for i, code in enumerate(codes))
    return Patient(number, (*(Event(None, sex, None) for sex in sexes), *dated))


def people(first, n):
    return tuple(
        patient(i, *("AB"[i >> bit & 1] for bit in range(8)), sexes=(SEXES[i % 2],))
        for i in range(first, first + n)
    )


class Remembers:
    """Every token has probability 1/4, but for the sex that a known record states: 3/4."""

    eos, size, tokens_pushed = TOKENIZER.eos, TOKENIZER.size, 0

    def __init__(self, known=(), length=24, untold=()):
        self.length = length
        self.known = {self.tokenize(each) for each in known}
        self.untold = {self.tokenize(each) for each in untold}

    def tokenize(self, patient):
        return TOKENIZER.encode(patient, self.length)

    def tokens_of(self, code):
        return TOKENIZER.tokens_of(code)

    def token_logprobs(self, sequences):
        self.tokens_pushed += sum(map(len, sequences))
        counts = np.array([len(each) - 1 for each in sequences])
        logprob = np.full((len(sequences), int(counts.max())), np.nan)  # beyond the end nothing is defined
        for row, said in zip(logprob, sequences, strict=True):
            row[: len(said) - 1] = np.log(1 / 4)
            row[0] = np.log(3 / 4) if tuple(said) in self.known else np.log(1 / 4)
            if tuple(said) in self.untold:
                row[1] = np.nan
        return TokenScores(logprob, logprob, logprob, counts)


PATIENTS = AuditedPatients(people(0, 50), people(100, 50))


def run(target, patients=PATIENTS, plan=PLAN):
    return AttributeInference().run(target, patients, plan, bytes(32))


def test_the_probability_is_that_of_the_true_candidate_by_bayes():
    known, other = people(0, 2)
    found = inferred(Remembers([known]), [known, other], SEX, SEXES)
    assert found.values == pytest.approx([3 / 4, 1 / 2])
    assert [stratum[0] for stratum in found.strata] == [(0,), (1,)]


def test_a_model_that_remembers_members_has_an_excess_and_one_that_remembers_none_has_no_spread():
    (caught,) = run(Remembers(PATIENTS.members[:30])).measures
    assert caught.score == "sex"
    assert caught.member_mean == pytest.approx(Decimal("0.65"))  # 30 of 50 at 3/4
    assert caught.estimate == pytest.approx(Decimal("0.15"), abs=Decimal("0.001"))
    (none,) = run(Remembers()).measures
    assert none.reason == "the scores have no spread"


def test_who_states_no_candidate_or_two_or_where_the_model_does_not_look_is_left_out():
    late = Patient(9, (*(Event(FIRST, "A", None) for _ in range(24)), Event(FIRST, "GENDER//F", None)))
    silent, both = patient(7, "A", sexes=()), patient(8, "A", sexes=SEXES)
    seen = patient(6, "A")
    found = inferred(Remembers([seen]), [silent, both, late, seen], SEX, SEXES)
    assert found.values == pytest.approx([3 / 4])


def test_who_states_a_candidate_that_the_model_does_not_know_is_left_out():
    race = Attribute(name="race", codes=("RACE//Y", *SEXES))
    strange, seen = patient(7, "A", sexes=("RACE//Y",)), patient(6, "A")
    found = inferred(Remembers([seen]), [strange, seen], race, SEXES)
    assert found.values == pytest.approx([3 / 4])


def test_a_likelihood_that_is_not_told_whole_is_left_out():
    one, two = patient(6, "A"), patient(7, "B")
    told = inferred(Remembers([two], untold=[one]), [one, two], SEX, SEXES)
    assert told.values == pytest.approx([3 / 4])
    assert len(told.strata) == 1


def test_a_record_that_no_candidate_makes_possible_is_left_out():
    class Forbids(Remembers):
        def token_logprobs(self, sequences):
            scores = super().token_logprobs(sequences)
            scores.logprob[[TOKENIZER.tokens_of("B") <= set(said) for said in sequences], 0] = -np.inf
            return scores

    one, two = patient(6, "A"), patient(7, "B")
    assert inferred(Forbids([one]), [one, two], SEX, SEXES).values == pytest.approx([3 / 4])


def test_a_code_stated_several_times_is_replaced_everywhere():
    class Asked(Remembers):
        def token_logprobs(self, sequences):
            self.asked = [*getattr(self, "asked", ()), *sequences]
            return super().token_logprobs(sequences)

    target = Asked()
    inferred(target, [patient(1, "A", "GENDER//F")], SEX, SEXES)
    female, male = (min(TOKENIZER.tokens_of(code)) for code in SEXES)
    first, second = target.asked
    assert first.count(female) == 2
    assert second == tuple(male if token == female else token for token in first)


@pytest.mark.parametrize("codes", [("RACE//X", "RACE//Y"), ("RACE//Y", "RACE//Z")])
def test_a_vocabulary_with_one_candidate_or_none_has_nothing_to_infer(codes):
    plan = PLAN.model_copy(update={"attributes": (Attribute(name="race", codes=codes), SEX)})
    race, sex = run(Remembers(PATIENTS.members[:20]), PATIENTS, plan).measures
    assert isinstance(race, NotMeasurable)
    assert race.reason == NOT_EXPRESSIBLE
    assert sex.kind == "excess"


def test_too_few_patients_are_not_measured_and_cost_nothing():
    silent = tuple(patient(2000 + i, "A", sexes=()) for i in range(50))
    outcome = run(Remembers(), AuditedPatients(PATIENTS.members, silent))
    assert [measure.reason for measure in outcome.measures] == [
        "fewer than 40 members or held-out patients to measure it on"
    ]
    assert outcome.tokens == 0


def test_without_attributes_or_likelihoods_it_does_not_run():
    with pytest.raises(NothingExamined, match="names no attributes"):
        run(Remembers(), PATIENTS, PLAN.model_copy(update={"attributes": None}))
    mute = Remembers()
    shown = type("Mute", (), {"eos": 2, "size": 9, "length": 9, "tokens_pushed": 0})()
    shown.tokenize, shown.tokens_of = mute.tokenize, mute.tokens_of
    with pytest.raises(NothingExamined, match="how likely"):
        run(shown, PATIENTS)


@pytest.mark.parametrize(
    "attributes",
    [
        [{"name": "sex", "codes": ["GENDER//F"]}],
        [{"name": "sex", "codes": ["GENDER//F", "GENDER//F"]}],
        [{"name": "sex", "codes": list(SEXES)}] * 2,
        [],
    ],
)
def test_a_plan_with_one_candidate_or_two_of_a_name_is_refused(attributes):
    plan = {"alpha": "0.05", "minimum_patients": 20, "attributes": attributes}
    with pytest.raises(WrongInput):
        AuditPlan.parse(plan, what="the plan")


def test_a_plan_that_names_no_attributes_says_what_it_said_before_there_were_any():
    assert not {"attributes", "probe"} & PLAN.model_copy(update={"attributes": None}).plain().keys()


def test_it_stands_in_the_catalogue_and_in_the_battery():
    assert BATTERY["attribute-inference"].threat == CATALOGUE["attribute-inference"].threat
    findings = run_tests(Remembers(), PATIENTS, PLAN, model="sha256:" + "0" * 64)
    assert "attribute-inference" in {finding.test for finding in findings}
