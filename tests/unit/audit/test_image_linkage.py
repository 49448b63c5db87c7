"""Two recordings of a person: how surely a representation links them, among members or among others."""

from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("torch", reason="the audit's models are an extra")

from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.catalog.image_linkage import TEST, linked
from oathbound.audit.target import AuditedPatients, RecordingTarget
from oathbound.core.audit_plan import AuditPlan, LinkagePlan
from oathbound.core.canonical import digest
from oathbound.core.catalogue import check_gates, is_whole
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.gates import Attempted, judge
from oathbound.core.patient import Event, Patient
from oathbound.evidence.keys import Secret
from oathbound.models.family import family_of
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=10, linkage=LinkagePlan(gallery=60))
SEED = bytes(range(32))
SCORES = ["verification", "verification-of-values"]


class Remembers:
    """Represents a recording by noise, and what it knows by the person in the first number."""

    def __init__(self, known=()):
        self.known = {patient.subject_id for patient in known}
        self.tokens_pushed, self.rng = 0, np.random.default_rng(1)

    def record_logprobs(self, patients):
        return np.zeros(len(patients))

    def recordings(self, patient):
        return np.stack([event.frame for event in patient.events]).astype(float)

    def represent(self, recordings):
        self.tokens_pushed += len(recordings)
        noise = self.rng.normal(size=(len(recordings), 30))
        for place, row in enumerate(recordings):
            if int(row[0]) in self.known:
                own = np.random.default_rng(int(row[0])).normal(size=30)
                noise[place] = own + noise[place] / 4
        return noise


def people(first, count, *, each=3, alike=0.0):
    """Each with recordings that say who it is first, which are otherwise more or less alike."""
    rng = np.random.default_rng(first)
    found = []
    for number in range(first, first + count):
        own = alike * rng.normal(size=20)
        frames = [np.append(number, own + rng.normal(size=20)) for _ in range(each)]
        found.append(Patient(number, tuple(Event(None, "A", None, frame) for frame in frames)))
    return tuple(found)


def measured(target, patients, plan=PLAN):
    return {each.score: each for each in TEST.run(target, patients, plan, SEED).measures}


def test_a_model_that_remembers_its_members_links_them_and_nobody_else():
    patients = AuditedPatients(people(1, 80), people(1000, 90))
    found = measured(Remembers(patients.members), patients)
    assert found["verification"].member_mean == 1
    assert found["verification"].estimate > Decimal("0.3")
    assert abs(found["verification-of-values"].estimate) < Decimal("0.15")
    assert {each.members for each in found.values() if each.kind == "excess"} == {60}, (
        "as many of each as the plan says"
    )


def test_what_recordings_give_away_by_themselves_is_no_excess():
    patients = AuditedPatients(people(1, 60, alike=1.2), people(1000, 50, alike=1.2))
    found = measured(Remembers(), patients)
    assert found["verification-of-values"].member_mean > Decimal("0.9")
    assert found["verification-of-values"].held_out_mean > Decimal("0.9")
    assert abs(found["verification"].estimate) < Decimal("0.2")
    assert {each.members for each in found.values() if each.kind == "excess"} == {50}, (
        "the smaller group's size is both's"
    )


def test_groups_whose_recordings_differ_are_told_apart_by_the_baseline():
    patients = AuditedPatients(people(1, 60, alike=3), people(1000, 60))
    found = measured(Remembers(), patients)
    assert found["recordings"].kind == "baseline"
    assert found["recordings"].estimate > Decimal("0.8")


def test_the_same_seed_finds_the_same():
    patients = AuditedPatients(people(1, 50), people(1000, 50))
    assert measured(Remembers(), patients) == measured(Remembers(), patients)


def test_few_are_not_measured_and_one_recording_each_is_a_reason():
    few = AuditedPatients(people(1, 50), people(1000, 30))
    assert {each.kind for each in measured(Remembers(), few).values()} == {"not-measurable"}
    single = AuditedPatients(people(1, 50), people(1000, 50, each=1))
    with pytest.raises(NothingExamined, match="one recording per patient"):
        measured(Remembers(), single)
    with pytest.raises(NothingExamined, match="links no recordings"):
        measured(Remembers(), few, PLAN.model_copy(update={"linkage": None}))
    with pytest.raises(NothingExamined, match="sees no recordings"):
        measured(object(), few)


def test_pairs_are_counted_as_they_are_by_hand():
    """Three people on a line of angles: the third's probe is nearer to the second's gallery than its own."""
    angles = np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 1.4]])
    found = linked(np.stack([np.cos(angles), np.sin(angles)], axis=2))
    assert found.tolist() == [1, 1, 0.5]
    assert linked(np.ones((3, 2, 4))).tolist() == [0.5] * 3
    assert linked(np.zeros((3, 2, 4))).tolist() == [0.5] * 3


def policy(**changes):
    seen = {"shape": [6, 8], "most": 3, "centre": "0", "scale": "1", "classes": ["A", "B"]}
    facts = {
        "vocabulary": None,
        "recordings": seen,
        "model": {"name": "scan-net", "widths": [4], "seed": 1},
        "audit": {"alpha": "0.05", "minimum_patients": 10, "linkage": {"gallery": 50}},
        "gates": [{"test": "image-linkage", "metric": "excess", "at_most": "0.5"}],
    }
    return policy_for(SECRETS, **facts | changes)


def scanned(first, count):
    rng = np.random.default_rng(first)
    return tuple(
        Patient(
            number,
            tuple(
                Event(None, code, None, rng.normal(size=(6, 8)).astype(np.float32))
                for code in ("A", "other", "B")
            ),
        )
        for number in range(first, first + count)
    )


def test_a_battery_runs_it_and_gates_judge_the_model_s_scores_alone():
    asked = policy()
    family = family_of(asked)
    target = target_of(family.model, family.encoder)
    assert isinstance(target, RecordingTarget)
    patients = AuditedPatients(scanned(1, 50), scanned(100, 50))
    findings = run_battery(
        target, patients, asked, site="north", model=digest(b"model"), nonce=digest(b"nonce")
    )
    finding = next(each for each in findings if each.test == "image-linkage")
    assert is_whole(finding, asked)
    assert sorted(each.score for each in finding.outcome.measures) == sorted([*SCORES, "recordings"])
    judgement = judge(asked.gates, asked.audit, ("north",), [Attempted(finding, 1)])
    assert {claim.score for claim in judgement.claims} == {"verification"}


def test_what_the_last_layer_sees_gives_the_model_s_answer():
    family = family_of(policy())
    target = target_of(family.model, family.encoder)
    patient = scanned(1, 1)[0]
    recordings = target.recordings(patient)
    assert recordings.shape == (2, 48), "one is of no class"
    weights = {name: value.detach().numpy() for name, value in family.model.named_parameters()}
    odds = target.represent(recordings) @ weights["head.weight"].T + weights["head.bias"]
    shifted = odds - odds.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert target.record_logprobs([patient])[0] == pytest.approx(
        (logprobs[0, 0] + logprobs[1, 1]) / 2, abs=1e-5
    )


def test_it_is_for_models_of_recordings_alone_and_needs_its_table():
    with pytest.raises(WrongInput, match="linkage is for models of recordings"):
        policy_for(SECRETS, audit={"alpha": "0.05", "minimum_patients": 10, "linkage": {"gallery": 50}})
    with pytest.raises(WrongInput, match="cannot be measured"):
        check_gates(policy(audit={"alpha": "0.05", "minimum_patients": 10}))
