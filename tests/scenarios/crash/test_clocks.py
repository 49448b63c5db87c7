"""A clock that runs backwards, or a day that passes: a verb waits for the right time; the bundle verifies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oathbound.core.errors import ConsentRefused, Unavailable
from oathbound.data.store import SiteStore
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified, verify
from oathbound.workflow import notary
from oathbound.workflow.folders import StudyFolder

NOW = 1_800_000_000
SITES = ("north", "east", "south")


@pytest.fixture
def at(states: Path, tmp_path: Path) -> Callable[[str], StudyFolder]:
    """Return a function that gives a copy of the study as it is before a verb."""

    def copy(state: str) -> StudyFolder:
        shutil.copytree(states / state, tmp_path / "study")
        return StudyFolder.open(tmp_path / "study")

    return copy


def trained(study: StudyFolder, *, clock: Callable[[], int], watch: Callable[..., None] = lambda *_: None):
    from oathbound.workflow.train import train  # noqa: PLC0415 - `at` has skipped where there is no torch

    return train(study, clock=clock, watch=watch)


def ended(study: StudyFolder, *, now: int) -> Verified:
    """Audit at every site, release, and verify as a stranger."""
    from oathbound.workflow.audit import audit_site  # noqa: PLC0415 - `at` has skipped where there is no torch
    from oathbound.workflow.release import release  # noqa: PLC0415 - `at` has skipped where there is no torch

    for site in SITES:
        audit_site(study, study.model, site, now=now)
    bundle = release(study, study.model, study.path / "a.oath", now=now).bundle
    return verify(bundle, Trust.load(study.path / "trust.toml"), at=now)


@pytest.mark.parametrize("behind", [1, 200, 90_000])
def test_training_waits_for_a_clock_that_is_behind_the_admission(at, behind: int):
    study = at("train")
    with pytest.raises((Unavailable, ConsentRefused), match="in the future"):
        trained(study, clock=lambda: NOW - behind)
    trained(study, clock=lambda: NOW)
    assert ended(study, now=NOW).training[-1].last_step == 4


@pytest.mark.parametrize("jump", [2, 4, 5, 8])
def test_a_clock_that_jumps_back_while_training(at, jump: int):
    """From its n-th look on, the clock shows a day before. Set right, the study ends and verifies."""
    study = at("train")
    looks = iter(range(1000))
    with pytest.raises(Unavailable, match=r"in the future|behind") as refused:
        trained(study, clock=lambda: NOW - (86_000 if next(looks) >= jump else 0))
    assert refused.value.hint
    trained(study, clock=lambda: NOW + 5)
    assert ended(study, now=NOW + 10).training[-1].last_step == 4


@pytest.mark.parametrize("behind", [1, 1000])
def test_an_audit_waits_for_a_clock_that_is_behind_the_model(at, behind: int):
    from oathbound.workflow.audit import audit_site  # noqa: PLC0415 - `at` has skipped where there is no torch

    study = at("audit")
    with pytest.raises(Unavailable, match=r"in the future|behind"):
        audit_site(study, study.model, "north", now=NOW - behind)
    ended(study, now=NOW)


def test_an_audit_waits_for_a_clock_that_is_behind_the_witnesses_of_the_model(at):
    """Training ended two hours after its last round read consents; the audit comes between the two."""
    from oathbound.workflow.audit import audit_site  # noqa: PLC0415 - `at` has skipped where there is no torch

    study, looks = at("train"), iter(range(1000))
    trained(study, clock=lambda: NOW + (7200 if next(looks) >= 8 else 0))
    with pytest.raises(Unavailable, match="behind"):
        audit_site(study, study.model, "north", now=NOW + 3600)
    ended(study, now=NOW + 7200)


def test_a_release_waits_for_a_clock_that_is_behind_the_audit(at):
    from oathbound.workflow.release import release  # noqa: PLC0415 - `at` has skipped where there is no torch

    study = at("release")
    with pytest.raises(Unavailable, match="in the future"):
        release(study, study.model, study.path / "a.oath", now=NOW - 1000)
    assert not (study.path / "a.oath").exists()
    ended(study, now=NOW)


def test_a_checkpoint_that_waits_for_its_witnesses_waits_for_the_clock_too(at, monkeypatch):
    """A crash leaves the model's checkpoint bare; whoever completes it later must not do so earlier."""
    study = at("train")
    write, places = notary.Log.write_checkpoint, iter(range(1000))

    def crash(log: notary.Log, note: bytes) -> None:
        write(log, note)
        if next(places) == 6:  # the start, two rounds, each bare and cosigned; then the model
            raise KeyboardInterrupt

    monkeypatch.setattr(notary.Log, "write_checkpoint", crash)
    with pytest.raises(KeyboardInterrupt):
        trained(study, clock=lambda: NOW)
    monkeypatch.undo()
    assert study.model.is_dir()
    with pytest.raises(Unavailable, match="behind"):
        trained(study, clock=lambda: NOW - 1000)
    trained(study, clock=lambda: NOW)
    ended(study, now=NOW)


def test_steps_taken_before_a_crash_are_stated_of_their_own_round(at):
    """A training that stopped in a round goes on a day later: no step is said to be of the later round."""
    study = at("train")

    def stop(step: int, *_: object) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(study, clock=lambda: NOW, watch=stop)
    later = NOW + 25 * 3600
    trained(study, clock=lambda: later)
    verified = ended(study, now=later)
    assert [(each.round, each.first_step, each.last_step) for each in verified.training] == [
        (1, 1, 1),
        (2, 2, 3),
        (3, 4, 4),
    ]
    assert {each.round: each.as_of for each in verified.rounds} == {1: NOW, 2: later, 3: later}


def test_a_withdrawal_on_a_clock_that_is_behind_ends_the_consent_all_the_same(at):
    from oathbound.workflow.patient import withdraw  # noqa: PLC0415 - `at` has skipped where there is no torch

    study = at("train")
    site = study.site("north")
    with SiteStore.open(site.state) as store:
        member = min(store.cohort("study").members)
        [consent] = store.consents()[member]
    assert consent.given is not None
    withdraw(site, member, now=int(consent.given.timestamp()) - 86_400)
    with SiteStore.open(site.state) as store:
        assert [each.status for each in store.consents()[member]] == ["withdrawn"]
    trained(study, clock=lambda: NOW)
    with SiteStore.open(site.state) as store:
        assert member in store.uses("study")["round-1"].absent
