"""A study that plants patients, from its oaths to its bundle: as it is, and with its privacy forgotten."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.claims import BROKEN, Verdict
from oathbound.core.finding import OneRun
from oathbound.evidence.verify import verify
from oathbound.workflow import init, sibling
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.init import SITES, init_example
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release, trust_of
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

TABLE = "[policy.audit.canaries]\nplanted = 200\nguesses = 60\n\n"
NOW = int(time.time())


class Everybody:
    """Members of whom no coin is asked."""

    def __init__(self, rows, places):
        self.rows = rows[places]

    def sample(self, _rate):
        return self.rows


class Forgotten:
    """Noise of the planned parameter that is none."""

    def __init__(self, sigma):
        self.sigma = sigma

    def sample(self, n):
        return np.zeros(n, dtype=np.int64)


@pytest.fixture(autouse=True)
def few_patients(monkeypatch):
    """As many as are audited: what is planted is what is measured."""
    monkeypatch.setattr(init, "INVENTED_PATIENTS", 150)


def trained(folder: Path, **changed: str) -> StudyFolder:
    """The example, with patients to plant and these keys changed, when its model is made."""
    init_example(folder / "study", now=NOW)
    file = folder / "study" / "study.toml"
    text = file.read_text()
    for key, value in changed.items():
        text, found = re.subn(rf"(?m)^{key} = [^ \n]*", f"{key} = {value}", text)
        assert found == 1
    place = text.index("[[policy.gates]]")
    file.write_text(f"{text[:place]}{TABLE}{text[place:]}")
    study = StudyFolder.open(folder / "study")
    for site in SITES:
        swear(study, site)
        admit_site(study, site, now=NOW)
    train(study, clock=lambda: NOW, watch=unwatched)
    return study


def judged(study):
    """The verdict of a stranger, after every site has audited; what each site planted must be whole."""
    for site in SITES:
        findings = audit_site(study, study.model, site, now=NOW)
        (measure,) = next(finding for finding in findings if finding.test == "canary").outcome.measures
        assert isinstance(measure, OneRun)
        assert (measure.planted, measure.guesses) == (200, 60)
    out = study.path / "a.oath"
    release(study, study.model, out, now=NOW)
    return verify(out.read_bytes(), trust_of(study), at=NOW).judgement


@pytest.mark.slow
def test_an_honest_procedure_breaks_no_promise(tmp_path):
    judgement = judged(trained(tmp_path))
    assert not [claim for claim in judgement.claims if claim.metric == BROKEN]


@pytest.mark.slow
def test_a_procedure_that_forgot_noise_and_sampling_is_refused_at_release(tmp_path, monkeypatch):
    long = dict.fromkeys(("steps", "attempts", "round_steps"), "70")
    study = trained(tmp_path, noise_multiplier='"8"', sampling_rate='"0.05"', **long)
    monkeypatch.setattr(sibling, "DiscreteGaussian", Forgotten)
    monkeypatch.setattr(sibling, "Members", Everybody)
    judgement = judged(study)
    assert judgement.verdict is Verdict.FAIL
    assert "of the training procedure, for which" in judgement.sentence
    assert {claim.metric for claim in judgement.claims if claim.state is Verdict.FAIL} == {BROKEN}
