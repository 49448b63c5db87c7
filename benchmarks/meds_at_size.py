"""Health-record events at size: how fast, and in how much memory, a MEDS set becomes a model's tokens.

    python benchmarks/meds_at_size.py [--events 10000000]

Makes MEDS folders of invented patients at three sizes, and takes each through what a site does with it: open
and check every shard, look for copies, read the cohort and turn it into tokens. Every measurement runs in a
process of its own. The floor is polars reading the same four columns; the object path, one Python object an
event, runs at the smallest size. Nothing here decides a test.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from oathbound.core.shape import Vocabulary
from oathbound.data.cohort import Cohort, restored
from oathbound.data.meds import Meds, open_meds
from oathbound.models.tokenizer import Tokenizer

EVENTS_A_PATIENT = 120
SHARD_EVENTS = 1_250_000
CODES, NUMERIC, LISTED = 5_000, 500, 1_000
LENGTH = 256
DAY = 86_400 * 10**6


def make(folder: Path, events: int) -> None:
    """Write about `events` events, the same for the same size: 5,000 codes, of which few are frequent."""
    shards = math.ceil(events / SHARD_EVENTS)
    for shard in range(shards):
        draw = np.random.default_rng([events, shard])
        patients = max(2, events // shards // EVENTS_A_PATIENT)
        counts = 2 + draw.poisson(draw.exponential(EVENTS_A_PATIENT - 2, patients))
        subject = np.repeat(np.arange(patients) * shards + shard + 1, counts)
        first = np.append(0, np.cumsum(counts)[:-1])
        code = np.minimum((draw.pareto(1, len(subject)) * 20).astype(np.int64), CODES - 1)
        names = np.array([f"CODE//{place:05}" for place in range(CODES)] + ["GENDER//F", "MEDS_BIRTH"])
        moment = draw.integers(0, 20 * 365 * DAY, len(subject))
        value = np.where(code < NUMERIC, draw.normal(100, 20, len(subject)), np.nan)
        code[first], code[first + 1] = CODES, CODES + 1
        value[first] = value[first + 1] = np.nan
        moment[first], moment[first + 1] = -(2**63), -draw.integers(1, 60 * 365 * DAY, patients)
        frame = pl.DataFrame(
            {
                "subject_id": subject,
                "time": moment.view("datetime64[us]"),
                "code": names[code],
                "numeric_value": value.astype(np.float32),
            }
        ).sort("subject_id", "time", nulls_last=False)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        frame.with_columns(pl.col("numeric_value").fill_nan(None)).write_parquet(
            folder / "data" / f"{shard}.parquet"
        )


def vocabulary() -> Vocabulary:
    """Return the 1,000 most frequent codes, half of them with four bins."""
    codes = ["GENDER//F", *(f"CODE//{place:05}" for place in range(LISTED))]
    return Vocabulary.parse(
        {
            "codes": codes,
            "edges": {f"CODE//{place:05}": ["80", "100", "120"] for place in range(NUMERIC)},
            "ages": ["18", "40", "65", "80"],
            "gaps": ["1", "7", "30", "365"],
        },
        what="vocabulary",
    )


def measure(folder: Path, what: str) -> dict[str, float]:
    """Return the seconds of each stage, the events, and the peak of memory in bytes, of this process."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage] = time.perf_counter() - start

    shards = sorted((folder / "data").glob("*.parquet"))
    if what == "polars":
        with timed("read"):
            for shard in shards:
                pl.read_parquet(shard, columns=["subject_id", "time", "code", "numeric_value"])
    else:
        tokenizer = Tokenizer(vocabulary())
        with timed("open"):
            source = open_meds({"path": folder.name}, folder.parent)
        with timed("duplicates"):
            source.duplicates(frozenset(source.subjects()))
        with timed("read, tokenise"):
            tokenise(source, tokenizer, objects=what == "objects")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    events = sum(pl.scan_parquet(shard).select(pl.len()).collect().item() for shard in shards)
    return {**seconds, "events": events, "peak": peak}


def tokenise(source: Meds, tokenizer: Tokenizer, *, objects: bool) -> None:
    """Read everybody and keep the tokens, as a node does."""
    cohort = everybody(source)
    if objects:
        kept: list[Any] = [tokenizer.encode(patient, LENGTH) for patient in source.patients(cohort)]
    else:
        kept = [tokenizer.encode_columns(columns, LENGTH) for columns in source.columns(cohort)]
    assert kept


def everybody(source: Meds) -> Cohort:
    """Return a cohort of all subjects."""
    first, *others = source.subjects()
    return restored("benchmark", "sha256:0", {"members": others, "held_out": [first]})


def apart(*arguments: object) -> dict[str, float]:
    """Run this file in a process of its own and return what it measured."""
    ran = subprocess.run(  # noqa: S603 - this file itself
        [sys.executable, __file__, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(ran.stdout or "{}")
    return measured


def say(name: str, measured: dict[str, float]) -> float:
    """Print one line, and return the seconds of all stages."""
    stages = {stage: value for stage, value in measured.items() if stage not in {"events", "peak"}}
    total = sum(stages.values())
    told = "  ".join(f"{stage} {value:.2f} s" for stage, value in stages.items())
    print(
        f"{name:8} {measured['events']:>11,.0f} events  {total:7.2f} s  {measured['events'] / total:>11,.0f} "
        f"events/s  peak {measured['peak'] / 2**20:6,.0f} MiB  ({told})"
    )
    return total


def main() -> None:
    """Measure, or do one part of it: `--make` and `--measure` are for the processes apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000, help="the largest of the three sizes")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--path", choices=("columns", "objects", "polars"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make(asked.make, asked.events)
        return
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.path)))
        return
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, polars {pl.__version__}; "
        f"{os.cpu_count()} cores, polars uses {pl.thread_pool_size()}; load {os.getloadavg()[0]:.1f}"
    )
    sizes = [asked.events // 100, asked.events // 10, asked.events]
    totals, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / str(size)
            apart("--make", path, "--events", size)
            measured = apart("--measure", path, "--path", "columns")
            totals.append(say("columns", measured))
            peaks.append(measured["peak"])
            say("polars", apart("--measure", path, "--path", "polars"))
            if size == sizes[0]:
                say("objects", apart("--measure", path, "--path", "objects"))
    for name, values in (("seconds", totals), ("peak", peaks)):
        exponent = np.polyfit(np.log(sizes), np.log(values), 1)[0]
        last = math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
        print(f"{name} grow as events^{exponent:.2f}; between the two largest sizes ^{last:.2f}")


if __name__ == "__main__":
    main()
