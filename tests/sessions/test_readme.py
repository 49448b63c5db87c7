"""The README's first screen is a real run: its stages, verdicts and exit codes are those of the demo.

Noise and draws come from the system's random source, so numbers differ from run to run. The private model may
pass where the README shows it undecided: it must only never fail. The plain study is small, and at times a
site has too few carriers for the disclosure test, which is then said in place of the number.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas", reason="the demo's packages are not installed")

README = Path(__file__).resolve().parents[2] / "README.md"
VERDICT = re.compile(r"\b(fail|pass|inconclusive|refused|accepted|undecided)\b")
SAME_FOR_PRIVATE = {
    "pass": "not fail",
    "inconclusive": "not fail",
    "accepted": "not fail",
    "undecided": "not fail",
}


def stages(lines: list[str]) -> list[tuple[str, ...]]:
    """Return of every stage its verb, its verdict words, its exit code, and what is named in it."""
    found, private = [], False
    for line in lines:
        verb, said = line[:8].strip(), line[9:]
        if verb == "study":
            private = said.startswith("private")
        words = [word for word in VERDICT.findall(said) if verb in {"audit", "release"}]
        code = re.search(r"exit (\d+)", said)
        exit_code = code[1] if code else ""
        if private:
            words = [SAME_FOR_PRIVATE.get(word, word) for word in words]
            exit_code = "0 or 13" if exit_code in {"0", "13"} else exit_code
        subject = (
            re.match(r"[A-Za-z-]+( [a-z]+(-[a-z]+)*)?", said) if verb in {"audit", "admit", "study"} else None
        )
        stage = (verb, *words[:1], exit_code, subject[0] if subject else "")
        if verb == "audit" and said.startswith("sensitive-disclosure") and not private:
            stage = (verb, "measured, or not", "", "sensitive-disclosure")
        if not (found and found[-1] == stage and stage[1] == "measured, or not"):
            found.append(stage)
    return found


def shown() -> list[str]:
    block = re.search(r"^```console\n\$ make demo\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert block, "the README has no run of the demo"
    return block[1].splitlines()


@pytest.mark.slow
def test_the_first_screen_is_a_real_run_and_running_it_again_works(tmp_path: Path):
    command = [sys.executable, "-m", "oathbound.cli", "demo", "demo"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert stages(first.stdout.splitlines()) == stages(shown())
    for name in ("plain", "private"):
        page = (tmp_path / "demo" / f"{name}.html").read_text()
        assert page.startswith("<!DOCTYPE html>")
    bundles = [(tmp_path / "demo" / f"{name}.oath").read_bytes() for name in ("plain", "private")]

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout == first.stdout
    assert [(tmp_path / "demo" / f"{name}.oath").read_bytes() for name in ("plain", "private")] == bundles


def test_another_verdict_would_be_noticed():
    lines = shown()
    for old, new in (("gate 0.55: fail", "gate 0.55: pass"), ("exit 12", "exit 0"), ("release ", "releases")):
        changed = [line.replace(old, new) for line in lines]
        assert stages(changed) != stages(lines), old
