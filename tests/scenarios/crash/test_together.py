"""Two at once, and folders that may not be written: a verb ends, or says why not, and nothing is harmed."""

import json
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "verbs", "codes"),
    [
        ("train", ("train", "train"), {0, 4}),
        ("admit", ("admit", "admit"), {0, 4}),
        ("audit", ("train", "audit"), {0, 4}),
        ("release", ("audit", "release"), {0, 4}),
        ("train", ("withdraw", "train"), {0}),
        ("train", ("withdraw", "receipt"), {0}),
        ("report", ("report", "report"), {0, 4}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_two_verbs_at_once_do_no_harm(
    program, states: Path, state: str, verbs: tuple[str, str], codes: set[int]
):
    """The study is whole after it; a verb that did not run said exit 4. A withdrawal never has to wait."""
    for each in json.loads(program("together.py", "pair", states, state, *verbs, "--times", "2")):
        assert each["failure"] == ""
        assert 0 in each["codes"]
        assert set(each["codes"]) <= codes


def test_studies_that_share_a_site_reserve_and_charge_exactly(program, tmp_path: Path):
    """Of eight studies that ask at once for one epsilon of five, five get it, and every charge is kept."""
    pytest.importorskip("torch", reason="training is an extra")
    found = json.loads(program("together.py", "budget", tmp_path))
    assert sorted(found["codes"]) == [0, 0, 0, 0, 0, 5, 5, 5]
    assert found["charged"] == [20 if code == 0 else 0 for code in found["codes"]]


def test_where_nothing_may_be_written_every_verb_says_so_and_verify_works(program, states: Path):
    said = json.loads(program("together.py", "readonly", states))
    assert said.pop("verify") == "inconclusive"
    assert set(said) == {"oath", "admit", "train", "audit", "release", "report", "withdraw", "receipt"}
    for verb, refusal in said.items():
        assert refusal.startswith("4: "), (verb, refusal)
        assert "Permission denied" in refusal
