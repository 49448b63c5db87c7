"""Groups: who belongs to which, what is said of a small one, and one that is known by heart."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.battery import CATALOGUE as BATTERY
from oathbound.audit.battery import battery_of, run_battery
from oathbound.audit.catalog.rare_subgroup import RareSubgroup
from oathbound.audit.partition import partition
from oathbound.audit.references import References
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, CodeGroup, GroupPlan, SensitiveSet
from oathbound.core.catalogue import is_whole, listed
from oathbound.core.claims import Verdict
from oathbound.core.errors import NothingExamined, Unavailable, WrongInput
from oathbound.core.finding import Finding
from oathbound.core.gates import Attempted, judge
from oathbound.core.groups import SUPPRESSED
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.shape import ExtensionModel, Vocabulary
from oathbound.core.study import Gate
from oathbound.evidence.keys import Secret
from oathbound.models.tokenizer import BIRTH, Tokenizer
from oathbound.models.transformer import build
from oathbound.testing.consortium import DISCLOSING, policy_for

LAST = dt.datetime.fromisoformat("2020-01-01")  # MEDS has no zone
YEAR = dt.timedelta(days=365.25)
FEW = CodeGroup(name="spanish", codes=("LANGUAGE//ES", "LANGUAGE//CA"))
GROUPS = GroupPlan(oldest=80, listed=(FEW,))
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, groups=GROUPS)
SEED = bytes(32)


def patient(number, *codes, age=50.0, static=()):
    facts = [*(Event(None, code, None) for code in static), Event(LAST - age * YEAR, BIRTH, None)]
    dated = (Event(LAST - i * YEAR / 4, code, None) for i, code in reversed(list(enumerate(codes))))
    return Patient(number, (*facts, *dated))


def crowd(first, *, old=0, spanish=0, others=0):
    kinds = [(85, ()), (50, ("LANGUAGE//CA",)), (50, ())]
    people = [
        (age, static)
        for (age, static), n in zip(kinds, (old, spanish, others), strict=True)
        for _ in range(n)
    ]
    return tuple(
        patient(first + i, "A", "B", age=age, static=static) for i, (age, static) in enumerate(people)
    )


class Whole:
    """A classifier that knows some patients by heart, and of some tells nothing."""

    tokens_pushed = 0

    def __init__(self, known=(), *, untold=(), seed=0):
        self.known, self.untold, self.seed = set(known), set(untold), seed

    def record_logprobs(self, patients):
        self.tokens_pushed += len(patients)
        noise = np.random.default_rng(self.seed).normal(size=3000)[[each.subject_id for each in patients]]
        bonus = [9.0 if each.subject_id in self.known else 0.0 for each in patients]
        scores = -20 + noise + bonus
        scores[[each.subject_id in self.untold for each in patients]] = np.nan
        return scores


class Given:
    """Reference models that exist already."""

    def __init__(self, *targets):
        self.targets = targets

    def references(self, people, rng):  # noqa: ARG002 - part of RefersTo; nothing is trained here
        if not self.targets:
            raise Unavailable("too few reference patients to train reference models on")
        return References(self.targets, tuple(people), np.ones((len(self.targets), len(people)), dtype=bool))


def aucs(measured):
    return {m.score: m for m in measured.measures if "auc" in {m.kind, getattr(m, "metric", "")}}


def test_the_first_rule_decides_and_everybody_is_in_one_group():
    plan = GroupPlan(
        oldest=80,
        rare=2,
        listed=(CodeGroup(name="first", codes=("X", "Y")), CodeGroup(name="x", codes=("X",))),
    )
    people = [
        patient(1, "A", "R", age=80),
        patient(2, "A", "R", "R", age=79.9),
        patient(3, "A", "X"),
        patient(4, "A", "X", "Y"),
        patient(5, "X"),
        patient(6, "A"),
        patient(7, "A", "Y"),
        patient(8, "Y"),
        Patient(9, (Event(LAST, "A", None),)),
    ]
    assert partition(people, plan) == [
        "oldest",
        "rare-code",  # two patients state R, and one of them twice
        *["first"] * 3,
        "others",
        *["first"] * 2,
        "others",  # nobody knows how old
    ]
    assert plan.names == ("oldest", "rare-code", "first", "x", "others")
    shuffled = np.random.default_rng(1).permutation(len(people))
    assert partition([people[i] for i in shuffled], plan) == [partition(people, plan)[i] for i in shuffled]


def test_without_the_rule_no_code_is_rare():
    assert partition([patient(1, "R", age=90), patient(2)], GroupPlan(oldest=80)) == ["oldest", "others"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "needs a rule"),
        ({"listed": []}, "needs a rule"),
        ({"rare": 0}, "rare"),
        ({"listed": [{"name": "others", "codes": ["A"]}]}, "twice, or one as"),
        ({"listed": [{"name": "rare-code", "codes": ["A"]}]}, "twice, or one as"),
        ({"rare": 3, "listed": [{"name": "a", "codes": ["A"]}, {"name": "a", "codes": ["B"]}]}, "twice"),
        ({"listed": [{"name": "a", "codes": []}]}, "codes"),
        ({"youngest": 3}, "unknown key"),
    ],
)
def test_a_partition_that_is_none_is_refused(table, said):
    with pytest.raises(WrongInput, match=said):
        GroupPlan.parse(table, what="[policy.audit.groups]")


def test_a_small_group_that_is_known_by_heart_shows_while_the_others_hide_it():
    members, held_out = crowd(0, old=40, others=400), crowd(1000, old=40, others=200)
    plan = PLAN.model_copy(update={"groups": GroupPlan(oldest=80)})
    measured = RareSubgroup().run(Whole(range(40)), AuditedPatients(members, held_out), plan, SEED)
    found = aucs(measured)
    assert found["oldest"].estimate == 1
    assert (found["oldest"].members, found["oldest"].held_out) == (40, 40)
    assert Decimal("0.4") < found["others"].estimate < Decimal("0.6")
    assert [m.score for m in measured.measures if m.kind == "baseline"] == ["records"]
    assert measured.tokens == 1024  # a power of two above 680 records


def test_a_hidden_group_takes_the_smallest_with_it_and_nobody_says_which_is_which():
    members, held_out = crowd(0, old=60, spanish=12, others=200), crowd(500, old=50, spanish=90, others=100)
    measured = RareSubgroup().run(Whole(), AuditedPatients(members, held_out), PLAN, SEED)
    found = aucs(measured)
    assert {name: m.kind for name, m in found.items()} == {
        "oldest": "not-measurable",
        "spanish": "not-measurable",
        "others": "auc",
    }
    assert found["oldest"].reason == found["spanish"].reason == SUPPRESSED
    assert not any(character.isdigit() for character in found["spanish"].model_dump_json())


def test_hidden_groups_of_other_sizes_are_reported_alike():
    said = set()
    for old, spanish in ((3, 57), (57, 3), (30, 30)):
        members, held_out = (
            (*crowd(first, old=old, spanish=spanish), *crowd(first + 100, others=200)) for first in (0, 1000)
        )
        measured = RareSubgroup().run(Whole(), AuditedPatients(members, held_out), PLAN, SEED)
        said.add((*aucs(measured).values(), measured.tokens))
    assert len(said) == 1


def test_a_gate_is_undecided_while_a_group_is_too_small():
    gate = Gate(test="rare-subgroup", metric="auc", at_most=Decimal("0.9"))

    def verdict(**few):
        patients = AuditedPatients(crowd(0, **few, others=300), crowd(900, **few, others=300))
        return judge((gate,), PLAN, ("north",), [Attempted(finding(patients), 1)])

    assert verdict(old=60, spanish=60).verdict is Verdict.PASS
    undecided = verdict(old=60, spanish=5)
    assert undecided.verdict is Verdict.INCONCLUSIVE
    assert "not measurable: too few patients" in undecided.sentence


def finding(patients, test=None, target=None, plan=PLAN):
    test = test or RareSubgroup()
    return Finding(
        test=test.id,
        version=test.version,
        site="north",
        model="sha256:" + "a" * 64,
        seed="sha256:" + "0" * 64,
        threat=test.threat,
        outcome=test.run(target or Whole(), patients, plan, SEED),
    )


PATIENTS = AuditedPatients(
    crowd(0, old=45, spanish=45, others=60),
    crowd(1000, old=45, spanish=45, others=60),
    crowd(2000, others=60),
)


def test_whom_the_model_tells_nothing_of_is_in_no_group():
    untold = Whole(untold=range(3, 45))  # members of the oldest group
    found = aucs(RareSubgroup().run(untold, PATIENTS, PLAN, SEED))
    assert found["oldest"].kind == "not-measurable"
    with pytest.raises(NothingExamined, match="too little"):
        RareSubgroup().run(Whole(untold=range(9999)), PATIENTS, PLAN, SEED)


def test_with_references_the_score_is_the_difference_to_them():
    same = RareSubgroup(Given(Whole(seed=0))).run(Whole(range(45)), PATIENTS, PLAN, SEED)
    found = aucs(same)
    assert found["oldest"].estimate == 1  # the noise, which both have, is gone
    assert found["others"].reason == "the scores have no spread"
    assert [m.score for m in same.measures if m.kind == "baseline"] == ["records", "references"]


def test_without_the_references_that_it_was_promised_it_does_not_run():
    with pytest.raises(Unavailable, match="too few reference patients"):
        RareSubgroup(Given()).run(Whole(), PATIENTS, PLAN, SEED)


def test_without_groups_there_is_nothing_to_examine():
    with pytest.raises(NothingExamined, match="names no groups"):
        RareSubgroup().run(Whole(), PATIENTS, PLAN.model_copy(update={"groups": None}), SEED)
    assert BATTERY["rare-subgroup"].id == "rare-subgroup"


SENSITIVE = SensitiveSet(
    name="illness", codes=("B",), implied_by=(), prompt_events=1, horizon=8, chains=2, ladder=None
)
TOKENIZER = Tokenizer(
    Vocabulary(codes=("A", "B"), edges={}, ages=(Decimal(80),), gaps=(Decimal(2),)),
)


@pytest.fixture
def own():
    torch.set_num_threads(1)
    shape = Architecture(name="event-transformer", layers=1, width=16, heads=2, length=12, seed=1)
    return EventTarget(build(shape, TOKENIZER.size), TOKENIZER)


def varied(first, n, *, old, carriers):
    """People of whom the first few state B, after a number of other events that differs."""
    return tuple(
        patient(first + i, *(["B"] if i < carriers else []), *["A"] * (1 + i % 3), age=90 if old else 50)
        for i in range(n)
    )


def test_of_a_model_that_says_codes_each_group_of_enough_carriers_has_an_excess(own):
    plan = PLAN.model_copy(
        update={
            "sensitive": SENSITIVE,
            "groups": GroupPlan(oldest=80, listed=(CodeGroup(name="spared", codes=("NOBODY",)),)),
        }
    )
    patients = AuditedPatients(
        (*varied(0, 60, old=True, carriers=50), *varied(100, 80, old=False, carriers=60)),
        (*varied(200, 60, old=True, carriers=50), *varied(300, 80, old=False, carriers=60)),
    )
    measured = RareSubgroup().run(own, patients, plan, SEED)
    said = {(getattr(m, "metric", m.kind), m.score): m.kind for m in measured.measures}
    assert said["excess", "others"] == "excess"
    assert said["excess", "oldest"] == said["excess", "spared"] == "not-measurable"  # it would give it away
    assert said["auc", "oldest"] == said["auc", "spared"] == "not-measurable"
    fewer = plan.model_copy(update={"groups": GroupPlan(oldest=80)})
    (old,) = (
        m
        for m in RareSubgroup().run(own, patients, fewer, SEED).measures
        if m.score == "oldest" and m.kind == "excess"
    )
    assert (old.members, old.held_out) == (50, 50)
    assert abs(old.estimate) < 4 * old.standard_error
    assert RareSubgroup().run(own, patients, fewer, SEED) == RareSubgroup().run(own, patients, fewer, SEED)


POLICY = policy_for([Secret.generate(name) for name in ("coordinator", "north", "east")], audit=DISCLOSING)


def planned(**changed):
    return POLICY.model_copy(
        update={
            "audit": POLICY.audit.model_copy(update={"groups": GROUPS, "minimum_patients": 20}),
            **changed,
        }
    )


def test_a_finding_about_every_group_of_the_policy_is_whole_and_one_without_a_group_is_not():
    forest = planned(
        model=ExtensionModel(name="forest", options={}, seed=POLICY.model.seed),
        drawing=POLICY.drawing.model_copy(update={"reference": Decimal(0)}),
    )
    own = listed("rare-subgroup", forest)
    assert own.metrics == {"auc": set(GROUPS.names), "baseline": {"records"}}
    made = finding(PATIENTS)
    assert is_whole(made, forest)
    fewer = made.outcome.model_copy(update={"measures": made.outcome.measures[:-1]})
    assert not is_whole(made.model_copy(update={"outcome": fewer}), forest)
    assert listed("rare-subgroup", POLICY) is None


def test_a_model_of_sequences_with_something_sensitive_tells_of_excesses_too():
    assert listed("rare-subgroup", planned()).metrics["excess"] == set(GROUPS.names)


@pytest.mark.parametrize(
    ("reference", "refers_to", "kinds"),
    [
        ("0", None, {"baseline", "auc"}),
        ("0.2", Given(Whole(seed=1)), {"baseline", "auc"}),
        ("0.2", Given(), "too few reference patients to train reference models on"),
    ],
)
def test_a_battery_runs_it_where_the_policy_has_groups(reference, refers_to, kinds):
    forest = planned(
        model=ExtensionModel(name="forest", options={}, seed=POLICY.model.seed),
        drawing=POLICY.drawing.model_copy(update={"reference": Decimal(reference)}),
    )
    assert "rare-subgroup" in battery_of(forest)
    assert "rare-subgroup" not in battery_of(POLICY)
    digest = "sha256:" + "a" * 64
    findings = run_battery(
        Whole(), PATIENTS, forest, site="north", model=digest, nonce=digest, refers_to=refers_to
    )
    (outcome,) = (each.outcome for each in findings if each.test == "rare-subgroup")
    said = {m.kind for m in outcome.measures} if outcome.kind == "measured" else outcome.reason
    assert said == kinds
