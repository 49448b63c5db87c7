"""Sites cosign only what they have seen grow, and only if their own statements are in it."""

import shutil
import time
from pathlib import Path

import pytest

from oathbound.core.errors import ConsentRefused, NotAuthentic, NothingExamined
from oathbound.evidence.predicates import Oath
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.notary import Consortium, standing, stands, started, state, witnessed

pytest.importorskip("torch", reason="training is an extra")

from oathbound.workflow.admit import admit_site
from oathbound.workflow.oath import swear
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

NOW = int(time.time())


@pytest.fixture
def study(sworn: Path) -> StudyFolder:
    return StudyFolder.open(sworn)


def test_a_log_that_leaves_out_a_sites_statement_is_not_cosigned(study: StudyFolder):
    site, policy = study.site("north"), study.policy
    other = Oath(policy_digest="sha256:" + 64 * "0", site="north")
    with site.log(policy) as own:
        state(other, site.secret(), own)
    with study.log() as log, pytest.raises(NotAuthentic, match="leaves out"):
        witnessed(log, study.secret(), Consortium.of(study), NOW)


def test_a_log_that_was_rewritten_is_not_cosigned(study: StudyFolder, tmp_path: Path):
    consortium = Consortium.of(study)
    shutil.copytree(study.path / "log", tmp_path / "before")
    with study.log() as log:
        state(Oath(policy_digest=study.policy.digest, site="coordinator"), study.secret(), log)
        witnessed(log, study.secret(), consortium, NOW)
    shutil.rmtree(study.path / "log")
    shutil.copytree(tmp_path / "before", study.path / "log")
    with study.log() as log:
        state(Oath(policy_digest=study.policy.digest, site="elsewhere"), study.secret(), log)
        with pytest.raises(NotAuthentic, match="rewritten"):
            witnessed(log, study.secret(), consortium, NOW)


def test_a_checkpoint_without_its_witnesses_is_completed_and_never_relied_on(study: StudyFolder):
    consortium, lonely = Consortium.of(study), Consortium(study.policy, study.parties(), [])
    with study.log() as log:
        bare = started(log, study.secret(), lonely, NOW)
        assert not stands(bare, consortium)
        state(Oath(policy_digest=study.policy.digest, site="coordinator"), study.secret(), log)
        whole = started(log, study.secret(), consortium, NOW)
        assert whole.startswith(bare[: bare.index(b"\n\n")])
        assert stands(whole, consortium)
        with pytest.raises(NothingExamined):
            standing(log, consortium)


def test_stale_consents_are_not_used(sworn: Path):
    log_of = sworn / "sites" / "north" / "state.sqlite"
    before = log_of.stat().st_size
    study = StudyFolder.open(sworn)
    with pytest.raises(ConsentRefused, match="24 hours"):
        train(study, clock=lambda: NOW + 25 * 3600 + 600, watch=unwatched)
    assert log_of.stat().st_size == before


def test_a_site_that_lost_its_log_gets_its_admission_back(study: StudyFolder):
    with study.log() as log:
        before = log.leaves()
    shutil.rmtree(study.path / "sites" / "north" / "studies")
    swear(study, "north")
    admit_site(study, "north", now=NOW)
    with study.log() as log, study.site("north").log(study.policy) as own:
        assert log.leaves() == before
        assert set(own.leaves()) <= set(before)
        assert own.size == 2
    with study.log() as log:
        witnessed(log, study.secret(), Consortium.of(study), NOW)


def test_a_bare_start_does_not_make_stale_consents_fresh(study: StudyFolder):
    with study.log() as log:
        started(log, study.secret(), Consortium(study.policy, study.parties(), []), NOW)
    with pytest.raises(ConsentRefused, match="24 hours"):
        train(study, clock=lambda: NOW + 25 * 3600 + 600, watch=unwatched)


def test_a_finding_that_was_not_delivered_stops_a_release_and_does_not_end_the_study(run, sworn: Path):
    assert run("train", sworn).returncode == 0
    for site in ("north", "east", "south"):
        assert run("audit", sworn / "model", "--site", site).returncode == 0
    # as after a kill between the site's own log and the study's: the study's lacks the last finding
    log = sworn / "log" / "tile" / "entries" / "000.p"
    widths = sorted(int(file.name) for file in log.iterdir())
    study = StudyFolder.open(sworn)
    with study.log() as opened:
        leaves = opened.leaves()[:-1]
    (log / str(widths[-1])).unlink()
    (log / str(len(leaves))).write_bytes(b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves))
    refused = run("release", sworn / "model", "-o", sworn / "a.oath")
    assert refused.returncode == 10, refused.stderr
    assert "run it again" in refused.stderr
    assert run("audit", sworn / "model", "--site", "south").returncode == 0
    released = run("release", sworn / "model", "-o", sworn / "a.oath")
    assert released.returncode in {0, 13}, released.stderr
    for other in ("nowhere", "run"):
        refused = run("release", sworn / other, "-o", sworn / "b.oath")
        assert refused.returncode == 2, refused.stderr
        assert "not a model folder" in refused.stderr
    assert not (sworn / "b.oath").exists()
