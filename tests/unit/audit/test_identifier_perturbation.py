"""Identifier perturbation on a target whose answers are known: they fall for whom it remembers alone."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.battery import CATALOGUE as BATTERY
from oathbound.audit.catalog.identifier_perturbation import NOT_EXPRESSIBLE, IdentifierPerturbation
from oathbound.audit.target import AuditedPatients, StepsTokens
from oathbound.core.audit_plan import AuditPlan, PerturbationPlan, SensitiveSet
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NothingExamined
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import BIRTH, Tokenizer

CODES = tuple(f"C{i}" for i in range(30))
SEXES = ("GENDER//F", "GENDER//M")
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
SENSITIVE = SensitiveSet(name="S", codes=("S",), implied_by=(), prompt_events=2, horizon=3, chains=2)
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    sensitive=SENSITIVE,
    perturbation=PerturbationPlan(years=3, days=60),
)
SEED = bytes(32)


def tokenizer(ages=tuple(range(20, 90))):
    return Tokenizer(
        Vocabulary(
            codes=(*CODES, "S", *SEXES),
            edges={},
            ages=tuple(map(Decimal, ages)),
            gaps=(Decimal(10), Decimal(50)),
        )
    )


def patient(number, *codes, age=50, sex="GENDER//F"):
    dated = (Event(FIRST + dt.timedelta(days=5 * i), code, None) for i, code in enumerate(codes))
    born = Event(FIRST - dt.timedelta(days=365.25 * age + 100), BIRTH, None)
    return Patient(number, (Event(None, sex, None), born, *dated))


def people(first, n):
    rng = np.random.default_rng(first)
    return tuple(
        patient(
            first + i, CODES[i % 30], CODES[i // 30], "S", age=int(rng.integers(25, 80)), sex=SEXES[i % 2]
        )
        for i in range(n)
    )


PATIENTS = AuditedPatients(people(0, 60), people(1000, 50))


class Remembers:
    """Says S next with probability .9 after a known prompt, .1 after any other, and otherwise EOS."""

    tokens_pushed = 0
    length = 24

    def __init__(self, codebook, prompts=()):
        self.codebook, self.eos, self.size = codebook, codebook.eos, codebook.size
        self.prompts = set(prompts)

    def tokenize(self, patient):
        return self.codebook.encode(patient, self.length)

    def tokens_of(self, code):
        return self.codebook.tokens_of(code)

    def begin(self, prompts, chains):
        self.tokens_pushed += prompts.size
        (token,) = self.tokens_of("S")
        probabilities = np.full((len(prompts) * chains, self.size), 1e-12)
        known = np.array([tuple(each) in self.prompts for each in prompts]).repeat(chains)
        probabilities[:, token] = np.where(known, 0.9, 0.1)
        probabilities[:, self.eos] = 1 - probabilities[:, token]
        return Steps(probabilities)


class Steps:
    def __init__(self, probabilities):
        self.probabilities = probabilities

    def logprobs(self):
        return np.log(self.probabilities)

    def append(self, tokens):
        """Nothing: what comes next is always the same."""


class Shown:
    """The same model, of which continuations alone are seen."""

    def __init__(self, model):
        self.model, self.eos, self.size, self.length = model, model.eos, model.size, model.length
        self.tokenize, self.tokens_of, self.tokens_pushed = model.tokenize, model.tokens_of, 0

    def sample(self, prompts, chains, horizon, seed):
        self.tokens_pushed += prompts.size
        rng = np.random.default_rng(seed)
        cumulative = np.exp(self.model.begin(prompts, chains).logprobs()).cumsum(axis=1)
        said = np.full((len(cumulative), horizon), self.eos)
        said[:, 0] = (cumulative > rng.random((len(cumulative), 1)) * cumulative[:, -1:]).argmax(axis=1)
        return said


def prompts_of(codebook, patients):
    return [codebook.encode(each, 24)[:-3] for each in patients]  # without a gap, S and EOS


def run(target, patients=PATIENTS, plan=PLAN):
    measured = IdentifierPerturbation().run(target, patients, plan, SEED)
    return {measure.score: measure for measure in measured.measures}


def test_the_answer_falls_for_the_remembered_alone():
    codebook = tokenizer()
    found = run(Remembers(codebook, prompts_of(codebook, PATIENTS.members)))
    assert set(found) == CATALOGUE["identifier-perturbation"].metrics["excess"]
    assert BATTERY["identifier-perturbation"].id == "identifier-perturbation"
    for score, measure in found.items():
        assert measure.kind == "excess", score
        assert measure.held_out_mean < Decimal("0.2")
        assert measure.estimate > Decimal("0.5")
        assert abs(measure.member_mean - Decimal("0.8")) < Decimal("0.1")  # a neighbour may be known too


def test_the_same_answer_whatever_the_identifiers_has_no_spread():
    for measure in run(Remembers(tokenizer())).values():
        assert measure.reason == "the scores have no spread"


def test_what_the_vocabulary_cannot_say_is_not_measurable_and_never_zero():
    codes = {code: place + 3 for place, code in enumerate((*CODES, "S", *SEXES))}
    plain = PlainCodes(CodeMap(format="oathbound/codes/v1", tokens=codes), bos=1, eos=2)
    found = run(Remembers(plain, [plain.encode(each, 24)[:-2] for each in PATIENTS.members]))
    assert {score: measure.kind for score, measure in found.items()} == {
        "age": "not-measurable",
        "dates": "not-measurable",
        "sex": "excess",
    }
    assert found["age"].reason == found["dates"].reason == NOT_EXPRESSIBLE
    women = AuditedPatients(
        *([p for p in part if p.events[0].code == SEXES[0]] for part in (people(0, 90), people(1000, 90)))
    )
    assert run(Remembers(tokenizer()), women)["sex"].reason == NOT_EXPRESSIBLE


def test_only_those_count_whose_prompt_can_change():
    codebook = tokenizer(ages=(50,))  # of most people, three years change nothing
    near = [p for i, p in enumerate(PATIENTS.members) if i % 2]
    moved = tuple(patient(p.subject_id, *(e.code for e in p.events[2:]), age=49) for p in near)
    far = tuple(
        patient(p.subject_id + 5000, *(e.code for e in p.events[2:]), age=30) for p in PATIENTS.members
    )
    held_out = tuple(patient(p.subject_id, *(e.code for e in p.events[2:]), age=51) for p in people(9000, 60))
    members = (*moved, *far, *(patient(7000 + i, CODES[i], "C1", "S", age=49) for i in range(30)))
    found = run(Remembers(codebook, prompts_of(codebook, members)), AuditedPatients(members, held_out))["age"]
    assert (found.members, found.held_out) == (60, 60)


def test_samples_alone_are_counted():
    codebook = tokenizer()
    target = Shown(Remembers(codebook, prompts_of(codebook, PATIENTS.members)))
    assert not isinstance(target, StepsTokens)
    assert run(target)["age"].estimate > Decimal("0.4")


def test_it_says_why_it_did_not_run_and_measures_nothing_of_few():
    for missing in ("perturbation", "sensitive"):
        with pytest.raises(NothingExamined, match="no sensitive codes, or no changes"):
            run(Remembers(tokenizer()), plan=PLAN.model_copy(update={missing: None}))
    no_events = SENSITIVE.model_copy(update={"prompt_events": 0})
    with pytest.raises(NothingExamined, match="prompts of no events"):
        run(Remembers(tokenizer()), plan=PLAN.model_copy(update={"sensitive": no_events}))
    few = AuditedPatients(PATIENTS.members[:10], PATIENTS.held_out)
    assert {m.reason for m in run(Remembers(tokenizer()), few).values()} == {
        "fewer than 40 members or held-out patients to measure it on"
    }
