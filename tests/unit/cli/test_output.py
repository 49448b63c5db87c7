"""stdout is the answer and nothing else; errors are for people or scripts; streams may be gone or full."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from oathbound.cli.main import app, guarded
from oathbound.cli.output import Format, bar, format_asked
from oathbound.core.errors import Interrupted
from oathbound.workflow.watch import unwatched


def leaves(group, path=()):
    for name, command in getattr(group, "commands", {}).items():
        inner = list(leaves(command, (*path, name)))
        yield from inner or [((*path, name), command)]


def test_every_verb_takes_format():
    for path, command in leaves(typer.main.get_command(app)):
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--format" in options, path


def test_the_format_that_is_asked_for():
    assert format_asked(["verify", "a", "--format", "json"]) is Format.JSON
    assert format_asked(["--format=json"]) is Format.JSON
    assert format_asked(["verify", "json", "--format", "text"]) is Format.TEXT
    assert format_asked(["verify", "--format"]) is Format.TEXT


def test_an_answer_in_json(run, verifiable):
    ran = run("verify", *verifiable, "--format", "json")
    assert (ran.returncode, ran.stderr) == (0, "")
    answer = json.loads(ran.stdout)
    assert (answer["format"], answer["verdict"]) == ("oathbound/verify/v1", "pass")
    assert ran.stdout == json.dumps(answer, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "word"),
    [
        (("verify", "nowhere.oath", "--trust", "nowhere.toml"), 2, "WrongInput", "nowhere"),
        (("verify", "nowhere.oath"), 2, "WrongInput", "--trust"),
        (("frobnicate",), 2, "WrongInput", "frobnicate"),
        (("explain", "epsilom"), 2, "WrongInput", "epsilom"),
        (("data", "get", "nothing", "somewhere"), 2, "WrongInput", "nothing"),
    ],
)
def test_an_error_in_json(run, arguments, code, kind, word):
    ran = run(*arguments, "--format=json")
    assert (ran.returncode, ran.stdout) == (code, "")
    error = json.loads(ran.stderr)
    assert error["format"] == "oathbound/error/v1"
    assert (error["exit"], error["kind"]) == (code, kind)
    assert word in error["error"].lower()
    assert set(error) == {"format", "error", "kind", "hint", "exit", "step"}


def test_the_step_that_refused(run, verifiable, tmp_path: Path):
    bundle = bytearray(Path(verifiable[0]).read_bytes())
    bundle[len(bundle) // 2] ^= 1
    (tmp_path / "b.oath").write_bytes(bundle)
    ran = run("verify", tmp_path / "b.oath", *verifiable[1:], "--format", "json")
    error = json.loads(ran.stderr)
    assert (ran.returncode, error["exit"], error["kind"], error["step"]) == (10, 10, "NotAuthentic", 1)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)


def test_the_verdict_survives_streams_that_are_closed(command: str, verifiable):
    arguments = " ".join(f"'{argument}'" for argument in verifiable)
    for closed in (
        ">&-",
        ">&- 2>&-",
        "2>&-",
        "| true; exit ${PIPESTATUS[0]}",
        "2>&1 | true; exit ${PIPESTATUS[0]}",
    ):
        ran = shell(f"{command} verify {arguments} {closed}")
        assert ran.returncode == 0, (closed, ran.stderr)
        assert "Traceback" not in ran.stderr, closed


def test_an_error_survives_a_stream_that_is_closed(command: str):
    for closed in ("2>&-", "2>&1 | true; exit ${PIPESTATUS[0]}"):
        assert shell(f"{command} verify nowhere.oath --trust nowhere.toml {closed}").returncode == 2, closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_said(command: str, verifiable):
    arguments = " ".join(f"'{argument}'" for argument in verifiable)
    ran = shell(f"{command} verify {arguments} > /dev/full")
    assert ran.returncode == 4
    assert ran.stderr.startswith("error: No space left")
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}])
def test_no_colour_where_nobody_looks(run, verifiable, environment):
    for arguments in (("verify", "--help"), ("verify", *verifiable), ("frobnicate",)):
        ran = run(*arguments, environment=environment)
        assert "\x1b" not in ran.stdout + ran.stderr, arguments


def test_no_bar_where_stderr_is_no_terminal(capsys):
    with bar("train") as watch:
        assert watch is unwatched
        watch(1, 2)
    assert capsys.readouterr().err == ""


def test_without_arguments_it_helps(run):
    assert run().stdout == run("--help").stdout
    assert run().returncode == 0


def test_help_imports_no_records_and_no_colours():
    code = (
        "import sys; sys.argv = ['oathbound', '--help']\n"
        "from oathbound.cli.main import run\n"
        "try:\n    run()\n"
        "except SystemExit: pass\n"
        "slow = {'pydantic', 'rich', 'cryptography', 'numpy', 'torch', 'polars'}\n"
        "slow &= set(sys.modules)\n"
        "assert not slow, slow"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_an_interrupt_is_an_error_with_its_own_exit_code():
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as error:
        guarded(interrupted)()
    assert error.value.exit == 130
    assert "goes on" in error.value.hint
