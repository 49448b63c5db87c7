"""A site's process runs what is installed, wherever its coordinator was started."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.errors import Unavailable
from oathbound.workflow.reaching import processes


def test_the_modules_of_the_current_folder_do_not_run(tmp_path, monkeypatch):
    for whose in ("installed", "here"):
        package = tmp_path / whose / "oathbound" / "workflow"
        package.mkdir(parents=True)
        for module in (package.parent / "__init__", package / "__init__"):
            module.with_suffix(".py").touch()
        (package / "site_process.py").write_text(f"open('ran', 'w').write('{whose}')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    policy = SimpleNamespace(sites=[SimpleNamespace(name="north")])
    with processes(SimpleNamespace(path=tmp_path, policy=policy)) as peers, pytest.raises(Unavailable):
        peers["north"].receive(b"message")
    assert (tmp_path / "here" / "ran").read_text() == "installed"
