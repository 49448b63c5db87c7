"""Kill every verb at its effects: it goes on, nothing is used twice, the budget is exact. `sweep.py` says how."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SWEEP = Path(__file__).with_name("sweep.py")
SWEEPS = (
    ("train", "--stride", "8", "--at", "share|sqlite", "--twice", "12"),
    ("train", "--stride", "8", "--first", "4", "--twice", "12"),
    ("release", "--stride", "3", "--twice", "8"),
    ("audit", "--twice", "8"),
    ("oath",),
    ("admit",),
    ("withdraw",),
    ("receipt",),
    ("report",),
)
LEAST_KILLS = 230
"""Of the nine sweeps together, without the kills during recovery."""


def run(*arguments: object) -> str:
    command = [sys.executable, str(SWEEP), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return copies of a tiny study, as it is before each verb."""
    pytest.importorskip("torch", reason="training is an extra")
    folder = tmp_path_factory.mktemp("states")
    run("prepare", folder)
    return folder


@pytest.mark.slow
def test_every_verb_goes_on_after_a_kill_at_any_effect(states: Path):
    with ThreadPoolExecutor(max_workers=2) as workers:
        found = [json.loads(said) for said in workers.map(lambda sweep: run("kill", states, *sweep), SWEEPS)]
    assert [each["failures"] for each in found] == [[]] * len(SWEEPS)
    assert sum(each["kills"] for each in found) >= LEAST_KILLS
    assert sum(each["second"] for each in found) >= 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("charge-after-share", ("--stride", "0", "--at", "share")),
        ("charge-forgotten", ("--stride", "100", "--first", "120")),
    ],
)
def test_the_sweep_sees_a_ledger_that_forgets(states: Path, fault: str, where: tuple[str, ...]):
    """The test of the test: with the charge behind the share, or kept in memory, every kill is a failure."""
    found = json.loads(run("kill", states, "train", "--fault", fault, *where))
    said = [failure["failure"] for failure in found["failures"]]
    assert len(said) == found["kills"] > 0
    assert all("a share that it had not charged" in each for each in said)
