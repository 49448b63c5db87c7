"""Sites that are lost for a step, where the policy can spare them, and sites that forget their charges."""

import re
import shutil
from pathlib import Path

import pytest

from oathbound.core.errors import Refused
from oathbound.data.store import SiteStore
from oathbound.workflow.folders import StudyFolder

pytest.importorskip("torch", reason="training is an extra")

from oathbound.train.engines import local
from oathbound.workflow import init
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.init import SITES, init_example
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

NOW = 1_800_000_000
TINY = {
    "width": 8, "heads": 1, "length": 12, "members": 150, "steps": 4, "attempts": 24, "round_steps": 4,
    "minimum_patients": 10, "prompt_events": 1, "horizon": 2, "chains": 1, "threads": 1,
    "ring_norm": 1024,
}  # fmt: skip


def admitted(path: Path, **changes: int) -> StudyFolder:
    """Return a small study at the end of its admissions."""
    init_example(path, now=NOW - 10)
    text = (path / "study.toml").read_text()
    for key, value in (TINY | changes).items():
        text, found = re.subn(rf"^{key} = [0-9]+", f"{key} = {value}", text, flags=re.MULTILINE)
        assert found == 1, key
    (path / "study.toml").write_text(text)
    study = StudyFolder.open(path)
    for verb in (swear, lambda study, site: admit_site(study, site, now=NOW)):
        for site in SITES:
            verb(study, site)
    return study


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(init, "INVENTED_PATIENTS", 70)
    return lambda **changes: admitted(tmp_path / "study", **changes)


def without_south(coordinator, nodes, *, goes_on, save, on_progress):
    """An engine to which one site's answers to the second attempt do not come."""
    while goes_on():
        messages = coordinator.begin()
        is_lost = coordinator.progress.attempt == 2
        while messages:
            for site, message in messages.items():
                if not (is_lost and site == "south"):
                    coordinator.receive(site, nodes[site].receive(message))
            messages = coordinator.proceed()
        save(coordinator.snapshot())
        on_progress(coordinator.progress)


def charged(study):
    counts = {}
    for site in study.sites():
        with SiteStore.open(site.state) as store:
            counts[site.file.name] = store.charged(study.policy.study).count
    return counts


def killed_after(steps):
    def watch(done, *_):
        if done == steps:
            raise KeyboardInterrupt

    return watch


def test_a_step_without_a_site_is_taken_restarted_after_and_verified(small, monkeypatch):
    study = small(min_sites=2, colluding=0)
    monkeypatch.setattr(local, "run", without_south)
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=killed_after(2))
    assert charged(study) == {"north": 2, "east": 2, "south": 1}
    monkeypatch.undo()
    trained = train(study, clock=lambda: NOW, watch=unwatched)
    assert (trained.steps, trained.attempts) == (4, 4)
    assert charged(study) == {"north": 4, "east": 4, "south": 3}
    for site in SITES:
        audit_site(study, study.model, site, now=NOW)
    verified = release(study, study.model, study.path / "a.oath", now=NOW).verified
    assert [each.event.attempts for each in verified.charges] == [4, 4, 3]


@pytest.mark.parametrize(
    "changes", [{}, {"min_sites": 2, "colluding": 0}], ids=["nobody may miss", "one may miss"]
)
def test_a_site_that_forgot_charges_stops_a_training(small, changes):
    study = small(**changes)
    state = study.site("south").state
    before = shutil.copy(state, study.path / "old")
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=killed_after(2))
    for file in state.parent.glob("state.sqlite*"):
        file.unlink()
    shutil.copy(before, state)
    with pytest.raises(Refused, match="its state is an old copy"):
        train(study, clock=lambda: NOW, watch=unwatched)
