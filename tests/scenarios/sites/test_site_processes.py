"""Sites in processes of their own: killed, with their coordinator, and nothing is lost or used twice.

Slow, for each process imports torch.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oathbound.evidence.predicates import Charged, ModelMade, Round, TrainedWithSecureSum
from oathbound.workflow.notary import Consortium, check_complete, stated


def coordinated(study, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("coordinate.py")), str(study.path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def is_gone(pid):
    """Return whether the process has ended, or ends soon."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/status")
        if status.exists() and "State:\tZ" in status.read_text():
            return True  # it has ended, and nobody has asked how
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_three_sites_one_killed_and_then_the_coordinator(small, charged):
    study = small(engine="local-processes")
    died = coordinated(study, "--kill", "south", "proposal", "2", "--die", "3")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert all(is_gone(pid) for pid in json.loads(died.stdout)["pids"].values())
    # south was killed after it had charged attempt 2, which is void; 3 and 4 took the steps 2 and 3
    assert charged(study) == dict.fromkeys(("north", "east", "south"), (4, 4))

    ended = coordinated(study)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["steps"], said["attempts"]) == (4, 5)
    assert charged(study) == dict.fromkeys(("north", "east", "south"), (5, 5))
    with study.log() as log:
        consortium = Consortium.of(study)
        check_complete(log, consortium)
        segments = stated(log, TrainedWithSecureSum, consortium.parties)
        assert [(each.round, each.first_step, each.last_step) for each in segments] == [(1, 1, 3), (2, 4, 4)]
        assert len(stated(log, Round, consortium.parties)) == 6
        assert [each.event.attempts for each in stated(log, Charged, consortium.parties)] == [5, 5, 5]
        assert len(stated(log, ModelMade, consortium.parties)) == 1


@pytest.mark.slow
def test_four_sites_one_killed_in_a_step_that_is_taken(small, charged):
    study = small("north", "east", "south", "west", engine="local-processes", round_steps=2)
    ended = coordinated(study, "--kill", "east", "proposal", "1")
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["steps"], said["attempts"]) == (4, 4)
    # its masked share was there; without the session's keys it misses attempt 2, and is back in round 2
    assert {name: count for name, (count, _) in charged(study).items()} == {
        "north": 4,
        "east": 3,
        "south": 4,
        "west": 4,
    }


@pytest.mark.slow
def test_a_process_that_opened_a_sites_folder_would_be_noticed(small):
    study = small()  # one process opens all folders
    opened = coordinated(study)
    assert opened.returncode == 70
    assert "the coordinator's process opens" in opened.stderr
