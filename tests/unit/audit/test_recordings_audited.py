"""A model of scans is measured by its loss, as a classifier is, also where its records lie on a shelf."""

import numpy as np
import pytest
import torch

from oathbound.audit.adapters import own
from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.references import Trained
from oathbound.audit.target import AuditedPatients
from oathbound.core.canonical import digest
from oathbound.core.catalogue import check_gates, is_whole
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.study import Policy
from oathbound.data.columns import of_patients
from oathbound.data.shelf import Shelf
from oathbound.evidence.keys import Secret
from oathbound.models.family import family_of
from oathbound.testing.consortium import policy_for

DIGEST = digest(b"model")
SCANS = {"shape": [6, 8], "most": 3, "centre": "128", "scale": "64", "classes": ["scan//ill", "scan//well"]}
SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
CODES = ("scan//ill", "scan//well", "scan//unclear")


def policy(**changes) -> Policy:
    return policy_for(
        SECRETS,
        **{
            "vocabulary": None,
            "recordings": SCANS,
            "model": {"name": "scan-net", "widths": [4], "seed": 1},
            "audit": {"alpha": "0.05", "minimum_patients": 10},
            "gates": [{"test": "membership", "metric": "auc", "at_most": "0.55"}],
        }
        | changes,
    )


def people(first, n, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        Patient(
            first + i,
            tuple(
                Event(None, CODES[rng.integers(3)], None, rng.integers(256, size=(6, 8)).astype(np.uint8))
                for _ in range(rng.integers(1, 6))
            ),
        )
        for i in range(n)
    )


MEMBERS, HELD_OUT = people(0, 60), people(1000, 60, seed=1)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def audited(folder, reference=()):
    shelf = Shelf.of([of_patients((*MEMBERS, *HELD_OUT, *reference))], folder)
    parts = {"members": MEMBERS, "held_out": HELD_OUT, "reference": reference}
    ids = {name: [one.subject_id for one in part] for name, part in parts.items()}
    return AuditedPatients(**{name: shelf.those(subjects) for name, subjects in ids.items()})


def findings(patients, planned, **more):
    family = family_of(planned)
    target = target_of(family.model, family.encoder)
    return run_battery(target, patients, planned, site="north", model=DIGEST, nonce=DIGEST, **more)


def test_a_score_is_the_mean_log_probability_of_the_labelled(monkeypatch):
    family = family_of(policy())
    target = target_of(family.model, family.encoder)
    scores = target.record_logprobs(MEMBERS)
    rows = family.encoder.encode_all(MEMBERS)
    expected = -family.model.losses(torch.from_numpy(rows)).detach().double().numpy()
    unlabelled = np.isnan(rows[..., -1]).all(axis=1)
    assert 0 < unlabelled.sum() < 30
    np.testing.assert_allclose(scores, np.where(unlabelled, np.nan, expected), atol=1e-6)
    monkeypatch.setattr(own, "_AT_ONCE", 7 * family.encoder.size)
    np.testing.assert_allclose(target.record_logprobs(MEMBERS), scores, atol=1e-6)


def test_membership_is_whole_and_the_only_test(tmp_path):
    found = findings(audited(tmp_path), policy())
    assert [finding.test for finding in found] == ["membership"]
    assert is_whole(found[0], policy())
    area = next(measure for measure in found[0].outcome.measures if measure.kind == "auc")
    assert (area.score, area.members) == ("loss", 55), "those with a label, rounded"


def test_reference_models_see_scans_too(tmp_path):
    drawing = {"window": ["0", "1"], "held_out": "0.3", "reference": "0.3"}
    planned = policy(drawing=drawing)
    refers_to = Trained(family_of(planned), planned.training.model_copy(update={"steps": 3}))
    (found,) = findings(audited(tmp_path, people(5000, 60, seed=2)), planned, refers_to=refers_to)
    assert is_whole(found, planned)
    scores = {measure.score for measure in found.outcome.measures if measure.kind == "auc"}
    assert scores == {"loss", "lira", "reference-difference", "rmia"}


def test_tests_of_codes_are_not_for_models_of_scans():
    with pytest.raises(WrongInput, match="cannot be measured"):
        check_gates(policy(gates=[{"test": "sensitive-disclosure", "metric": "excess", "at_most": "0.01"}]))


def test_records_without_scans_are_a_reason_and_no_traceback():
    without = AuditedPatients(
        *(tuple(Patient(s, (Event(None, "scan//ill", None),)) for s in range(n, n + 50)) for n in (0, 90))
    )
    (found,) = findings(without, policy())
    assert "without recordings" in found.outcome.reason
