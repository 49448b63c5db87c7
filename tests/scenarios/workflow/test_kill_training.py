"""Kill `train` in the middle: it goes on, no attempt is used twice, and the budget is exact."""

import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from oathbound.core import accounting
from oathbound.data.store import SiteStore
from oathbound.evidence.bundle import read_bundle
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import verify
from oathbound.workflow.folders import StudyFolder

SITES = ("north", "east", "south")


def killed_after(study: Path, snapshots: int) -> None:
    """Start `train` and send SIGKILL once its snapshot has changed that often."""
    process = subprocess.Popen(
        [sys.executable, "-m", "oathbound.cli", "train", str(study)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < snapshots and process.poll() is None and time.monotonic() < deadline:
        if (study / "run" / "snapshot").exists():
            seen.add((study / "run" / "snapshot").stat().st_mtime_ns)
        time.sleep(0.001)
    assert process.poll() is None, "training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def charged(study: Path) -> dict[str, tuple[int, int]]:
    counts = {}
    for site in SITES:
        with SiteStore.open(study / "sites" / site / "state.sqlite") as store:
            charges = store.charged(study.name)
            counts[site] = (charges.count, charges.highest)
    return counts


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_exact_budget(run, sworn: Path):
    for kill in (3, 4):
        killed_after(sworn, kill)
    before = charged(sworn)
    assert min(count for count, _ in before.values()) >= 6

    resumed = run("train", sworn)
    assert resumed.returncode == 0, resumed.stderr
    after = charged(sworn)
    for site in SITES:
        count, highest = after[site]
        assert count > before[site][0]
        assert highest > before[site][1]
        # every step was taken once, and each kill cost this site one attempt at most
        assert 60 <= count <= 62

    for site in SITES:
        assert run("audit", sworn / "model", "--site", site).returncode == 0
    assert run("release", sworn / "model", "-o", sworn / "a.oath").returncode in {0, 13}
    verified = verify(read_bundle(sworn / "a.oath"), Trust.load(sworn / "trust.toml"), at=int(time.time()))
    assert {c.site: c.event.attempts for c in verified.charges} == {site: after[site][0] for site in SITES}
    assert verified.training[-1].last_step == 60
    assert verified.training[-1].attempts == max(highest for _, highest in after.values())
    budget = StudyFolder.open(sworn).policy.budget
    most = max(verified.charges, key=lambda charge: charge.event.attempts).event
    assert verified.epsilon == accounting.epsilon(most, budget.delta)
    assert Decimal(0) < verified.epsilon <= budget.epsilon

    again = run("train", sworn)
    assert again.returncode == 0, again.stderr
    assert charged(sworn) == after, "a finished training charges nothing more"
