"""The base install is the offline verifier: no machine learning, no network, no clock but the caller's."""

import subprocess
import sys
from pathlib import Path

from oathbound.testing.consortium import Consortium

# Run in a process where these cannot be imported, or opened, at all.
GUARD = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numpy", "polars", "pandas", "torch", "safetensors", "scipy", "pyarrow",
                                  "transformers", "sklearn", "httpx", "PIL", "pydicom"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError("the network was asked for")
sys.addaudithook(refuse)
from oathbound.cli.main import run
sys.argv = ["oathbound", *sys.argv[1:]]
run()
"""


def guarded(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", GUARD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_verify_and_report_run_without_machine_learning_or_network(tmp_path: Path):
    consortium = Consortium.finished()
    (tmp_path / "a.oath").write_bytes(consortium.bundle())
    parties = [f'name = "{p.name}"\nfingerprint = "{p.fingerprint}"' for p in consortium.trust().party]
    trust = 'format = "oathbound/trust/v1"\n' + "".join(f"[[party]]\n{party}\n" for party in parties)
    (tmp_path / "trust.toml").write_text(trust)
    options = ("--trust", tmp_path / "trust.toml")
    verified = guarded("verify", tmp_path / "a.oath", *options, "--at", "2027-06-01", "--format", "json")
    assert verified.returncode == 0, verified.stderr
    assert '"verdict": "pass"' in verified.stdout


def test_what_is_not_installed_is_said_in_one_line(tmp_path: Path):
    ran = guarded("train", tmp_path)
    assert ran.returncode == 4, ran.stderr
    assert ran.stderr.splitlines()[0].startswith("error: ")
    assert "pip install 'oathbound[train,audit]'" in ran.stderr
    assert guarded("--help").returncode == 0


def test_everything_is_explained_without_machine_learning_or_network():
    listed = guarded("explain")
    assert listed.returncode == 0, listed.stderr
    assert "study.policy.budget.epsilon" in listed.stdout
    assert "  scans  " in listed.stdout
    assert guarded("completion", "bash").returncode == 0
