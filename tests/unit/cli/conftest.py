import os
import subprocess
import sys

import pytest

from oathbound.testing.consortium import Consortium

COMMAND = (sys.executable, "-m", "oathbound.cli")


def oathbound(*arguments: object, environment: dict[str, str] | None = None):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | (environment or {}),
    )


@pytest.fixture(scope="session")
def run():
    return oathbound


@pytest.fixture(scope="session")
def command() -> str:
    """Return the command line as a shell would be told it."""
    return f"'{sys.executable}' -m oathbound.cli"


@pytest.fixture(scope="session")
def verifiable(tmp_path_factory) -> tuple[str, ...]:
    """Return arguments of `verify` for a bundle that passes."""
    folder = tmp_path_factory.mktemp("bundle")
    consortium = Consortium.finished()
    (folder / "a.oath").write_bytes(consortium.bundle())
    parties = "".join(
        f'[[party]]\nname = "{party.name}"\nfingerprint = "{party.fingerprint}"\n'
        for party in consortium.trust().party
    )
    (folder / "trust.toml").write_text('format = "oathbound/trust/v1"\n' + parties)
    return str(folder / "a.oath"), "--trust", str(folder / "trust.toml"), "--at", "2027-06-01"
