"""Both tests in the battery, on one of our models: whole findings that repeat, or the reason why not."""

import datetime as dt

import numpy as np
import pytest

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.battery import run_battery, run_tests
from oathbound.audit.target import AuditedPatients
from oathbound.core.catalogue import is_whole
from oathbound.core.patient import Event, Patient
from oathbound.evidence.keys import Secret
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
CODES = ["A", "B", "F", "M", "S"]
POLICY = policy_for(
    SECRETS,
    vocabulary={"codes": CODES, "edges": {}, "ages": [], "gaps": []},
    drawing={"window": ["0", "1"], "held_out": "0.3", "reference": "0.2"},
    audit={
        "alpha": "0.05",
        "minimum_patients": 20,
        "sensitive": {
            "name": "s",
            "codes": ["S"],
            "implied_by": [],
            "prompt_events": 2,
            "horizon": 2,
            "chains": 1,
        },
        "probe": {"prompt_events": 2},
        "attributes": [{"name": "sex", "codes": ["F", "M"]}],
    },
)
DIGEST = "sha256:" + "0" * 64
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
OURS = ("attribute-inference", "embedding-probe")


def people(first, n):
    rng = np.random.default_rng(first)
    codes = [(rng.choice(["F", "M"]), *rng.choice(["A", "B"], 2), rng.choice(["S", "A"])) for _ in range(n)]
    return tuple(
        Patient(
            first + i,
            tuple(Event(FIRST if place else None, str(code), None) for place, code in enumerate(each)),
        )
        for i, each in enumerate(codes)
    )


PATIENTS = AuditedPatients(people(0, 60), people(100, 60), people(200, 60))


@pytest.fixture
def target():
    tokenizer = Tokenizer(POLICY.vocabulary)
    return EventTarget(build(POLICY.model, tokenizer.size), tokenizer)


def run(target, patients=PATIENTS):
    findings = run_battery(target, patients, POLICY, site="north", model=DIGEST, nonce=DIGEST)
    return {finding.test: finding for finding in findings if finding.test in OURS}


def test_both_are_measured_whole_and_alike_every_time(target):
    findings = run(target)
    assert sorted(findings) == sorted(OURS)
    for finding in findings.values():
        (measure,) = finding.outcome.measures
        assert measure.kind in {"auc-difference", "excess"}
        assert is_whole(finding, POLICY)
        assert finding.outcome.tokens > 0
    assert run(target) == findings


def test_where_no_reference_patient_is_left_the_probe_says_why_and_the_attribute_is_measured(target):
    findings = run(target, AuditedPatients(PATIENTS.members, PATIENTS.held_out))
    assert "no reference patients" in findings["embedding-probe"].outcome.reason
    assert findings["attribute-inference"].outcome.kind == "measured"


def test_without_a_study_they_run_where_they_are_planned(target):
    planned = {f.test: f.outcome.kind for f in run_tests(target, PATIENTS, POLICY.audit, model=DIGEST)}
    assert [planned[test] for test in OURS] == ["measured", "measured"]
    nothing = POLICY.audit.model_copy(update={"probe": None, "attributes": None})
    unplanned = {f.test: f.outcome.kind for f in run_tests(target, PATIENTS, nothing, model=DIGEST)}
    assert [unplanned[test] for test in OURS] == ["did-not-run", "did-not-run"]
