"""Replay: what once tripped a parser, or led the fuzzer further, gives a value or a documented refusal."""

import signal
from pathlib import Path

import pytest
from parsers import PARSERS

from fuzz import SEEDS, outcome, scratch


@pytest.fixture(scope="module")
def folder():
    with scratch() as place:
        yield place


def ends(name, inputs, folder: Path):
    """Return how a parser ends on each input, in a folder of its own."""
    before = signal.signal(signal.SIGPROF, signal.default_int_handler)
    try:
        for number, data in enumerate(inputs):
            own = folder / name / str(number)
            own.mkdir(parents=True)
            yield outcome(PARSERS[name], data, own)
    finally:
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("name", PARSERS)
def test_every_seed_has_a_value_or_is_refused_as_documented(name, folder, capfd):
    files = sorted((SEEDS / name).glob("*"))
    wrong = {
        file.name: end
        for file, end in zip(files, ends(name, (file.read_bytes() for file in files), folder), strict=True)
        if end not in {"value", "refused"}
    }
    capfd.readouterr()  # polars prints the panics that it raises
    assert not wrong


def test_seeds_are_small_and_of_a_parser():
    assert {path.name for path in SEEDS.iterdir()} <= set(PARSERS)
    assert sum(file.stat().st_size for file in SEEDS.rglob("*") if file.is_file()) < 300_000
