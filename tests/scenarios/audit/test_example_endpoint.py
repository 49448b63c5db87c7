"""The example serves a model of real patients and audits it through its address alone, as its page says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("httpx", reason="endpoints need httpx")

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "examples" / "audit-endpoint"
EICU = REPOSITORY / "../shared/data/eicu_demo"


@pytest.mark.slow
@pytest.mark.skipif(not EICU.is_dir(), reason="the folder shared/ is not beside the repository")
def test_a_served_model_that_was_trained_too_long_is_found_to_remember(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    work = tmp_path / "work"
    serve = [sys.executable, str(EXAMPLE / "serve.py"), str(EICU), str(work)]
    with subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline().startswith("serving http://127.0.0.1:")
            url = (work / "url").read_text().strip()
            files = ("--vocabulary", "vocabulary.json", "--endpoint", "endpoint.toml")
            options = ("--records", "records", "--plan", EXAMPLE / "audit.toml", "-o", "findings.json")
            done = subprocess.run(
                [sys.executable, "-m", "oathbound.cli", "audit", url, "--model", "any", *files, *options],
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        finally:
            server.kill()
    assert done.returncode == 13, done.stderr
    assert "no verdict" in done.stdout
    findings = {
        each["test"]: each["outcome"] for each in json.loads((work / "findings.json").read_text())["findings"]
    }
    areas = {each["score"]: each for each in findings["membership"]["measures"] if each["kind"] == "auc"}
    assert areas.keys() == {"loss", "min-k"}
    area = areas["min-k"]
    assert float(area["estimate"]) - 4 * float(area["standard_error"]) > 0.6
    assert [measure["kind"] for measure in findings["sensitive-disclosure"]["measures"]] == ["excess"]
    assert not list(work.glob(".audit-*"))
