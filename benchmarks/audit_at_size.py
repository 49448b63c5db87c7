"""The five-minute profile of an audit: how long it takes, whether `check` foresaw it, and in how much memory.

    python benchmarks/audit_at_size.py [--patients 1000] [--processes 2]

A model of 1.1 million weights with a context of 256 tokens, members and held-out patients as many, two chains
and four rungs of the ladder: what a site does before it lets an audit run overnight. The model is new, so no
test finds anything, and no chain ends early: its cost is the most that a model of this size can have. A tenth
of the patients states a sensitive code. Nobody's records: they are invented.

1. At a quarter, half and all of the patients: the price by `check`, and the audit's time and peak memory.
2. Membership alone, at up to thirty-two times the patients: peak memory.

Every measurement runs in a process of its own. Nothing here decides a test.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import torch

from oathbound.core.shape import EventTransformer, Vocabulary
from oathbound.models.folder import write_model
from oathbound.models.transformer import build

WANTED = 300
"""Seconds on two cores."""

CODES, SENSITIVE, EVENTS, CARRIERS = 1_990, 20, 110, 0.1
DAY = 86_400 * 10**6

PLAN = """
format = "oathbound/audit-plan/v1"
alpha = "0.05"
minimum_patients = 20
{sensitive}
"""
LADDER = """
[sensitive]
name = "an illness that nobody speaks of"
codes = [{codes}]
implied_by = []
prompt_events = 50
horizon = 64
chains = 2
ladder = ["age-and-sex", "codes-10", "codes-20", "codes-50"]
"""


def invent(folder: Path, people: int, first: int) -> Path:
    """Write a MEDS folder of people with about `EVENTS` events each."""
    rng = np.random.default_rng(first)
    counts = rng.poisson(EVENTS, people) + 10
    subject = np.repeat(np.arange(first, first + people), counts)
    code = rng.integers(SENSITIVE, CODES, counts.sum())
    start = np.cumsum(counts) - counts
    carriers = rng.random(people) < CARRIERS
    code[start[carriers] + np.minimum(60, counts[carriers] - 1)] = rng.integers(0, SENSITIVE, carriers.sum())
    step = rng.integers(0, 30, counts.sum()) * DAY
    day = np.cumsum(step) - np.repeat(np.cumsum(step)[start], counts)
    frame = pl.DataFrame(
        {
            "subject_id": subject,
            "time": pl.Series(day).cast(pl.Datetime("us")),
            "code": np.char.add("CODE//", code.astype(str)),
        }
    )
    (folder / "data").mkdir(parents=True)
    frame.write_parquet(folder / "data" / "0.parquet")
    return folder


def write_new_model(folder: Path) -> int:
    """Write a model that has learnt nothing; return the number of its weights."""
    vocabulary = Vocabulary(
        codes=tuple(f"CODE//{number}" for number in range(CODES)),
        edges={},
        ages=(Decimal(50),),
        gaps=(Decimal(7),),
    )
    shape = EventTransformer(name="event-transformer", layers=6, width=128, heads=4, length=256, seed=1)
    model = build(shape, vocabulary.size)
    write_model(folder, model, vocabulary)
    return sum(weight.numel() for weight in model.parameters())


def ran(*arguments: str, cwd: Path) -> tuple[dict, float, float]:
    """Run oathbound in a process of its own; return its answer, the seconds, and its peak memory in MiB."""
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout), seconds, float(done.stderr.split()[-1])


def one(arguments: list[str]) -> None:
    """Run a command here, and print the peak memory of this process after its answer."""
    from oathbound.cli.main import run  # noqa: PLC0415 - it has memory of its own

    sys.argv = ["oathbound", *arguments, "--format", "json"]
    try:
        run()
    except SystemExit as ended:
        if ended.code not in {0, 13}:
            raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (1024**2 if sys.platform == "darwin" else 1024), file=sys.stderr)


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return how the value grows with the size: its exponent, from the first to the last."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def profile(room: Path, patients: int, processes: int) -> None:
    """Print price and cost of the five-minute profile at three sizes."""
    codes = ", ".join(f'"CODE//{number}"' for number in range(SENSITIVE))
    (room / "plan.toml").write_text(PLAN.format(sensitive=LADDER.format(codes=codes)))
    sizes, times = [patients // 4, patients // 2, patients], []
    print(f"patients   priced    took   ratio   peak      ({processes} processes share the work)")
    for size in sizes:
        given = []
        for part, first in (("members", 0), ("held-out", 10**6)):
            given += [f"--{part}", str(invent(room / f"{part}-{size}", size, first))]
        options = ["model", *given, "--plan", "plan.toml"]
        priced, *_ = ran("check", *options, cwd=room)
        foreseen = sum(test["seconds"] for test in priced["tests"])
        _, alone, peak = ran("audit", *options, cwd=room)
        _, shared, _ = ran("audit", *options, "--processes", str(processes), cwd=room)
        times.append(alone)
        print(
            f"{size:>5,} x 2 {foreseen:>7,} s {alone:>5.0f} s   {foreseen / alone:.2f}  {peak:>6,.0f} MiB"
            f"   shared {shared:.0f} s"
        )
    print(
        f"grows with the exponent {exponent(sizes, times):.2f}; wanted: at most {WANTED} s, priced within 0.3"
    )


def memory(room: Path, patients: int) -> None:
    """Print the peak memory of the membership test at growing sizes."""
    (room / "plain.toml").write_text(PLAN.format(sensitive=""))
    sizes, peaks = [patients * 2, patients * 8, patients * 32], []
    print("\npatients   peak of the membership test")
    for size in sizes:
        given = []
        for part, first in (("members", 0), ("held-out", 10**6)):
            given += [f"--{part}", str(invent(room / f"many-{part}-{size}", size // 2, first))]
        *_, peak = ran("audit", "model", *given, "--plan", "plain.toml", cwd=room)
        peaks.append(peak)
        print(f"{size:>8,} {peak:>8,.0f} MiB")
    growth = (peaks[-1] - peaks[0]) * 1024 / (sizes[-1] - sizes[0])
    print(f"{growth:.2f} KiB for each patient more; {EVENTS} events as objects would be about 25 KiB")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(json.loads(asked.one))
        return
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        weights = write_new_model(room / "model")
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        print(
            f"{weights:,} weights; Python {platform.python_version()}, torch {torch.__version__}, "
            f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, load {load}\n"
        )
        profile(room, asked.patients, asked.processes)
        memory(room, asked.patients)


if __name__ == "__main__":
    main()
