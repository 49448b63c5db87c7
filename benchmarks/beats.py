"""Heart beats of people the model never saw: BeatNet on MIT-BIH, trained on DS1, tried on DS2.

    python benchmarks/beats.py BEATS.npz [--steps N]

BEATS.npz holds `X` (beats, samples) in 1/200 mV, `y` (AAMI EC57 class 0 to 4: N, S, V, F, Q), `record`,
`sample` and `split` (1: DS1, 2: DS2; de Chazal, O'Dwyer and Reilly 2004). The division is by person: record
202 is left out of DS2, for its person is 201 in DS1. Training is that of a study without a budget, by all
members of one site: patients' sums on the ring, Adam. Printed is the AUC of ventricular beats against all
others, with the interval that resamples people.
"""

import argparse
import platform
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from oathbound.audit.statistics import delong
from oathbound.core.patient import Columns
from oathbound.core.shape import BeatNet, Recordings
from oathbound.hazmat.random import bernoulli
from oathbound.models.convolutional import build
from oathbound.models.model import flat, load_flat
from oathbound.models.recordings import RecordingEncoder
from oathbound.train.adam import Adam
from oathbound.train.clip import unclipped_sum

CLASSES = ("beat//N", "beat//S", "beat//V", "beat//F", "beat//Q")
VENTRICULAR = 2
SAME_PERSON = 202
"""The record of DS2 whose person is in DS1, as 201."""

RATE = Decimal("0.5")
SCALE, SATURATION = 2.0**20, 2**30
LEARNING_RATE = 0.003
RESAMPLINGS = 1000
ACTIVATIONS: Final[tuple[Literal["gelu", "square"], ...]] = ("gelu", "square")


def columns_of(beats: dict[str, np.ndarray], split: int) -> Columns:
    """Return the beats of one part of the division, by record."""
    some = np.flatnonzero((beats["split"] == split) & ((split == 1) | (beats["record"] != SAME_PERSON)))
    some = some[np.lexsort((beats["sample"][some], beats["record"][some]))]
    return Columns(
        subject=beats["record"][some].astype(np.int64),
        time=np.full(len(some), np.datetime64("NaT"), dtype="datetime64[us]"),
        code=beats["y"][some],
        value=np.full(len(some), np.nan),
        codes=CLASSES,
        frames=beats["X"][some].astype(np.float32),
    )


def trained(
    activation: Literal["gelu", "square"], recordings: Recordings, rows: np.ndarray, steps: int
) -> torch.nn.Module:
    """Return a BeatNet after so many steps, each of the people whose coin came up."""
    model = build(BeatNet(name="beat-net", widths=(16, 32, 32), activation=activation, seed=1), recordings)
    adam = Adam.at(flat(model))
    for step in range(1, steps + 1):
        load_flat(model, adam.weights)
        some = rows[bernoulli(RATE, len(rows))]
        total = unclipped_sum(model, some, scale=SCALE, saturation=SATURATION)
        gradient = (total / (SCALE * float(RATE) * len(rows))).astype(np.float32)
        adam = adam.stepped(gradient, step=step, rate=LEARNING_RATE * (1 - (step - 1) / steps))
    load_flat(model, adam.weights)
    return model


def areas(model: torch.nn.Module, recordings: Recordings, columns: Columns) -> tuple[float, float, float]:
    """Return the AUC of ventricular beats, and the ends of its .95 interval over people."""
    beats = np.zeros((0, recordings.width)) if columns.frames is None else columns.frames
    with torch.inference_mode():
        values = torch.from_numpy(beats / np.float32(recordings.scale))
        scores = model(values.clamp(-8, 8)).log_softmax(-1)[:, VENTRICULAR].double().numpy()
    ventricular = columns.code == VENTRICULAR
    people = [np.flatnonzero(columns.subject == person) for person in np.unique(columns.subject)]
    draw = np.random.default_rng(0)

    def area(some: np.ndarray) -> float:
        return delong(scores[some][ventricular[some]], scores[some][~ventricular[some]])[0]

    drawn = [
        area(np.concatenate([people[who] for who in draw.integers(0, len(people), len(people))]))
        for _ in range(RESAMPLINGS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return area(np.concatenate(people)), float(low), float(high)


def main() -> None:
    """Print a line for each activation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("beats", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(given.beats, allow_pickle=False) as file:
        beats = {name: file[name] for name in ("X", "y", "record", "sample", "split")}
    learnt, tried = columns_of(beats, 1), columns_of(beats, 2)
    recordings = Recordings(
        shape=(beats["X"].shape[1],), most=512, centre=Decimal(0), scale=Decimal(200), classes=CLASSES
    )
    _, rows = RecordingEncoder(recordings).encode_columns(learnt)
    print(f"python {platform.python_version()}, torch {torch.__version__}; {given.steps} steps;", end=" ")
    print(f"DS1: {len(rows)} records, at most {recordings.most} beats of each a step;", end=" ")
    print(f"DS2: {len(np.unique(tried.subject))} records, {len(tried.code):,} beats")
    for activation in ACTIVATIONS:
        area, low, high = areas(trained(activation, recordings, rows, given.steps), recordings, tried)
        print(f"{activation:<8} AUC of ventricular beats {area:.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
