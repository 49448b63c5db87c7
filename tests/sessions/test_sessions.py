"""Every ```console block of a guide runs, and prints what the guide says, numbers and digests aside."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.data.invented import invent_records
from oathbound.data.simulate import generate_consents

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def exchanges(page: Path) -> list[tuple[str, list[str]]]:
    """Return each command of the page with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(page.read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def masked(line: str) -> str:
    line = re.sub(r"sha256:[0-9a-f.]+", "sha256:#", line)
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.e-]*", "#", line)).strip()


def matches(expected: list[str], printed: list[str]) -> bool:
    """Return whether the printed lines are the expected ones, where `...` stands for any."""
    pattern = "\n".join(
        ".*" if line == "..." else re.escape(masked(line)).replace(r"\.\.\.", ".*") for line in expected
    )
    return re.fullmatch(pattern, "\n".join(map(masked, printed)), re.DOTALL) is not None


def run_page(page: Path, folder: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    code = 0
    for command, expected in exchanges(page):
        ran = subprocess.run(
            ["bash", "-c", f"(exit {code}); {command}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        printed = ran.stdout.splitlines()
        assert matches(expected, printed), f"$ {command}\n{ran.stdout}{ran.stderr}"
        assert not ran.stderr, f"$ {command}\n{ran.stderr}"
        code = ran.returncode


@pytest.mark.slow
def test_a_study_on_ones_own_records(tmp_path: Path):
    invent_records(tmp_path / "my-meds", patients=720, seed=7)
    subjects = range(7_000_000, 7_000_720)
    consents = generate_consents(subjects, datetime.fromtimestamp(time.time(), UTC), seed=1)
    (tmp_path / "my-consents.ndjson").write_text("".join(json.dumps(c) + "\n" for c in consents))
    run_page(REPOSITORY / "docs" / "guides" / "own-records.md", tmp_path)
    assert (tmp_path / "study.html").read_text().startswith("<!DOCTYPE html>")


def test_a_wrong_line_would_be_noticed():
    assert matches(["a 1", "...", "z"], ["a 2", "b", "c", "z"])
    assert not matches(["a 1", "z"], ["a 2", "b", "z"])
    assert not matches(["verdict pass"], ["verdict fail"])
