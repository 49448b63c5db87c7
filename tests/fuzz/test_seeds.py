"""Replay: what once tripped a parser, or led the fuzzer further, gives a value or a documented refusal."""

import signal
import subprocess
import sys
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


def test_a_damaged_parquet_file_can_still_end_the_process():
    """Polars asks for the memory that this file's header claims, and aborts: nothing in Python can refuse.

    When this test fails, polars has been mended: move the file to seeds/meds.
    """
    read = "import polars, sys; polars.scan_parquet(sys.argv[1]).collect()"
    file = Path(__file__).with_name("known") / "aborts-polars.parquet"
    ended = subprocess.run([sys.executable, "-c", read, str(file)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
