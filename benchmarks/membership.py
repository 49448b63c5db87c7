"""What the membership test costs, and what reference models find, beside the published method.

    python benchmarks/membership.py [--models 2]

*Speed.* Scores of 32 records of 256 tokens by a model of 1.1 million weights: our one batched pass; the
published way (Tonekaboni et al. 2025, after Shi et al. 2024), written from its description: one forward pass
for every prefix of every record, alone, and the probability of the token that follows; and the time that the
matrix products of one pass take at the rate of one large product, measured here. The slow way is measured on
a few records, since every record costs it the same. CPU seconds of one thread, the least of the rounds.

*Power.* Models trained too long on 400 invented patients each, whom every score must tell from 4,000 others:
the AUC, and the true positive rate at a false positive rate of 1 %, by no reference model, by one and by
four. The threshold is the 99 % quantile of the held-out scores. A rate has Clopper-Pearson limits, 2.5 % on
each side, of the members of all models together; how models differ is not in them.
"""

import argparse
import datetime as dt
import os
import platform
import time
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import torch

from oathbound.audit.adapters.own import EventTarget, target_of
from oathbound.audit.catalog.membership import examined, tier_1
from oathbound.audit.references import Trained, trained
from oathbound.audit.statistics import FALSE_POSITIVES, delong
from oathbound.core.intervals import clopper_pearson
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer, Vocabulary
from oathbound.core.training_plan import Training
from oathbound.models.family import Family, Sequences
from oathbound.models.tokenizer import BIRTH, Tokenizer
from oathbound.models.transformer import build

FASTER, FLOOR, STRONGER = 100, 2.5, 3
"""What we want: times the prefix loop, times the products alone, times the rate of Min-K."""

RECORDS, LENGTH, LOOPED, ROUNDS = 32, 256, 2, 5
MEMBERS, HELD_OUT, REFERENCE, STEPS, EVENTS = 400, 4000, 533, 250, 16


def least(work: Callable[[], object], rounds: int) -> float:
    """Return the least CPU time of `work`."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def loop(model: torch.nn.Module, record: tuple[int, ...]) -> list[float]:
    """Return the log-probability of every token after the first: a forward pass for each prefix."""
    scores = []
    with torch.inference_mode():
        for place in range(1, len(record)):
            following = model(torch.tensor([record[:place]]))[0, -1].softmax(dim=-1)
            scores.append(float(following[record[place]].log()))
    return scores


def speed() -> None:
    """Print the three times and their ratios."""
    codes = tuple(f"C{i}" for i in range(2400))
    tokenizer = Tokenizer(Vocabulary(codes=codes, edges={}, ages=(), gaps=()))
    shape = EventTransformer(name="event-transformer", layers=6, width=128, heads=4, length=LENGTH, seed=1)
    model = build(shape, tokenizer.size).eval()
    rng = np.random.default_rng(1)
    records = [tuple(map(int, row)) for row in rng.integers(4, tokenizer.size, (RECORDS, LENGTH))]
    target = EventTarget(model, tokenizer)
    ours = least(lambda: target.token_logprobs(records), ROUNDS)
    slow = least(lambda: [loop(model, record) for record in records[:LOOPED]], 1) * RECORDS / LOOPED
    square = torch.rand(1024, 1024)
    rate = 2 * 1024**3 / least(lambda: square @ square, 3 * ROUNDS)
    tokens, width = RECORDS * (LENGTH - 1), shape.width
    layers = 8 * width**2 + 2 * (LENGTH - 1) * width
    floor = 2 * tokens * (shape.layers * layers + width * tokenizer.size) / rate
    same = target.token_logprobs(records[:LOOPED]).logprob
    apart = max(np.abs(same[row] - loop(model, records[row])).max() for row in range(LOOPED))
    weights = shape.weights(tokenizer.size)
    print(
        f"{RECORDS} records of {LENGTH} tokens, {weights / 1e6:.2f} million weights, CPU seconds, one thread"
    )
    print(f"  prefix loop        {slow:8.2f}   {slow / ours:6.0f} x ours (we want {FASTER})")
    print(f"  ours               {ours:8.2f}   {ours / floor:6.2f} x the products (we want {FLOOR} at most)")
    print(f"  products alone     {floor:8.2f}   at {rate / 1e9:.0f} GFLOP/s")
    print(f"  the loop's log-probabilities differ from ours by at most {apart:.0e}")


def invented(n: int, first: int) -> tuple[Patient, ...]:
    """Return people with some events about an illness."""
    rng, begin = np.random.default_rng(first), dt.datetime.fromisoformat("2010-01-01")
    people = []
    for number in range(n):
        day = begin + dt.timedelta(days=int(rng.integers(1000)))
        born = day - dt.timedelta(days=int(rng.integers(20 * 365, 80 * 365)))
        record = [Event(None, str(rng.choice(["GENDER//F", "GENDER//M"])), None), Event(born, BIRTH, None)]
        illness = rng.integers(24)
        for _ in range(EVENTS):
            record.append(Event(day, f"C{int(illness + abs(rng.normal(0, 5))) % 24}", None))
            day += dt.timedelta(days=int(rng.choice([0, 3, 30, 300])))
        people.append(Patient(first + number, tuple(record)))
    return tuple(people)


def power(models: int) -> None:
    """Print what each score finds."""
    vocabulary = Vocabulary(
        codes=(*(f"C{i}" for i in range(24)), "GENDER//F", "GENDER//M"),
        edges={},
        ages=(Decimal(40), Decimal(60)),
        gaps=(Decimal(10), Decimal(100)),
    )
    tokenizer = Tokenizer(vocabulary)
    shape = EventTransformer(name="event-transformer", layers=1, width=64, heads=2, length=40, seed=1)
    family = Family(build(shape, tokenizer.size), Sequences(tokenizer, shape.length))
    training = Training(
        members=MEMBERS,
        sampling_rate=Decimal("0.1"),
        steps=STEPS,
        attempts=STEPS,
        round_steps=STEPS,
        learning_rate=Decimal("0.01"),
        warmup=0,
        ring_norm=1024,
        clip=Decimal(1),
    )
    found: dict[str, list[tuple[float, int]]] = {}
    started = time.process_time()
    for number in range(models):
        members, held_out, reference = (
            invented(n, 1_000_000 * (3 * number + part))
            for part, n in enumerate((MEMBERS, HELD_OUT, REFERENCE), start=1)
        )
        rows = family.encoder.encode_all(members)
        target = target_of(
            trained(family.model, rows, training, np.random.default_rng(number)), family.encoder
        )
        people = (*members, *held_out)
        by_name, own = examined(target, people)
        for count in (1, 4):
            references = Trained(family, training, count).references(reference, np.random.default_rng(number))
            strangers = [examined(model, people)[1] for model in references.targets]
            scores = tier_1(target, own, strangers, references)
            by_name |= {f"{name}, of {count}": values for name, values in scores.items()}
        for name, values in by_name.items():
            mine, others = values[:MEMBERS], values[MEMBERS:]
            hits = int((mine > np.quantile(others, 1 - FALSE_POSITIVES)).sum())
            found.setdefault(name, []).append((delong(mine, others)[0], hits))
    spent = time.process_time() - started
    print(f"\n{models} models, each of {MEMBERS} members, {HELD_OUT} held out; {spent:.0f} CPU seconds")
    total, base = models * MEMBERS, sum(hits for _, hits in found["min-k"])
    for name, each in sorted(found.items(), key=lambda item: sum(hits for _, hits in item[1])):
        hits, area = sum(hits for _, hits in each), float(np.mean([area for area, _ in each]))
        ends = clopper_pearson(hits, total, 0.025)
        told = f"rate {hits / total:.3f} [{ends.lower}, {ends.upper}]  {hits / max(base, 1):4.1f} x Min-K"
        print(f"  {name:28} AUC {area:.3f}  {told}")
    print(f"We want {STRONGER} x Min-K of four reference models.")


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=2)
    models = parser.parse_args().models
    torch.set_num_threads(1)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load {load}"
    )
    speed()
    power(models)


if __name__ == "__main__":
    main()
