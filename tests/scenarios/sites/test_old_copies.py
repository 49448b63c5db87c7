"""A study file that was edited, and a state that was put back: noticed before anything is signed or spent."""

import shutil
import time

import pytest

from oathbound.core.errors import Refused
from oathbound.workflow.folders import StudyFolder

pytest.importorskip("torch", reason="training is an extra")

from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.doctor import examine
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

ANOTHER = "to another one"


def now():
    return int(time.time())


def edited(study):
    """Return the study with another purpose."""
    file = study.path / "study.toml"
    text = file.read_text()
    start = text.index("\npurpose = ") + 1
    file.write_text(text[:start] + 'purpose = "Something else"' + text[text.index("\n", start) :])
    return StudyFolder.open(study.path)


def trained(study):
    return train(study, clock=now, watch=unwatched)


def logged(study):
    """Return what all logs hold."""
    held = []
    with study.log() as log:
        held.append(list(log.leaves()))
    for site in study.sites():
        with site.log(study.policy) as own:
            held.append(list(own.leaves()))
    return held


def wrong(study, site, *, at=None):
    return [each.wrong for each in examine(study, site, kit=None, now=at or now()) if each.wrong]


def test_a_study_file_that_was_edited_after_the_oath_is_noticed_before_training(small):
    other = edited(small())
    with pytest.raises(Refused, match=ANOTHER):
        trained(other)
    assert [ANOTHER in each for each in wrong(other, "north")] == [True]


def test_after_training_audit_and_release_refuse_it_too(small):
    study = small()
    sworn = (study.path / "study.toml").read_bytes()
    trained(study)
    before = logged(study)
    other = edited(study)
    for verb in (
        lambda: audit_site(other, study.model, "north", now=now()),
        lambda: release(other, study.model, study.path / "study.oath", now=now()),
        lambda: trained(other),
    ):
        with pytest.raises(Refused, match=ANOTHER):
            verb()
    assert logged(study) == before
    (study.path / "study.toml").write_bytes(sworn)
    for site in study.policy.sites:
        audit_site(study, study.model, site.name, now=now())
    release(study, study.model, study.path / "study.oath", now=now())


def test_a_state_that_was_put_back_after_training_is_noticed_by_every_study(small, tmp_path):
    study = small()
    north = study.site("north")
    shutil.copyfile(north.state, tmp_path / "old")
    trained(study)
    newest = north.state.read_bytes()
    assert wrong(study, "north") == []
    assert ["clock is behind" in each for each in wrong(study, "north", at=now() - 3600)] == [True]

    for name in ("state.sqlite-wal", "state.sqlite-shm"):
        (north.path / name).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "old", north.state)
    with pytest.raises(Refused, match="of north has forgotten"):
        audit_site(study, study.model, "north", now=now())
    assert ["has forgotten what the study" in each for each in wrong(study, "north")] == [True]

    second = another(study, tmp_path)
    swear(second, "north")
    with north.log(study.policy), pytest.raises(Refused, match="has forgotten what the study"):
        admit_site(second, "north", now=now())  # also while the first study is at work

    north.state.unlink()
    assert ["is gone, and the site has admitted" in each for each in wrong(study, "north")] == [True]
    north.state.write_bytes(newest)
    north.state.chmod(0o600)
    assert wrong(study, "north") == []
    admit_site(second, "north", now=now())


def another(study, tmp_path):
    """Return a second study at the same sites."""
    text, name = (study.path / "study.toml").read_text(), study.policy.study
    text = text.replace(f'study = "{name}"', 'study = "second"')
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "study.toml").write_text(text)
    shutil.copytree(study.path / "keys", tmp_path / "second" / "keys")
    shutil.copytree(study.path / "parties", tmp_path / "second" / "parties")
    (tmp_path / "second" / study.study.run.sites).symlink_to((study.path / study.study.run.sites).resolve())
    return StudyFolder.open(tmp_path / "second")
