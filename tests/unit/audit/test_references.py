"""Reference models: trained on nobody evaluated, by the plan; the scores of tier 1 by their definitions."""

import copy
import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit import references
from oathbound.audit.adapters.own import target_of
from oathbound.audit.catalog import membership
from oathbound.audit.catalog.membership import Likelihood, Membership, tier_1
from oathbound.audit.references import LEAST_PEOPLE, References, Supplied, Trained, trained
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import Unavailable
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer, Features, TabularNet, Vocabulary
from oathbound.core.training_plan import Training
from oathbound.hazmat.ring import encode
from oathbound.models import tabular, transformer
from oathbound.models.family import Family, Sequences
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import flat
from oathbound.models.tokenizer import Tokenizer
from oathbound.train.descent import Descent
from oathbound.train.local_steps import local_change, to_ring
from oathbound.train.plan import Plan
from oathbound.workflow.members import Members

TOKENIZER = Tokenizer(Vocabulary(codes=("A", "B", "C"), edges={}, ages=(), gaps=()))
SHAPE = EventTransformer(name="event-transformer", layers=1, width=8, heads=2, length=12, seed=1)
TRAINING = Training(
    members=60,
    sampling_rate=Decimal("0.2"),
    steps=30,
    attempts=30,
    round_steps=30,
    learning_rate=Decimal("0.02"),
    warmup=4,
    ring_norm=1024,
    clip=Decimal(1),
)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20)
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def family():
    return Family(transformer.build(SHAPE, TOKENIZER.size), Sequences(TOKENIZER, SHAPE.length))


def people(first, n):
    rng = np.random.default_rng(first)
    return tuple(
        Patient(first + i, tuple(Event(FIRST, str(code), None) for code in rng.choice([*"ABC"], 5)))
        for i in range(n)
    )


@pytest.mark.parametrize(("count", "asked"), [(1, 30), (2, 61), (4, 61)])
def test_whom_a_model_is_said_not_to_have_seen_it_was_not_trained_on(family, monkeypatch, count, asked):
    given, monkey = [], people(5000, 61)
    monkeypatch.setattr(references, "trained", lambda model, rows, *_: given.append(rows) or model)
    found = Trained(family, TRAINING, count).references(monkey, np.random.default_rng(0))
    assert found.unseen.shape == (count, len(found.people))
    assert abs(len(found.people) - asked) <= 1
    assert found.unseen.any(axis=0).all()
    for rows, unseen in zip(given, found.unseen, strict=True):
        left_out = {one.subject_id for one, new in zip(found.people, unseen, strict=True) if new}
        read = tuple(one for one in monkey if one.subject_id not in left_out)
        np.testing.assert_array_equal(rows, family.encoder.encode_all(read))
        assert len(left_out) == pytest.approx(61 / max(count, 2), abs=1)


def test_the_learning_rate_is_the_plans():
    plan = Plan("sha256:" + "0" * 64, ("a", "b"), TRAINING, 1, privacy=None)
    for step in range(1, TRAINING.steps + 1):
        assert references._rate(TRAINING, step) == pytest.approx(plan.learning_rate(step))


def test_a_training_repeats_learns_and_leaves_the_model_it_began_with(family):
    before = flat(family.model)
    rows = family.encoder.encode_all(people(0, 50))
    first, again = (trained(family.model, rows, TRAINING, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(flat(first), flat(again))
    np.testing.assert_array_equal(flat(family.model), before)
    shown = torch.from_numpy(rows)
    assert first.losses(shown).mean() < 0.8 * family.model.losses(shown).mean()


@pytest.mark.parametrize(
    ("algorithm", "rate", "warmup"), [("fedavg", "1", 0), ("fedprox", "1", 0), ("fedadam", "0.1", 2)]
)
def test_local_steps_are_those_of_a_training_with_one_site(algorithm, rate, warmup):
    """Everybody is in each step, so nothing is left to chance but the order of a sum."""
    rows = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    rows[:, -1] = rows[:, 0] > 0
    more = {"proximal": "0.5"} if algorithm == "fedprox" else {}
    said = {"sampling_rate": "1", "steps": 4, "learning_rate": rate, "warmup": warmup, "clip": "9"}
    said["local"] = {"algorithm": algorithm, "steps": 3, "learning_rate": "0.4", **more}
    agreed = Training.parse({**TRAINING.plain(), **said}, what="training")
    model = tabular.build(TabularNet(name="tabular-net", hidden=(4,), seed=1), 4)
    plan = Plan("sha256:" + "0" * 64, ("a",), agreed, len(flat(model)), privacy=None)
    descent = Descent(plan=plan, run=plan.policy, weights=flat(model))
    everybody = Members(rows, np.arange(len(rows)))
    own = copy.deepcopy(model)
    while not descent.finished:
        change = local_change(own, descent.begin().weights, everybody, agreed, agreed.local)
        descent.take(encode(to_ring(change, len(rows), plan)))
    reference = trained(model, rows, agreed, np.random.default_rng(0))
    np.testing.assert_allclose(flat(reference), descent.weights, atol=2e-4)
    gone = np.abs(descent.weights - flat(model)).max()
    assert gone > 0.05
    other = agreed.model_copy(update={"local": agreed.local.model_copy(update={"steps": 2})})
    shorter = trained(model, rows, other, np.random.default_rng(0))
    assert np.abs(flat(shorter) - descent.weights).max() > 2e-3


def test_where_there_can_be_no_reference_models(family):
    rng = np.random.default_rng(0)
    with pytest.raises(Unavailable, match="too few") as caught:
        Trained(family, TRAINING).references(people(0, LEAST_PEOPLE - 1), rng)
    assert not any(letter.isdigit() for letter in str(caught.value))
    wild = TRAINING.model_copy(update={"learning_rate": Decimal("1e30")})
    with pytest.raises(Unavailable, match="diverged"):
        Trained(family, wild).references(people(0, LEAST_PEOPLE), rng)
    for supplied, whom in ((Supplied(()), people(0, 3)), (Supplied((target_of(*vars_of(family)),)), ())):
        with pytest.raises(Unavailable, match="no reference"):
            supplied.references(whom, rng)
    with pytest.raises(ValueError, match="reference models"):
        Trained(family, TRAINING, 5)


def vars_of(family):
    return family.model, family.encoder


@dataclass
class Table:
    """A model that sees records as a whole and says of each what a table says."""

    logprobs: dict
    tokens_pushed: int = field(default=0)

    def record_logprobs(self, patients):
        return np.array([self.logprobs[one.subject_id] for one in patients])


def test_scores_of_tier_1_are_what_their_papers_say():
    rng = np.random.default_rng(3)
    x, z = people(0, 20), people(100, 15)
    target, *refs = (
        Table({p.subject_id: np.log(rng.uniform(0.05, 0.9)) for p in (*x, *z)}) for _ in range(4)
    )
    unseen = rng.random((3, 15)) < 0.6
    unseen[0] |= ~unseen.any(axis=0)
    own, *others = (model.record_logprobs(x) for model in (target, *refs))
    told = [Likelihood(logs, logs - np.log1p(-np.exp(logs))) for logs in (own, *others)]
    scores = tier_1(target, told[0], told[1:], References(tuple(refs), z, unseen))
    for i in range(len(x)):
        p, others_p = np.exp(own[i]), np.exp([each[i] for each in others])
        assert scores["reference-difference"][i] == pytest.approx(np.log(p) - np.log(others_p).mean())
        logit = np.log(p / (1 - p)) - np.log(others_p / (1 - others_p)).mean()
        assert scores["lira"][i] == pytest.approx(logit)
        beaten = 0
        for j, one in enumerate(z):
            strangers = [
                np.exp(r.record_logprobs([one])[0]) for r, new in zip(refs, unseen[:, j], strict=True) if new
            ]
            beaten += p / others_p.mean() >= np.exp(target.record_logprobs([one])[0]) / np.mean(strangers)
        assert scores["rmia"][i] == pytest.approx(beaten / len(z))


def test_a_patient_without_a_label_has_no_score_and_is_no_yardstick():
    x, z = people(0, 3), people(100, 4)
    nothing = {x[0].subject_id: np.nan, z[0].subject_id: np.nan}
    models = [Table({p.subject_id: -0.1 * k for p in (*x, *z)} | nothing) for k in (1, 2)]
    own, other = (Likelihood(logs, logs) for logs in (model.record_logprobs(x) for model in models))
    scores = tier_1(models[0], own, [other], References((models[1],), z, np.ones((1, 4), bool)))
    for values in scores.values():
        assert np.isnan(values[0])
        assert np.isfinite(values[1:]).all()
    empty = tier_1(models[0], own, [other], References((models[1],), z[:1], np.ones((1, 1), bool)))
    assert np.isnan(empty["rmia"]).all()


def kinds(outcome):
    return {  # of each metric and score
        (getattr(m, "metric", m.kind), m.score): m.kind for m in outcome.measures
    }


def test_six_scores_with_references_and_otherwise_why_not(family):
    patients = AuditedPatients(people(0, 80), people(1000, 70), people(2000, 60))
    target = target_of(*vars_of(family))
    plain = membership.TEST.run(target, patients, PLAN, bytes(32))
    test = Membership(Trained(family, TRAINING, 2))
    whole, again = (test.run(target, patients, PLAN, bytes(32)) for _ in range(2))
    assert whole == again
    assert {m for m in plain.measures if m.kind != "tail"} <= set(whole.measures)
    names = {"loss", "min-k", "min-k-plus-plus", *membership.TIER_1}
    blind = {("baseline", "records"), ("baseline", "references")}
    assert set(kinds(whole)) == blind | {
        (metric, name) for metric in ("auc", "tpr-at-1-percent", "tail") for name in names
    }
    assert all(kinds(whole)["auc", name] == "auc" for name in names)
    without = AuditedPatients(patients.members, patients.held_out)
    outcome = test.run(target, without, PLAN, bytes(32))
    assert {m for m in plain.measures if m.kind != "tail"} <= set(outcome.measures)
    assert kinds(outcome).keys() == kinds(whole).keys()
    assert all(
        "too few reference patients" in m.reason for m in outcome.measures if m.score in membership.TIER_1
    )


def test_a_classifier_has_its_own_reference_models():
    features = Features.parse(
        {
            "present": ["A"],
            "numbers": [],
            "label": {"code": "B"},
        },
        what="features",
    )
    family = Family(
        tabular.build(TabularNet(name="tabular-net", hidden=(4,), seed=1), features.width),
        FeatureEncoder(features),
    )
    patients = AuditedPatients(people(0, 60), people(1000, 60), people(2000, 60))
    outcome = Membership(Trained(family, TRAINING)).run(
        target_of(*vars_of(family)), patients, PLAN, bytes(32)
    )
    assert {score for _, score in kinds(outcome)} == {"loss", "records", "references", *membership.TIER_1}
