"""Canaries in siblings that were trained: an honest procedure keeps its epsilon, a broken one is found.

`docs/audits/canary.md` quotes the numbers that are logged here, with `--log-cli-level=INFO`. Canaries and
coins follow from seeds; sampling and noise do not, for the study's own code draws them.
"""

import logging
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.catalog.canary import Canary
from oathbound.audit.target import AuditedPatients
from oathbound.core.catalogue import CANARY_THREAT
from oathbound.core.claims import Verdict
from oathbound.core.finding import Auc, Finding, Measured
from oathbound.core.gates import Attempted, judge
from oathbound.core.one_run import UNPROMISED_DELTA, Accounted, epsilon_at_least
from oathbound.core.patient import Event, Patient
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for
from oathbound.train import trainer
from oathbound.workflow import sibling
from oathbound.workflow.sibling import Siblings

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)

ALPHA = 0.025
SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
CODES = [f"C{number}" for number in range(60)]
FIRST = datetime(2010, 1, 1)  # noqa: DTZ001 - MEDS has no zone
DIGEST = "sha256:" + "0" * 64


def policy(*, noise="8", steps=150, rate="0.1", width=16, epsilon="10", **changes):
    training = {
        "members": 400,
        "sampling_rate": rate,
        "steps": steps,
        "attempts": steps,
        "round_steps": steps,
        "learning_rate": "0.02",
        "warmup": 0,
        "ring_norm": 4096,
        "clip": "1",
    }
    budget = {
        "epsilon": epsilon,
        "delta": "0.000001",
        "unit": "patient",
        "neighbours": "add-remove",
        "noise_multiplier": noise,
        "sites_per_patient": 1,
    }
    return policy_for(
        SECRETS,
        **{
            "training": training,
            "budget": budget,
            "vocabulary": {
                "codes": CODES,
                "edges": {"C0": ["1", "2"]},
                "ages": ["20", "40", "60"],
                "gaps": ["7", "90"],
            },
            "model": {
                "name": "event-transformer",
                "layers": 1,
                "width": width,
                "heads": 2,
                "length": 24,
                "seed": 1,
            },
            "audit": {
                "alpha": "0.05",
                "minimum_patients": 20,
                "canaries": {"planted": 300, "guesses": 100},
            },
        }
        | changes,
    )


def classifier(**changes):
    features = {"present": CODES[:6], "numbers": [], "label": {"code": "Y"}}
    model = {"name": "logistic-regression"}
    return policy(vocabulary=None, features=features, model=model, **changes)


def people(n, *, seed):
    """People of six illnesses, each with codes of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(1, n + 1):
        day, illness = FIRST, rng.integers(6)
        events = [Event(datetime(1960, 1, 1), "MEDS_BIRTH", None)]  # noqa: DTZ001 - as above
        for _ in range(rng.integers(4, 14)):
            events.append(Event(day, f"C{illness * 10 + rng.integers(10)}", 1.0))
            day += timedelta(days=int(rng.choice([1, 30, 200])))
        if illness < 3:
            events.append(Event(day, "Y", None))
        found.append(Patient(1000 * seed + number, tuple(events)))
    return tuple(found)


PATIENTS = AuditedPatients(people(60, seed=1), people(60, seed=2))


def planted(study, seed):
    """What the test finds of the study's procedure: the measure, whole."""
    torch.set_num_threads(1)
    (measure,) = (
        Canary(Siblings(study, "north")).run(None, PATIENTS, study.audit, bytes([seed] * 32)).measures
    )
    return measure


def shown(study, measure):
    accounted = Accounted.of(study)
    return epsilon_at_least(measure, accounted.delta if accounted else UNPROMISED_DELTA, ALPHA)


def verdict(study, measure):
    """The verdict where everything else passes."""
    auc = {"estimate": Decimal("0.5"), "standard_error": Decimal("0.005"), "members": 500, "held_out": 500}
    passing = Auc(kind="auc", score="loss", **auc)
    findings = [
        Attempted(
            Finding(
                test=test,
                version=1,
                site=site,
                model=DIGEST,
                seed=DIGEST,
                threat=CANARY_THREAT,
                outcome=Measured(kind="measured", measures=(found,), tokens=1),
            ),
            1,
        )
        for site in ("north", "east")
        for test, found in (("membership", passing), ("canary", measure))
    ]
    judged = judge(study.gates, study.audit, ("north", "east"), findings, accounted=Accounted.of(study))
    return judged.verdict


class Forgotten:
    """Noise of the planned parameter that somebody forgot to add."""

    def __init__(self, sigma):
        self.sigma = sigma

    def sample(self, n):
        return np.zeros(n, dtype=np.int64)


def test_an_overfitted_sibling_without_privacy_is_found():
    study = policy(steps=300, rate="0.3", width=32, privacy="none", budget=None)
    found = [planted(study, seed) for seed in (1, 2)]
    bounds = [shown(study, each) for each in found]
    log.info("without privacy: right %s, epsilon at least %s", [each.right for each in found], bounds)
    assert min(bounds) > 2
    assert {verdict(study, each) for each in found} == {Verdict.PASS}, "a study that promises nothing"


def test_an_honest_procedure_keeps_its_epsilon():
    for study, runs in ((classifier(noise="1.5", steps=40), 25), (policy(steps=60), 2)):
        accounted = Accounted.of(study).epsilon
        found = [planted(study, seed) for seed in range(runs)]
        bounds = [shown(study, each) for each in found]
        right = np.mean([each.right for each in found])
        log.info(
            "honest %s: %s accounted, mean right %.1f, most %s",
            study.model.name,
            accounted,
            right,
            max(bounds),
        )
        assert max(bounds) <= accounted
        assert {verdict(study, each) for each in found} == {Verdict.PASS}


def test_forgotten_noise_is_found(monkeypatch):
    monkeypatch.setattr(sibling, "DiscreteGaussian", Forgotten)
    check_found(policy(noise="16"), "forgotten noise")


def test_clipping_each_record_of_a_patient_alone_is_found(monkeypatch):
    """A patient of 256 records, each clipped to the norm that one patient may have."""
    honest = trainer.clipped_sum
    monkeypatch.setattr(trainer, "clipped_sum", lambda *given, **norms: 256 * honest(*given, **norms))
    check_found(policy(noise="16"), "clipping each record")


def check_found(study, what):
    found = [planted(study, seed) for seed in (1, 2)]
    bounds, accounted = [shown(study, each) for each in found], Accounted.of(study).epsilon
    log.info(
        "%s: %s accounted, right %s, epsilon at least %s", what, accounted, [f.right for f in found], bounds
    )
    assert min(bounds) > accounted
    assert {verdict(study, each) for each in found} == {Verdict.FAIL}
