"""Sites that are lost for a step, where the policy can spare them, and sites that forget their charges."""

import shutil
import time

import pytest

from oathbound.core.errors import Refused

pytest.importorskip("torch", reason="training is an extra")

from oathbound.train.engines import local
from oathbound.workflow.audit import audit_site
from oathbound.workflow.release import release
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

NOW = int(time.time())


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


def killed_after(steps):
    def watch(done, *_):
        if done == steps:
            raise KeyboardInterrupt

    return watch


def test_a_step_without_a_site_is_taken_restarted_after_and_verified(small, charged, monkeypatch):
    study = small(min_sites=2, colluding=0)
    monkeypatch.setattr(local, "run", without_south)
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=killed_after(2))
    assert charged(study) == {"north": (2, 2), "east": (2, 2), "south": (1, 1)}
    monkeypatch.undo()
    trained = train(study, clock=lambda: NOW, watch=unwatched)
    assert (trained.steps, trained.attempts) == (4, 4)
    assert charged(study) == {"north": (4, 4), "east": (4, 4), "south": (3, 4)}
    for site in ("north", "east", "south"):
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
