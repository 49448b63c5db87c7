import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def oathbound(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a person would."""
    command = [sys.executable, "-m", "oathbound.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.fixture(scope="session")
def run() -> Run:
    return oathbound


@pytest.fixture(scope="session")
def sworn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="training is an extra")
    study = tmp_path_factory.mktemp("sworn") / "study"
    assert oathbound("init", study, "--example").returncode == 0
    for verb in ("oath", "admit"):
        for site in ("north", "east", "south"):
            ran = oathbound(verb, "--site", site, study)
            assert ran.returncode == 0, ran.stderr
    return study


@pytest.fixture
def sworn(sworn_once: Path, tmp_path: Path) -> Path:
    """Return a study, the test's own, of three invented hospitals that have sworn and admitted."""
    return shutil.copytree(sworn_once, tmp_path / "study")
