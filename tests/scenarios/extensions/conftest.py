import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from oathbound.core.study import Policy
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for
from oathbound.workflow.extensions import digest_of_distribution

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "examples" / "extension-clinic"


@dataclass(frozen=True)
class Fake:
    """A distribution as an installer leaves it, written by hand."""

    folder: Path
    name: str

    @property
    def package(self) -> Path:
        return self.folder / self.name.replace("-", "_")

    @property
    def metadata(self) -> Path:
        return self.folder / f"{self.name.replace('-', '_')}-1.0.dist-info"

    def write(self, code="def make(): return 'made'\n", group="models", more=()):
        """Write the distribution: one module, one entry point, and other files that its RECORD lists."""
        module = self.package.name
        self.package.mkdir(parents=True)
        self.metadata.mkdir()
        (self.package / "__init__.py").write_text(code)
        (self.metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1.0\n")
        (self.metadata / "entry_points.txt").write_text(f"[oathbound.{group}]\n{self.name} = {module}:make\n")
        listed = [f"{module}/__init__.py", *more, f"{self.metadata.name}/METADATA"]
        listed += [f"{self.metadata.name}/entry_points.txt", f"{self.metadata.name}/RECORD"]
        (self.metadata / "RECORD").write_text("".join(f"{path},,\n" for path in listed))
        importlib.invalidate_caches()
        return self


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Write distributions to a folder that Python looks into, under names that are new in each test."""
    made = []

    def of(name, folder="site", **content):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(path)
        made.append(name.replace("-", "_"))
        return Fake(path, name).write(**content)

    yield of
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture(scope="session")
def secrets():
    return [Secret.generate(name) for name in ("coordinator", "north", "east")]


@pytest.fixture
def pinning(secrets):
    """Make a policy that pins what is installed under a name, or changes of it."""

    def of(name, group="models", **changes) -> Policy:
        if "digest" not in changes or "version" not in changes:
            version, digest = digest_of_distribution(changes.get("distribution", name))
            changes = {"version": version, "digest": digest, **changes}
        pin = {"group": group, "name": name, "distribution": name, **changes}
        return policy_for(secrets, extensions=[pin])

    return of


@pytest.fixture(scope="session")
def clinic(tmp_path_factory) -> Path:
    """Install the example with pip, from this repository alone, and return the folder."""
    pytest.importorskip("hatchling", reason="the example is built with hatchling, of the extra dev")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", folder, EXAMPLE], check=True)
    return folder


@pytest.fixture(scope="session")
def python():
    """Run Python in a process of its own that finds what is installed in a folder."""

    def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )

    return run
