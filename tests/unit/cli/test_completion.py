"""Shells complete verbs, options, values and names to explain; bash is asked, the others as they ask."""

import subprocess
import sys

import pytest

from oathbound.cli.verbs.completion import ASKED, SCRIPTS, Shell

# What bash does when somebody presses tab: it looks up the function of the command, and calls it.
TAB = """
oathbound() { "$PYTHON" -m oathbound.cli "$@"; }
eval "$(oathbound completion bash)"
complete -p oathbound >&2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_oathbound_completion oathbound
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(*words: str) -> set[str]:
    ran = subprocess.run(
        ["bash", "-c", TAB, "bash", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )
    assert "-o default" in ran.stderr  # files, where nothing is proposed
    assert "Traceback" not in ran.stderr
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (("ve",), {"verify"}),
        (("verify", "--tr"), {"--trust"}),
        (("verify", "--format", ""), {"text", "json"}),
        (("verify", ""), set()),
        (("completion", ""), {"bash", "zsh", "fish"}),
        (("explain", "Budget"), {"BudgetRefused"}),
        (("data", ""), {"list", "get"}),
        (("--v",), {"--version"}),
    ],
)
def test_bash(words: tuple[str, ...], proposed: set[str]):
    assert tab("oathbound", *words) == proposed


def test_bash_proposes_every_verb():
    assert {"init", "verify", "explain", "demo"} <= tab("oathbound", "")


def test_zsh_and_fish(run):
    asked = {"_TYPER_COMPLETE_ARGS": "oathbound ve"}
    zsh = run(environment=asked | {ASKED: "complete_zsh"})
    assert '"verify":"Verify a bundle, offline."' in zsh.stdout
    fish = run(environment=asked | {ASKED: "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"})
    assert fish.stdout.split("\t")[0] == "verify"
    files = {"_TYPER_COMPLETE_ARGS": "oathbound verify ", "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    assert run(environment=files | {ASKED: "complete_fish"}).returncode == 1


@pytest.mark.parametrize("shell", Shell)
def test_a_script_asks_by_the_variable_that_is_read(run, shell: Shell):
    ran = run("completion", shell.value)
    assert ran.stdout == SCRIPTS[shell] + "\n"
    assert f"{ASKED}=complete_{shell.value}" in ran.stdout


def test_another_shell(run):
    ran = run("completion", "csh")
    assert ran.returncode == 2
    assert "csh" in ran.stderr
