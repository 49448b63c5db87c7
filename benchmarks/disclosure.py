"""How many fewer chains than counting each estimator of emission needs at the same standard error and cost.

    python benchmarks/disclosure.py [--epochs 8] [--chains 2]

The gain is counting's variance times its cost over the estimator's variance times its cost. Variances are
means over prompts; that of counting is P (1 - P), P from every estimator's chains together. Cost is tokens
pushed through the model at `--chains` a prompt, the prompt and the pass along the true continuation included.

A transformer of two layers learns 2,000 invented records of 24 illnesses, 300 codes, 20 rare ones among
them. *Diffuse*: prompts of people it never saw. *Memorised*: it has then read 12 people's records 100, 200
and 400 times more; each states a rare code, and nothing in its prompt tells. "on path" is the exact part of
P that `Departing` finds along the true continuation, as a share of P; "open" is by how much P could be more,
before anything is drawn.
"""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.chains import CodeSet
from oathbound.audit.emission import Departing, Estimator, FirstHit, Prompt, SetAvoiding
from oathbound.audit.pilot import choose, limits
from oathbound.core.shape import EventTransformer as Shape
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import EventTransformer, build, token_losses

GOAL = 50
CODES, ILLNESSES, RARE, LENGTH, KNOWN = 300, 24, 20, 80, 10
VARIANCE_CHAINS = 100
HORIZONS = (8, 30, 60)
MEMORISED = ((100, 100), (200, 100), (400, 200))

VOCABULARY = Vocabulary(codes=tuple(f"C{i}" for i in range(CODES)), edges={}, ages=(Decimal(50),), gaps=())
TOKENIZER = Tokenizer(VOCABULARY)
FIRST = TOKENIZER.size - CODES
Record = tuple[int, ...]


class Illnesses:
    """People who have an illness and its codes; the last `RARE` codes are rare in all of them, and differ."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        often = rng.dirichlet(np.full(CODES, 0.1), ILLNESSES) + 0.5 * rng.dirichlet(np.full(CODES, 0.3))
        often[:, -RARE:] = 0
        often /= often.sum(axis=1, keepdims=True)
        often[:, -RARE:] = rng.gamma(0.5, 0.0006, (ILLNESSES, RARE))
        self.often = often / often.sum(axis=1, keepdims=True)

    def record(self, rng: np.random.Generator, *, rare_at: int | None = None) -> Record:
        """Return one person's tokens; with `rare_at`, the code at that place is a rare one."""
        illness, n = self.often[rng.integers(ILLNESSES)], int(rng.integers(50, LENGTH - 2))
        codes = rng.choice(CODES, n, p=illness)
        if rare_at is not None:
            common = illness[:-RARE] / illness[:-RARE].sum()
            codes[: rare_at + 1] = rng.choice(CODES - RARE, rare_at + 1, p=common)
            codes[rare_at] = CODES - 1 - rng.integers(RARE)
        return TOKENIZER.bos, *(int(code) + FIRST for code in codes), TOKENIZER.eos


def learn(model: EventTransformer, records: Sequence[Record], *, epochs: int, rate: float) -> None:
    """Read `records` so many times."""
    rows = pad_sequence([torch.tensor(record) for record in records], batch_first=True)
    descent = torch.optim.Adam(model.parameters(), lr=rate)
    order = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for some in torch.randperm(len(rows), generator=order).split(50):
            descent.zero_grad()
            (token_losses(model(rows[some]), rows[some]).sum() / (rows[some][:, 1:] != 0).sum()).backward()
            descent.step()


def prompts_of(records: Sequence[Record]) -> list[Prompt]:
    """Return each record cut in two."""
    return [Prompt(record[: KNOWN + 1], record[KNOWN + 1 :]) for record in records]


def compare(
    target: EventTarget, prompts: list[Prompt], sets: list[CodeSet], horizon: int, chains: int
) -> dict[str, float]:
    """Return the mean P, and the gain of every estimator over counting at equal cost."""
    rng = np.random.default_rng(2)
    ways: dict[str, Estimator] = {
        "set-avoiding": SetAvoiding(target),
        "first-hit": FirstHit(target, np.zeros(len(sets))),
        "departing": Departing(target),
    }
    start = time.process_time()
    found = {
        name: way.estimate(
            prompts, sets, horizon=horizon, chains=VARIANCE_CHAINS // min(len(sets), 4), rng=rng
        )
        for name, way in ways.items()
    }
    probability = np.concatenate(list(found.values()), axis=2).mean(axis=2).clip(0, 1)
    spent = {}
    for name, way in ways.items():
        before = target.tokens_pushed
        way.estimate(prompts, sets, horizon=horizon, chains=chains, rng=rng)
        spent[name] = target.tokens_pushed - before
    least, most = (each.mean() for each in Departing(target).bounds(prompts, sets, horizon=horizon))
    counting = (probability * (1 - probability)).mean() * spent["first-hit"]
    unknown = [Prompt(prompt.tokens) for prompt in prompts]
    picked = [
        type(choose(target, each, sets, horizon=horizon, chains=chains, rng=rng)).__name__
        for each in (prompts, unknown)
    ]
    gains = {
        name: float(counting / (found[name].var(axis=2, ddof=1).mean() * spent[name] + 1e-300))
        for name in ways
    }
    print(
        f"{horizon:8} {len(sets):5} {probability.mean():8.4f} "
        f"{least / probability.mean():8.2f}{most - least:7.2f}"
        + "".join(f"{gain:14.1f}" for gain in gains.values())
        + f"{time.process_time() - start:8.1f}  {picked[0]}, {picked[1]}"
    )
    return gains


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--chains", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    people, rng = Illnesses(0), np.random.default_rng(1)
    shape = Shape(name="event-transformer", layers=2, width=64, heads=2, length=LENGTH, seed=0)
    model = build(shape, TOKENIZER.size)
    start = time.process_time()
    crowd = [people.record(rng) for _ in range(2000)]
    learn(model, crowd, epochs=given.epochs, rate=3e-3)
    target = EventTarget(model, TOKENIZER)
    rare = [CodeSet.of(target, [(TOKENIZER.size - 1 - i,)]) for i in range(RARE)]
    some = CodeSet.of(target, [(TOKENIZER.size - 1 - i,) for i in range(5)])
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, load {load}"
    )
    print(f"trained in {time.process_time() - start:.0f} CPU s; {given.chains} chains a prompt")
    header = f"{'horizon':>8} {'sets':>5} {'mean P':>8} {'on path':>8}{'open':>7}"
    header += (
        "".join(f"{name:>14}" for name in ("set-avoiding", "first-hit", "departing"))
        + f"{'CPU s':>8}  chosen with, without paths"
    )

    print(f"\ndiffuse: gain over counting at equal cost (goal: {GOAL})\n{header}")
    strangers = prompts_of([people.record(rng) for _ in range(16)])
    for horizon in HORIZONS:
        compare(target, strangers, [some], horizon, given.chains)
    compare(target, strangers, rare, HORIZONS[1], given.chains)

    known = [people.record(rng, rare_at=KNOWN + int(rng.integers(3, 20))) for _ in range(12)]
    every = CodeSet.of(target, [(TOKENIZER.size - 1 - i,) for i in range(RARE)])
    for times, again in MEMORISED:
        learn(model, [*known, *crowd[:4]], epochs=again, rate=2e-3)
        print(f"\nmemorised, read {times} times: gain over counting at equal cost\n{header}")
        for horizon in HORIZONS:
            compare(target, prompts_of(known), [every], horizon, given.chains)
        lower, upper = limits(
            Departing(target),
            prompts_of(known),
            every,
            horizon=30,
            chains=VARIANCE_CHAINS,
            alpha=0.05,
            rng=rng,
        )
        said = ", ".join(f"[{least:.3f}, {most:.3f}]" for least, most in zip(lower, upper, strict=True))
        print(f"each prompt's 95 % limits at horizon 30, {VARIANCE_CHAINS} chains: {said}")


if __name__ == "__main__":
    main()
