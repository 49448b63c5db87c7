"""What protecting a patient costs: clipped sums of patients' gradients, beside plain SGD and beside Opacus.

    python benchmarks/clipping.py [--rounds 7]

*plain* is the gradient of one batch, all its patients at once, as SGD takes it. *ours* is `clipped_sum`: each
patient's mean gradient, clipped, on the ring. *Opacus* is the gradient of each recording by its hooks,
averaged for each patient, clipped and summed, in float: the same unit, for Opacus has none of its own. It is
measured where it can be imported, and where it knows the model's layers:

    pip install --no-deps opacus==1.6.0 opt_einsum

Processor milliseconds of one thread, the least of the rounds, which come in turns; a batch of 64 patients.
Nothing here decides a test.
"""

import argparse
import importlib
import platform
import time
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from oathbound.core import shape
from oathbound.models import convolutional, tabular, transformer
from oathbound.models.model import Model
from oathbound.train.clip import clipped_sum

PATIENTS, CLIP, RING_NORM = 64, 1.0, 2**14
LENGTH, CODES = 64, 200


def scans(widths: tuple[int, ...], side: int, most: int) -> tuple[Model, np.ndarray]:
    """Return a ScanNet, and rows of scans of noise."""
    seen = shape.Recordings(
        shape=(side, side), most=most, centre=Decimal(0), scale=Decimal(1), classes=("ill", "well")
    )
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(PATIENTS, most, side * side + 1)).astype(np.float16)
    rows[..., -1] = draw.integers(2, size=(PATIENTS, most))
    return convolutional.build(shape.ScanNet(name="scan-net", widths=widths, seed=1), seen), rows


def events(width: int, layers: int) -> tuple[Model, np.ndarray]:
    """Return an EventTransformer, and rows of codes by chance."""
    architecture = shape.EventTransformer(
        name="event-transformer", layers=layers, width=width, heads=4, length=LENGTH, seed=1
    )
    rows = np.random.default_rng(1).integers(1, CODES, (PATIENTS, LENGTH))
    return transformer.build(architecture, CODES), rows


def features(columns: int, hidden: tuple[int, ...]) -> tuple[Model, np.ndarray]:
    """Return a TabularNet, and rows of features by chance."""
    draw = np.random.default_rng(1)
    rows = np.append(draw.normal(size=(PATIENTS, columns)), draw.integers(0, 2, (PATIENTS, 1)), axis=1)
    model = tabular.build(shape.TabularNet(name="tabular-net", hidden=hidden, seed=1), columns)
    return model, rows.astype(np.float32)


def plain(model: Model, rows: np.ndarray) -> Callable[[], object]:
    """Return what takes the gradient of a whole batch."""
    batch, parameters = torch.from_numpy(rows), list(model.parameters())
    return lambda: torch.autograd.grad(model.losses(batch).mean(), parameters)


def opacus(model: Model, rows: np.ndarray) -> Callable[[], object] | str:
    """Return what sums clipped gradients by Opacus, or why it cannot."""
    try:
        wrap: Any = importlib.import_module("opacus").GradSampleModule
    except ImportError:
        return "is not installed"
    if not isinstance(model, convolutional.ScanNet):
        return "has no hooks for this model's layers, or batches"
    hooked = wrap(deepcopy(model), loss_reduction="sum")  # a copy: its hooks stay in it
    batch = torch.from_numpy(rows)
    values, labels = batch[..., :-1].float().flatten(end_dim=-2), batch[..., -1].long().flatten()
    most = rows.shape[1]

    def clipped() -> object:
        hooked.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(hooked(values), labels, reduction="sum")
        torch.autograd.backward(loss)
        each = torch.cat(
            [parameter.grad_sample.flatten(1) for parameter in hooked.parameters()],
            dim=1,
        )
        patients = each.reshape(PATIENTS, most, -1).mean(dim=1)
        norms = patients.norm(dim=1, keepdim=True)
        return (patients * (CLIP / norms).clamp(max=1)).sum(dim=0)

    return clipped


def measure(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least processor milliseconds of each."""
    least = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            if turn:  # the first warms up
                least[name] = min(least[name], 1000 * (time.process_time() - began))
    return least


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    try:
        installed = f"Opacus {version('opacus')}"
    except PackageNotFoundError:
        installed = "no Opacus"
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {installed}")
    models = {
        "ScanNet, 4 scans of 28 x 28": scans((8, 16, 32), 28, 4),
        "ScanNet, 4 scans of 28 x 28, wide": scans((64, 128, 256), 28, 4),
        "EventTransformer, 64 codes": events(64, 2),
        "TabularNet, 30 features": features(30, (32, 32)),
    }
    for name, (model, rows) in models.items():
        works: dict[str, Callable[[], object]] = {
            "plain": plain(model, rows),
            "ours": partial(clipped_sum, model, rows, clip=CLIP, ring_norm=RING_NORM),
        }
        peer = opacus(model, rows)
        if not isinstance(peer, str):
            works["Opacus"] = peer
        took = measure(works, rounds)
        ratios = ", ".join(f"{each} {took[each]:.1f} ms ({took[each] / took['plain']:.2f})" for each in works)
        missing = f"; Opacus {peer}" if isinstance(peer, str) else ""
        weights = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name}, {weights:,} weights: {ratios}{missing}", flush=True)


if __name__ == "__main__":
    main()
