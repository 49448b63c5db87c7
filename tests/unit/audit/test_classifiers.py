from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.adapters.own import RowTarget, target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.catalog import membership
from oathbound.audit.target import AuditedPatients
from oathbound.core.canonical import digest
from oathbound.core.catalogue import check_gates, is_whole
from oathbound.core.errors import WrongInput
from oathbound.core.finding import Finding
from oathbound.core.patient import Event, Patient
from oathbound.core.study import Policy
from oathbound.models.family import family_of

DIGEST = digest(b"model")
FEATURES = {
    "present": ["f"],
    "numbers": [{"code": "n", "centre": "0", "scale": "1", "missing": []}],
    "label": {"code": "ill"},
}
GATE = {"test": "membership", "metric": "auc", "at_most": "0.55"}


def policy(**changes):
    plain = {
        "study": "one",
        "purpose": "test",
        "coordinator": {"name": "c", "fingerprint": digest(b"c")},
        "sites": [{"name": name, "fingerprint": digest(name.encode())} for name in ("s0", "s1")],
        "min_sites": 2,
        "colluding": 0,
        "dishonest_witnesses": 0,
        "aggregator": "secure-sum",
        "privacy": "none",
        "consent": {
            "training_purpose": "HRESCH",
            "audit_purpose": "HQUALIMP",
            "classes": [],
            "staleness_hours": 1,
        },
        "drawing": {"window": ["0", "1"], "held_out": "0.5", "reference": "0"},
        "features": FEATURES,
        "model": {"name": "tabular-net", "hidden": [8], "seed": 1},
        "training": {
            "members": 100,
            "sampling_rate": "0.5",
            "steps": 1,
            "attempts": 1,
            "round_steps": 1,
            "learning_rate": "0.1",
            "warmup": 0,
            "ring_norm": 1024,
            "clip": "1",
        },
        "audit": {"alpha": "0.05", "minimum_patients": 10},
        "gates": [GATE],
    }
    return Policy.parse({**plain, **changes}, what="policy")


def people(first, n, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        Patient(
            first + i,
            (
                Event(None, "n", float(rng.normal())),
                *(Event(None, code, None) for code in ("f", "ill") if rng.random() < 0.5),
            ),
        )
        for i in range(n)
    )


PATIENTS = AuditedPatients(people(0, 80), people(1000, 70, seed=1))


@pytest.fixture
def target():
    torch.set_num_threads(1)
    family = family_of(policy())
    return target_of(family.model, family.encoder)


def findings(target, **changes):
    return run_battery(target, PATIENTS, policy(**changes), site="s0", model=DIGEST, nonce=DIGEST)


def test_the_score_is_the_log_probability_of_the_label(target):
    scores = target.record_logprobs(PATIENTS.members)
    assert scores.dtype == np.float64
    rows = torch.from_numpy(target._encoder.encode_all(PATIENTS.members))
    odds = target._model(rows[:, :-1]).detach().double().numpy()
    chance = 1 / (1 + np.exp(-odds))
    expected = np.log(np.where(rows[:, -1] == 1, chance, 1 - chance))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_classifier_is_measured_by_its_loss_and_says_no_codes(target):
    found = {finding.test: finding for finding in findings(target)}
    assert {(m.kind, m.score) for m in found["membership"].outcome.measures} == {
        ("auc", "loss"),
        ("not-measurable", "loss"),
        ("tail", "loss"),
        ("not-measurable", "records"),  # fewer than forty in half of a group
    }
    assert found["membership"].outcome.tokens > 0
    assert set(found) == {"membership"}, "the others are for models of codes, and no gate asks for them"
    assert all(is_whole(finding, policy()) for finding in found.values())


def test_a_finding_with_a_score_left_out_or_put_in_is_not_whole(target):
    finding = next(finding for finding in findings(target) if finding.test == "membership")
    plain = finding.plain()
    plain["outcome"]["measures"] = plain["outcome"]["measures"][:1]
    assert not is_whole(Finding.parse(plain, what="finding"), policy())
    plain = finding.plain()
    plain["outcome"]["measures"].append({**plain["outcome"]["measures"][0], "score": "min-k"})
    assert not is_whole(Finding.parse(plain, what="finding"), policy())


def test_gates_are_those_that_a_classifier_can_meet():
    check_gates(policy())
    for gate, said in (
        ({"test": "sensitive-disclosure", "metric": "excess", "at_most": "0.01"}, "cannot be measured"),
        ({"test": "membership", "metric": "excess", "at_most": "0.01"}, "does not measure excess"),
        ({"test": "clairvoyance", "metric": "auc", "at_most": "0.5"}, "no audit test is called"),
    ):
        with pytest.raises(WrongInput, match=said) as refused:
            check_gates(policy(gates=[gate]))
        assert refused.value.hint


def test_a_gate_on_an_extensions_test_is_what_the_policy_says_it_measures():
    extension = {
        "group": "audits",
        "name": "probe",
        "distribution": "probe",
        "version": "1",
        "digest": digest(b"probe"),
        "measures": {"auc": ["depth"]},
    }
    gate = {"test": "probe", "metric": "auc", "at_most": "0.55"}
    check_gates(policy(gates=[gate], extensions=[extension]))
    with pytest.raises(WrongInput, match="does not measure excess"):
        check_gates(policy(gates=[gate | {"metric": "excess"}], extensions=[extension]))


@dataclass
class Broken:
    whole: RowTarget
    fault: str
    tokens_pushed: int = 0

    def record_logprobs(self, patients):
        scores = self.whole.record_logprobs(patients)
        if self.fault == "nan":
            scores[0] = np.nan
        if self.fault == "above":
            scores += 5
        if self.fault == "batch":
            scores -= len(patients)
        return scores


@pytest.mark.parametrize(
    ("fault", "said"), [("nan", "differently"), ("above", "above 1"), ("batch", "in a batch")]
)
def test_incoherent_answers_are_refused(target, fault, said):
    for finding in findings(Broken(target, fault)):
        assert said in finding.outcome.reason


@dataclass
class Remembering:
    whole: RowTarget
    records: frozenset
    tokens_pushed: int = 0

    def record_logprobs(self, patients):
        known = np.array([patient.subject_id in self.records for patient in patients])
        return self.whole.record_logprobs(patients) * np.where(known, 0.5, 1)


def test_a_model_that_remembers_its_members_is_told_from_one_that_does_not(target):
    members = frozenset(patient.subject_id for patient in PATIENTS.members)
    for records, remembered in ((members, True), (frozenset(), False)):
        outcome = membership.TEST.run(Remembering(target, records), PATIENTS, policy().audit, bytes(32))
        area = next(measure for measure in outcome.measures if measure.kind == "auc")
        assert (area.estimate > Decimal("0.5") + 4 * area.standard_error) == remembered
