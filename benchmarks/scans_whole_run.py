"""A whole run at size: 50,000 scans over 5 sites, from PNG files to a model, with a process for each site.

    python benchmarks/scans_whole_run.py ../shared/data/busi_breast_ultrasound [--scans 50000] [--steps 20]

Takes the 780 real ultrasound images of BUSI (Al-Dhabyani et al. 2020), and makes of them as many as asked:
turned over, shifted and with another contrast. **They are resampled, so what a model learns of them says
nothing**: what is measured is time, and the most memory that any one process held. Four scans make a person.
Then the sites swear, admit and train by `oathbound`'s own verbs, with patient-level noise. Nothing here
decides a test.
"""

import argparse
import csv
import io
import os
import platform
import re
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.init import write_simulated_consents, write_study
from oathbound.workflow.join import join

SITES = ("north", "east", "south", "west", "central")
EACH = 4
OPTIONS = {"path": "scans/scans.csv", "rows": "128", "columns": "128", "burnt_in": "admit"}
CHANGES = {
    "shape": "[128, 128]", "most": str(EACH), "centre": '"90"', "scale": '"60"',
    "window": '["0", "1"]', "held_out": '"0.2"',
    "min_sites": "4", "sampling_rate": '"0.01"', "noise_multiplier": '"1"', "epsilon": '"8"',
    "engine": '"local-processes"',
}  # fmt: skip


def originals(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Return each image's class and pixels."""
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    with zipfile.ZipFile(folder / "images_128.zip") as archive:
        return [
            (row["label_name"], np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))))) for row in rows
        ]


def resample(folder: Path, images: list[tuple[str, np.ndarray]], scans: int, seed: int) -> None:
    """Write a site's scans, and their table."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "scans.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("subject_id", "path", "label"))
        for number in range(scans):
            label, pixels = images[draw.integers(len(images))]
            turned = pixels[:, :: 1 if draw.integers(2) else -1]
            shifted = np.roll(turned, draw.integers(-8, 9, 2), axis=(0, 1))
            grey = np.clip(shifted * draw.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"{number}.png", compress_level=1)
            table.writerow((1 + number // EACH, f"{number}.png", "" if label == "normal" else label))


def study(path: Path, folder: Path, scans: int, steps: int) -> None:
    """Write the sites' folders and the study file."""
    images, now, members = originals(folder), int(time.time()), []
    for seed, name in enumerate(SITES):
        site = path / "sites" / name
        party = join(site, name, source="scans", options=OPTIONS)
        resample(site / "scans", images, scans // len(SITES), seed)
        write_simulated_consents(SiteFolder.open(site), now=now)
        members.append((party.name, party.fingerprint))
    write_study(path, "demo-nodules-private.toml", members, folder="sites")
    text = (path / "study.toml").read_text().replace("nodule//", "scan//")
    planned = {"members": scans // EACH, "steps": steps, "attempts": steps + 2, "round_steps": steps}
    for key, value in (CHANGES | {key: str(number) for key, number in planned.items()}).items():
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        if not found:
            raise SystemExit(f"the template has no {key}")
    (path / "study.toml").write_text(text)


def run(*verb: str) -> None:
    """Run a verb, and say how long it took and what the largest of its processes held."""
    began = time.perf_counter()
    program = [sys.executable, "-m", "oathbound.cli", *verb]
    pid = os.spawnv(os.P_NOWAIT, sys.executable, program)  # noqa: S606 - ourselves
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"oathbound {' '.join(verb)} ended with {os.waitstatus_to_exitcode(status)}")
    peak = used.ru_maxrss // (1024 if sys.platform == "linux" else 1024**2)
    took = time.perf_counter() - began
    spent = used.ru_utime + used.ru_stime
    print(f"{verb[0]:<6} {took:7.0f} s, {spent:7.0f} s of processors, {peak} MiB in the largest process")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--scans", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "whole-run"
        study(path, asked.images, asked.scans, asked.steps)
        size = sum(file.stat().st_size for file in path.rglob("*.png")) // 2**20
        print(
            f"{asked.scans:,} scans ({size} MiB of PNG), {len(SITES)} sites, {asked.steps} steps; "
            f"{os.cpu_count()} cores, Python {platform.python_version()}"
        )
        for name in SITES:
            run("oath", "--site", name, str(path))
        for name in SITES:
            run("admit", "--site", name, str(path))
        run("train", str(path))


if __name__ == "__main__":
    main()
