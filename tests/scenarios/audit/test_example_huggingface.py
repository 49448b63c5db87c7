"""The example trains a model on real patients and audits it, as its page says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("transformers", reason="transformers is an extra")

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "examples" / "audit-huggingface"
EICU = REPOSITORY / "../shared/data/eicu_demo"


MIMIC = REPOSITORY / "../shared/data/mimic_iv_demo"


@pytest.fixture
def ran(tmp_path):
    def ran(*command, code):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return ran


@pytest.mark.slow
@pytest.mark.skipif(not EICU.is_dir(), reason="the folder shared/ is not beside the repository")
def test_a_model_that_was_trained_too_long_is_found_to_remember(ran, tmp_path):
    ran(EXAMPLE / "train.py", EICU, tmp_path / "work", code=0)
    options = ("--records", "work/records", "--plan", EXAMPLE / "audit.toml", "-o", "work/findings.json")
    said = ran("-m", "oathbound.cli", "audit", "work/model", *options, code=13)
    assert "no verdict" in said
    findings = {
        each["test"]: each["outcome"]
        for each in json.loads((tmp_path / "work/findings.json").read_text())["findings"]
    }
    (area,) = (
        measure
        for measure in findings["membership"]["measures"]
        if (measure["kind"], measure["score"]) == ("auc", "min-k-plus-plus")
    )
    assert float(area["estimate"]) - 4 * float(area["standard_error"]) > 0.6
    assert [measure["kind"] for measure in findings["sensitive-disclosure"]["measures"]] == ["excess"]
    assert (tmp_path / "work" / "audits.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not MIMIC.is_dir(), reason="the folder shared/ is not beside the repository")
def test_a_hundred_patients_are_too_few_to_say_anything(ran, tmp_path):
    ran(EXAMPLE / "train.py", MIMIC, tmp_path / "work", code=0)
    options = ("--records", "work/records", "--plan", EXAMPLE / "audit.toml", "-o", "work/findings.json")
    said = ran("-m", "oathbound.cli", "audit", "work/model", *options, code=13)
    assert "no verdict" in said
    found = json.loads((tmp_path / "work/findings.json").read_text())["findings"]
    reasons = {each["outcome"]["reason"] for each in found if each["outcome"]["kind"] == "did-not-run"}
    assert len(found) == len([each for each in found if each["outcome"]["kind"] == "did-not-run"])
    assert reasons == {"not measurable: fewer than 100 different members, or held-out patients"}
