"""A whole study whose members take turns (DP-FTRL): killed, resumed, with a withdrawal, and verified."""

import re
import sqlite3
import stat
from decimal import Decimal

import pytest

from oathbound.core import accounting
from oathbound.core.errors import BudgetRefused, ProtocolRefused
from oathbound.core.event import BandedToeplitz
from oathbound.data.store import SiteStore
from oathbound.workflow.folders import StudyFolder

pytest.importorskip("torch", reason="training is an extra")

from oathbound.train.engines import local
from oathbound.workflow import init
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.init import SITES, init_example
from oathbound.workflow.members import MemberRows
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

NOW = 1_800_000_000
CHANGES = {
    "width": "8", "heads": "1", "length": "12", "members": "150", "steps": "8", "attempts": "8",
    "round_steps": "4", "minimum_patients": "10", "prompt_events": "1", "horizon": "2", "chains": "1",
    "threads": "1", "ring_norm": "1024", "sampling_rate": '"0.2"\nbands = 5', "noise_multiplier": '"4"',
}  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a small study at the end of its admissions."""
    monkeypatch.setattr(init, "INVENTED_PATIENTS", 70)
    path = tmp_path / "study"
    init_example(path, now=NOW - 10)
    text = (path / "study.toml").read_text()
    for key, value in CHANGES.items():
        text, found = re.subn(rf"^{key} = \S+", f"{key} = {value}", text, flags=re.MULTILINE)
        assert found == 1, key
    (path / "study.toml").write_text(text)
    opened = StudyFolder.open(path)
    for verb in (swear, lambda study, site: admit_site(study, site, now=NOW)):
        for site in SITES:
            verb(opened, site)
    return opened


def stores(study):
    for site in study.sites():
        with SiteStore.open(site.state) as store:
            yield store


def kept(study):
    return [store.past(study.policy.study).steps() for store in stores(study)]


def killed_after(steps):
    def watch(done, *_):
        if done == steps:
            raise KeyboardInterrupt

    return watch


def test_a_study_is_killed_goes_on_and_is_verified(study):
    """The one test of all verbs, which is why it takes its time."""
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=killed_after(6))
    assert kept(study) == [(3, 4, 5, 6)] * 3
    for site in study.sites():
        assert stat.S_IMODE(site.state.stat().st_mode) == 0o600
    trained = train(study, clock=lambda: NOW, watch=unwatched)
    assert (trained.steps, trained.attempts) == (8, 8)
    assert kept(study) == [()] * 3  # nothing of them is needed once the charges are stated

    for site in SITES:
        audit_site(study, study.model, site, now=NOW)
    verified = release(study, study.model, study.path / "a.oath", now=NOW).verified
    events = [charged.event for charged in verified.charges]
    assert [type(event) for event in events] == [BandedToeplitz] * 3
    assert {(event.coefficients, event.attempts) for event in events} == {((8, 4, 3, 3, 2), 8)}
    assert verified.epsilon == trained.epsilon == accounting.epsilon(events[0], Decimal("1e-6"))
    # two turns of each patient
    assert verified.epsilon == accounting.epsilon(
        events[0].model_copy(update={"attempts": 10}), Decimal("1e-6")
    )


def test_a_kill_after_a_step_was_charged_voids_the_study_and_stays_charged(study, monkeypatch):
    """Of the fourth step south's answer is lost with the coordinator: nobody gets it a second time."""

    def dies(coordinator, nodes, *, goes_on, save, on_progress):
        while goes_on():
            messages = coordinator.begin()
            while messages:
                for site, message in messages.items():
                    answer = nodes[site].receive(message)
                    if coordinator.progress.attempt == 4:
                        raise KeyboardInterrupt
                    coordinator.receive(site, answer)
                messages = coordinator.proceed()
            save(coordinator.snapshot())
            on_progress(coordinator.progress)

    monkeypatch.setattr(local, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=unwatched)
    monkeypatch.undo()
    charges = [store.charged(study.policy.study).count for store in stores(study)]
    assert sorted(charges) == [3, 3, 4]
    with pytest.raises(BudgetRefused, match="this training is void") as refused:
        train(study, clock=lambda: NOW, watch=unwatched)
    assert "a new study" in refused.value.hint
    assert [store.charged(study.policy.study).count for store in stores(study)] == charges


def test_a_site_whose_sums_are_gone_ends_the_study_and_not_the_promise(study):
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: NOW, watch=killed_after(3))
    north = next(iter(study.sites())).state
    with sqlite3.connect(north) as connection:
        connection.execute("DELETE FROM past WHERE step = 2")
    connection.close()
    with pytest.raises(ProtocolRefused, match="whose sum is not here"):
        train(study, clock=lambda: NOW, watch=unwatched)
    assert [store.charged(study.policy.study).count for store in stores(study)] == [3, 3, 3]


def test_who_withdraws_is_in_no_later_sum_and_the_others_keep_their_groups(study, monkeypatch):
    asked = {}

    in_groups = MemberRows.in_groups

    def remembered(rows, groups):
        asked.setdefault(id(rows.rows), []).append(dict(groups))
        return in_groups(rows, groups)

    monkeypatch.setattr(MemberRows, "in_groups", remembered)
    now = iter(range(NOW, NOW + 10**6))
    north = study.sites()[0]
    with SiteStore.open(north.state) as store:
        leaver = min(store.cohort(study.policy.study).members)

    def withdraws(done, *_):
        if done == 4:
            with SiteStore.open(north.state) as store:
                store.withdraw(leaver, NOW + 1)

    train(study, clock=lambda: next(now), watch=withdraws)
    rounds = [each for each in asked.values() if leaver in each[0]]
    assert rounds
    for first, second in rounds:
        assert set(first) - set(second) == {leaver}
        assert all(first[subject] == group for subject, group in second.items())
        assert set(first.values()) <= set(range(5))
