"""Kill every verb at its effects: it goes on, nothing is used twice, the budget is exact (`sweep.py`)."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SWEEPS = (
    ("train", "--stride", "12", "--at", "share|sqlite", "--twice", "10"),
    ("train", "--stride", "12", "--first", "6", "--twice", "10"),
    ("release", "--stride", "4", "--twice", "8"),
    ("audit", "--twice", "8"),
    ("oath",),
    ("admit",),
    ("withdraw",),
    ("receipt",),
    ("report",),
)
LEAST_KILLS = 200
"""Of the nine sweeps together, without the kills during recovery."""

ON_A_FULL_DISK = (
    ("train", "--stride", "30"),
    ("release", "--stride", "20"),
    ("audit", "--stride", "5"),
    ("oath", "--stride", "4"),
    ("admit", "--stride", "3"),
    ("withdraw",),
    ("report",),
)


def swept(program, states: Path, how: str, sweeps) -> list:
    with ThreadPoolExecutor(max_workers=2) as workers:
        said = list(workers.map(lambda sweep: program("sweep.py", how, states, *sweep), sweeps))
    return [json.loads(each) for each in said]


def test_every_verb_goes_on_after_a_kill_at_any_effect(program, states: Path):
    found = swept(program, states, "kill", SWEEPS)
    assert [each["failures"] for each in found] == [[]] * len(SWEEPS)
    assert sum(each["kills"] for each in found) >= LEAST_KILLS
    assert sum(each["second"] for each in found) >= 20


def test_every_verb_says_that_the_disk_is_full_and_goes_on_when_it_is_not(program, states: Path):
    found = swept(program, states, "fill", ON_A_FULL_DISK)
    assert [each["failures"] for each in found] == [[]] * len(ON_A_FULL_DISK)
    assert all(each["kills"] for each in found), "each verb met the end of the disk, and said so with exit 4"


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("charge-after-share", ("--stride", "0", "--at", "share")),
        ("charge-forgotten", ("--stride", "100", "--first", "120")),
    ],
)
def test_the_sweep_sees_a_ledger_that_forgets(program, states: Path, fault: str, where: tuple[str, ...]):
    """The test of the test: with the charge behind the share, or kept in memory, every kill is a failure."""
    [found] = swept(program, states, "kill", [("train", "--fault", fault, *where)])
    said = [failure["failure"] for failure in found["failures"]]
    assert len(said) == found["kills"] > 0
    assert all("a share that it had not charged" in each for each in said)
