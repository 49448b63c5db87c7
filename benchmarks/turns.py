"""What turns cost: held-out loss of a small model with coins, with turns, and with turns and bands.

    python benchmarks/turns.py [--epsilon E] [--draws N]

All at one epsilon. Invented patients, whose label a small network gives away in part. Each way is tried with
Adam, as oathbound trains, and with plain and with heavy-ball gradient descent, at four rates each, with the
noise of three sites of which one may collude. Sums, clipping, ring, noise and solving are those of a run;
nothing is masked.
"""

import argparse
import platform
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import torch

from oathbound.core.accounting import noise_multiplier_for, share_sigma
from oathbound.core.bands import coefficients
from oathbound.core.shape import TabularNet
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli, random_words
from oathbound.models.model import flat, load_flat
from oathbound.models.tabular import build
from oathbound.train.adam import Adam
from oathbound.train.clip import clipped_sum
from oathbound.train.ftrl import Solved

MEMBERS, WIDTH, STEPS, BANDS, RING_NORM = 4000, 20, 200, 20, 1024
RATE, DELTA, SITES, HONEST = Decimal("0.05"), Decimal("0.00001"), 3, 2
RATES = {
    "adam": (0.003, 0.01, 0.03, 0.1),
    "plain": (0.1, 0.3, 1.0, 3.0),
    "heavy ball": (0.01, 0.03, 0.1, 0.3),
}
WAYS = ("coins", "turns", "bands")


def patients(n: int, draw: np.random.Generator) -> np.ndarray:
    """Return rows of `WIDTH` numbers and a label."""
    teacher = np.random.default_rng(0)
    inner, outer = teacher.normal(size=(WIDTH, 6)) / 2, teacher.normal(size=6)
    rows = draw.normal(size=(n, WIDTH))
    ill = np.tanh(rows @ inner) @ outer + 0.3 * draw.normal(size=n) > 0
    return np.column_stack([rows, ill]).astype(np.float32)


def noise_of(way: str, epsilon: Decimal) -> DiscreteGaussian:
    """Return the noise of one site."""
    rate, uses = (RATE, STEPS) if way == "coins" else (Decimal(1), STEPS // BANDS)
    multiplier = noise_multiplier_for(epsilon=epsilon, delta=DELTA, sampling_rate=rate, attempts=uses)
    return DiscreteGaussian(
        share_sigma(
            noise_multiplier=multiplier,
            ring_norm=RING_NORM,
            honest_shares=HONEST,
            coefficients=coefficients(BANDS) if way == "bands" else (1,),
        )
    )


def mover(optimiser: str, rate: float, first: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return what takes a gradient and its step, and returns the weights after it."""
    adam, weights, speed = Adam.at(first), first, np.zeros_like(first)

    def moved(gradient: np.ndarray, step: int) -> np.ndarray:
        nonlocal adam, weights, speed
        now = rate * min(1, step / 10) * (1 - (step - 1) / STEPS)
        if optimiser == "adam":
            adam = adam.stepped(gradient, step=step, rate=now)
            return adam.weights
        speed = (0.9 if optimiser == "heavy ball" else 0) * speed + gradient
        weights = (weights - now * speed).astype(np.float32)
        return weights

    return moved


def trained(
    way: str, optimiser: str, rate: float, members: np.ndarray, noise: DiscreteGaussian
) -> torch.nn.Module:
    """Return the model after all steps."""
    model = build(TabularNet(name="tabular-net", hidden=(12,), seed=1), WIDTH)
    first = flat(model)
    some = coefficients(BANDS) if way == "bands" else (1,)
    moved, solved = mover(optimiser, rate, first), Solved.at_first(some, first.size)
    groups = random_words(len(members)) % np.uint64(BANDS)
    past: list[np.ndarray] = []
    weights = first
    for step in range(1, STEPS + 1):
        load_flat(model, weights)
        chosen = bernoulli(RATE, len(members)) if way == "coins" else groups == step % BANDS
        past = [clipped_sum(model, members[chosen], clip=1.0, ring_norm=RING_NORM), *past[: len(some) - 1]]
        row = sum(c * total for c, total in zip(some, past, strict=False))
        row += sum(noise.sample(first.size) for _ in range(SITES))
        total, solved = solved.solve(row)
        weights = moved((total / (RING_NORM * float(RATE) * MEMBERS)).astype(np.float32), step)
    load_flat(model, weights)
    return model


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epsilon", type=Decimal, default=Decimal(3))
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"python {platform.python_version()}, torch {torch.__version__}; epsilon {given.epsilon}, "
        f"{given.draws} draws"
    )
    print(f"{MEMBERS} members, {STEPS} steps, {BANDS} bands; mean held-out loss at each rate")
    others = torch.from_numpy(patients(4000, np.random.default_rng(1)))
    for way in WAYS:
        noise = noise_of(way, given.epsilon)
        for optimiser, rates in RATES.items():
            losses = []
            for rate in rates:
                models = (
                    trained(way, optimiser, rate, patients(MEMBERS, np.random.default_rng(2 + i)), noise)
                    for i in range(given.draws)
                )
                with torch.inference_mode():
                    losses.append(np.mean([model.losses(others).mean().item() for model in models]))
            shown = "  ".join(f"{rate}: {loss:.3f}" for rate, loss in zip(rates, losses, strict=True))
            print(f"{way:<6} {optimiser:<11} {min(losses):.3f}   ({shown})", flush=True)


if __name__ == "__main__":
    main()
