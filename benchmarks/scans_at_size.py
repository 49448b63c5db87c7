"""Scans at size: in how much memory a site turns scans into what a model sees, and how fast it learns.

    python benchmarks/scans_at_size.py [--scans 50000] [--side 128]

Invents scans of noise, four of a person, as a source that gives them piece by piece, and lays out the rows of
all: on disk, as rows above 256 MiB are, and in memory; each in a process of its own. Then sums clipped
gradients of 64 people, eight scans each. Nothing here decides a test.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch

from oathbound.core.patient import Columns, Patient
from oathbound.core.shape import Recordings, ScanNet
from oathbound.data.cohort import Cohort, restored
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.memory import InMemory
from oathbound.models.convolutional import build
from oathbound.models.model import flat
from oathbound.models.recordings import RecordingEncoder
from oathbound.train.clip import clipped_sum
from oathbound.workflow import records
from oathbound.workflow.members import Members

EACH, PIECE = 4, 500
NETWORKS = (((4, 8), 40, 8), ((4, 8, 16), 40, 8), ((8, 16, 32), 40, 8), ((8, 16, 32), 224, 2))
"""Widths, side of a scan, scans of a person."""


class Invented(InMemory):
    """People with scans of noise, made when they are read."""

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield them, a piece at a time."""
        side, everybody = int(self.description.schema), sorted(cohort.subjects)
        for start in range(0, len(everybody), PIECE):
            subject = np.repeat(np.array(everybody[start : start + PIECE]), EACH)
            draw = np.random.default_rng(start)
            yield Columns(
                subject=subject,
                time=np.full(len(subject), np.datetime64("NaT"), dtype="datetime64[us]"),
                code=draw.integers(2, size=len(subject)).astype(np.uint8),
                value=np.full(len(subject), np.nan),
                codes=("ill", "well"),
                frames=draw.integers(256, size=(len(subject), side, side), dtype=np.uint8),
            )

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Refuse: an object a scan is not what is measured."""
        raise NotImplementedError(cohort)


def seen(side: int, most: int) -> Recordings:
    """Return what the model sees."""
    plain = {"shape": [side, side], "most": most, "centre": "128", "scale": "64", "classes": ["ill", "well"]}
    return Recordings.parse(plain, what="recordings")


def peak() -> int:
    """Return the most memory that this process has held, in MiB."""
    unit = 1024 if sys.platform == "linux" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def lay_out(scans: int, side: int, *, on_disk: bool) -> dict[str, float]:
    """Lay all rows out, and take three samples of a hundredth."""
    records.MOST_IN_MEMORY = 0 if on_disk else 2**62  # type: ignore[misc] - both, whatever the size
    described = SourceDescription("invented", str(side), None, Dropped())
    nobody = Columns(*(np.zeros(0, dtype=np.int64),) * 4, codes=())
    members = range(1, scans // EACH)
    cohort = restored("study", "sha256:0", {"members": members, "held_out": [0]})
    before, began = peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        source = Invented(nobody, frozenset(), described)
        rows = records.rows_of(source, cohort, members, RecordingEncoder(seen(side, EACH)), Path(folder))
        laid = time.perf_counter() - began
        for _ in range(3):
            Members(rows, np.arange(len(rows))).sample(Decimal("0.01"))
    return {"MiB of rows": rows.nbytes // 2**20, "seconds": round(laid, 1), "before": before, "peak": peak()}


def learn(widths: tuple[int, ...], side: int, most: int) -> str:
    """Return how many scans a second of processor time go into a clipped sum."""
    model = build(ScanNet(name="scan-net", widths=widths, seed=1), seen(side, most))
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(64, most, side * side + 1)).astype(np.float16)
    rows[..., -1] = draw.integers(2, size=(64, most))
    clipped_sum(model, rows[:2], clip=1.0, ring_norm=2**14)
    began = time.process_time()
    clipped_sum(model, rows, clip=1.0, ring_norm=2**14)
    speed = 64 * most / (time.process_time() - began)
    return f"{side} x {side}, widths {widths}, {flat(model).size:,} weights: {speed:,.0f} scans a second"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--only", choices=["disk", "memory"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only:
        print(json.dumps(lay_out(asked.scans, asked.side, on_disk=asked.only == "disk")))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread")
    for where, said in (("disk", "on disk"), ("memory", "in memory")):
        size = ["--scans", str(asked.scans), "--side", str(asked.side), "--only", where]
        ran = subprocess.run([sys.executable, __file__, *size], check=True, capture_output=True, text=True)  # noqa: S603 - this program
        print(f"{asked.scans:,} scans of {asked.side} x {asked.side}, rows {said}: {ran.stdout.strip()}")
    for network in NETWORKS:
        print(learn(*network))


if __name__ == "__main__":
    main()
