"""NVIDIA FLARE's proof of concept: a server and three sites as processes, mutual TLS, on loopback.

It takes minutes, so it is run by `make flare`, or where FLARE is installed with `pytest -m flare`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")
pytest.importorskip("nvflare", reason="nvflare is an extra")

from oathbound.core.errors import Unavailable
from oathbound.workflow.flare import ADMIN, STUDY, SiteApp, write_job
from oathbound.workflow.site_kit import COORDINATOR_CLASSES, write_kit

pytestmark = pytest.mark.flare

SITES = ("north", "east", "south")
BIN = Path(sys.executable).parent


class Flare:
    """A deployment in a folder of its own."""

    def __init__(self, folder: Path, study: Path) -> None:
        self.kits = folder / "poc" / "example_project" / "prod_00"
        self.study = study
        self.environment = os.environ | {
            "HOME": str(folder),
            "NVFLARE_POC_WORKSPACE": str(folder / "poc"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            STUDY: str(study),
            ADMIN: str(self.kits / "admin@nvidia.com"),
        }

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def nvflare(self, *arguments: object) -> str:
        ran = self.run(BIN / "nvflare", *arguments)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def start(self) -> None:
        self.nvflare("poc", "prepare", "-c", *SITES, "--force")
        for site in SITES:
            write_kit(self.kits / site)
        server = self.kits / "server" / "local"
        resources = json.loads((server / "resources.json.default").read_text())
        resources["class_allow_list"] = list(COORDINATOR_CLASSES)
        (server / "resources.json").write_text(json.dumps(resources))
        self.nvflare("poc", "start", "-ex", "admin@nvidia.com", "--timeout", "180")

    def stop(self) -> None:
        self.run(BIN / "nvflare", "poc", "stop")
        for pid in self.processes(str(self.kits)):
            os.kill(pid, signal.SIGKILL)

    def says(self, who: str, words: str) -> bool:
        """Return whether a log at that machine holds these words."""
        logs = [path for path in (self.kits / who).rglob("*log*") if path.is_file()]
        return any(words in path.read_text(errors="replace") for path in logs)

    def processes(self, *words: str) -> list[int]:
        """Return the processes of this deployment whose command line holds all the words."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in command for word in (str(self.kits), *words)):
                found.append(int(path.parent.name))
        return found

    def submitted(self, job: Path) -> dict[str, object]:
        """Return what a job came to."""
        identifier = self.nvflare("job", "submit", "-j", job).strip().rpartition(" ")[2]
        for _ in range(120):
            listed = self.nvflare("job", "list")
            [line] = [line for line in listed.splitlines() if line.startswith(identifier)]
            if "FINISHED" in line or "FAILED" in line:
                return {"line": line, "id": identifier}
            time.sleep(1)
        raise AssertionError(line)


def test_what_nobody_foresaw_at_a_site_is_not_sent_away(monkeypatch):
    app = SiteApp()

    def fails(_name):
        raise ValueError("systolic 190 of patient 17")

    monkeypatch.setattr(app, "_here", fails)
    with pytest.raises(Unavailable) as raised:
        app._answer("north", b"")
    assert raised.value.message == "north failed in a way that nobody foresaw"
    assert raised.value.__suppress_context__


@pytest.fixture
def flare(tmp_path, small):
    study = small(engine="nvflare", steps=40, attempts=60, round_steps=20)
    here = Flare(tmp_path, study.path)
    here.folder = study
    try:
        here.start()
        yield here
    finally:
        here.stop()


def test_a_study_is_trained_over_flare_with_a_site_killed_and_no_code_in_any_job(flare, tmp_path, charged):
    study = flare.folder
    # a job that brings code never runs at a site, whatever it names
    job = write_job(study, tmp_path / "jobs")
    (job / "app" / "custom").mkdir()
    (job / "app" / "custom" / "theirs.py").write_text("raise SystemExit\n")
    refused = flare.submitted(job)
    assert "FAILED" in refused["line"], refused
    assert flare.says("server", "north: NVFLARE_ERROR: BYOC not permitted")
    # nor does one that names another class
    job = write_job(study, tmp_path / "jobs")
    client = job / "app" / "config" / "config_fed_client.json"
    client.write_text(client.read_text().replace("oathbound.workflow.flare.SiteApp", "subprocess.Popen"))
    refused = flare.submitted(job)
    assert "COMPLETED" not in refused["line"], refused
    assert flare.says("north", "ComponentNotAuthorized")
    assert charged(study) == dict.fromkeys(SITES, (0, 0))

    training = subprocess.Popen(
        [BIN / "oathbound", "train", study.path],
        env=flare.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while not study.snapshot.exists() and time.monotonic() < deadline and training.poll() is None:
        time.sleep(0.02)
    killed = flare.processes("worker_process", f"{flare.kits}/east")
    assert killed, "east has a process for the job"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    _, said = training.communicate(timeout=600)
    before = charged(study)
    assert (training.returncode, study.model.exists()) == (4, False), said
    assert b"ended before the training did" in said

    again = flare.run(BIN / "oathbound", "train", study.path)
    assert again.returncode == 0, again.stdout + again.stderr
    after = charged(study)
    for site in SITES:
        assert 40 <= after[site][0] <= 44
        assert after[site][1] > before[site][1]
    assert study.model.is_dir()
