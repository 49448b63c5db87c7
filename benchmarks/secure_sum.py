"""What a secure sum costs: masking at a site, summing and unmasking at the server, and everything around it.

    python benchmarks/secure_sum.py [--sites 8] [--words 1000000 10000000] [--rounds 10]

*masking* is `Client.mask`, vector to message, with one mask for each other site and one of its own. *server*
is `Server.masked` for every site and `Server.total`: decoding, summing, taking n masks away. Beside them, in
the same run: a plain float32 sum of the vectors, the speed of AES-128-CTR in blocks that stay in the cache,
and the *bound*: how long the masks' bytes take at that speed, with the plain sum at the server.

Flower's SecAgg+ primitives (its masks and sums, from and to bytes, without its key shares, which ours
include) are measured if they can be imported. They need an environment of their own:

    python -m venv flower && flower/bin/pip install -e '.[train]'
    flower/bin/pip install --no-deps flwr==1.42.0
    flower/bin/pip install iterators==0.0.2 protobuf grpcio requests pycryptodome
    flower/bin/python benchmarks/secure_sum.py

CPU milliseconds of this process (wall beside them), the least of the rounds, which come in turns.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from oathbound.testing.sums import Sums, Vector, label, sum_of

GOALS: Final = {1_000_000: (5.0, 7.0), 10_000_000: (50.0, 105.0)}
"""By words, for 8 sites: milliseconds of masking, and of the server."""

FLOWER_GOAL, BOUND_GOAL = 10.0, 3.0
BLOCK = 1 << 17
T = TypeVar("T")


@dataclass
class Time:
    """Milliseconds of processor, and of the clock."""

    cpu: float = float("inf")
    wall: float = float("inf")

    def measure(self, work: Callable[[], T]) -> T:
        """Do it once more, and keep the least."""
        once = Time(0, 0)
        result = once.add(work)
        self.cpu, self.wall = min(self.cpu, once.cpu), min(self.wall, once.wall)
        return result

    def add(self, work: Callable[[], T]) -> T:
        """Do it, and add what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.cpu += 1e3 * (time.process_time() - cpu)
        self.wall += 1e3 * (time.perf_counter() - wall)
        return result

    def __str__(self) -> str:
        return f"{self.cpu:9.2f} ({self.wall:9.2f})"


def ctr_speed(n_bytes: int) -> float:
    """Return milliseconds of AES-128-CTR for so many bytes, in blocks that stay in the cache."""
    stream = Cipher(AES128(bytes(16)), CTR(bytes(16))).encryptor()
    zeros, drawn = bytes(BLOCK), bytearray(BLOCK)
    least = Time()
    rounds = 400
    for _ in range(10):
        least.measure(lambda: [stream.update_into(zeros, drawn) for _ in range(rounds)])
    return least.cpu * n_bytes / (rounds * BLOCK)


def plain_sum(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the sum, as one adds floats."""
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    return total


def one_attempt(sums: Sums, vectors: dict[str, Vector], attempt: int, times: dict[str, Time]) -> Vector:
    """Play one attempt; return the sum, and keep what each part of it took."""
    step = label(attempt)
    announcements = sums.server.begin(step)
    for site, message in announcements.items():
        times["begin, at a site"].measure(lambda s=site, a=message: sums.clients[s].begin(a, step=step))
    server = Time(0, 0)
    waiting = {}
    for site, vector in vectors.items():
        # of two attempts, in one each message goes at once, as at a site, where memory is used again; in the
        # other they wait for the server, whose sum then is all that it does
        message = times["masking"].measure(lambda s=site, v=vector: sums.clients[s].mask(v))
        if attempt % 2:
            sums.server.masked(site, message)
        else:
            waiting[site] = message
    for site, message in waiting.items():
        server.add(lambda s=site, m=message: sums.server.masked(s, m))
    waiting.clear()
    for site, message in sums.server.propose().items():
        signature = times["signing, at a site"].measure(lambda s=site, p=message: sums.clients[s].sign(p))
        times["taking a signature"].measure(lambda s=site, g=signature: sums.server.signed(s, g))
    for site, message in sums.server.certificate().items():
        reveal = times["revealing, at a site"].measure(lambda s=site, c=message: sums.clients[s].reveal(c))
        sums.server.revealed(site, reveal)
    total = server.add(sums.server.total)
    if attempt % 2 == 0:
        times["server"].cpu = min(times["server"].cpu, server.cpu)
        times["server"].wall = min(times["server"].wall, server.wall)
    return total


def flower(vector: NDArray[np.float32], sites: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of Flower's SecAgg+ primitives by name, or nothing if they are not here."""
    try:
        from flwr.common import bytes_to_ndarray, ndarray_to_bytes  # noqa: PLC0415 - may be absent
        from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic  # noqa: PLC0415
        from flwr.common.secure_aggregation.quantization import quantize  # noqa: PLC0415
        from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen  # noqa: PLC0415
    except ImportError:
        return {}
    modulus, dimensions = 2**32, [vector.shape]
    seeds = [bytes([number]) * 32 for number in range(sites)]
    ring = quantize([vector], 8.0, 2**22)

    def masking() -> object:
        masked = ring
        for number, seed in enumerate(seeds):
            mask = pseudo_rand_gen(seed, modulus, dimensions)
            add = arithmetic.parameters_subtraction if number % 2 else arithmetic.parameters_addition
            masked = add(masked, mask)
        return [ndarray_to_bytes(each) for each in arithmetic.parameters_mod(masked, modulus)]

    sent = [ndarray_to_bytes(pseudo_rand_gen(seed, modulus, dimensions)[0]) for seed in seeds]

    def server() -> object:
        total = [bytes_to_ndarray(sent[0])]
        for other in sent[1:]:
            total = arithmetic.parameters_addition(total, [bytes_to_ndarray(other)])
        total = arithmetic.parameters_mod(total, modulus)
        for seed in seeds:
            total = arithmetic.parameters_subtraction(total, pseudo_rand_gen(seed, modulus, dimensions))
        return arithmetic.parameters_mod(total, modulus)

    parts: dict[str, Callable[[], object]] = {
        "quantising": lambda: quantize([vector], 8.0, 2**22),
        "masking": masking,
        "server": server,
    }
    least = {name: Time() for name in parts}
    for _ in range(rounds):
        for name, work in parts.items():
            least[name].measure(work)
    return {name: each.cpu for name, each in least.items()}


def verdict(measured: float, goal: float, unit: str = "") -> str:
    """Say whether a figure is at most its goal."""
    return f"goal {goal:g}{unit}: {'met' if measured <= goal else 'NOT MET'}"


def compare(sites: int, words: int, rounds: int) -> None:
    """Measure one size, and print it."""
    sums = Sums.ready(sites, max(0, min(2, sites - 2)), dimension=words)
    vectors = sums.vectors()
    floats = [vector.astype(np.float32) for vector in vectors.values()]
    names = ("begin, at a site", "masking", "server", "signing, at a site")
    times = {name: Time() for name in (*names, "taking a signature", "revealing, at a site")}
    plain, whole = Time(), Time()
    attempts = count(1)
    for _ in range(2 * rounds):
        attempt = next(attempts)
        total = whole.measure(lambda a=attempt: one_attempt(sums, vectors, a, times))
        if not np.array_equal(total, sum_of(vectors)):
            raise SystemExit("the sum is wrong")
        plain.measure(lambda: plain_sum(floats))
    masks = ctr_speed(4 * words * sites)
    goals = GOALS.get(words, (float("nan"), float("nan"))) if sites == 8 else (float("nan"),) * 2  # noqa: PLR2004
    print(f"\n{sites} sites, {words:,} words; CPU ms (wall ms)")
    for name, figure in times.items():
        print(f"  {name:22} {figure}")
    print(f"  {'attempt, all parties':22} {whole}")
    print(f"  {'plain float32 sum':22} {plain}")
    print(f"  {'bytes of n masks, CTR':22} {masks:9.2f}")
    for name, goal, bound in (("masking", goals[0], masks), ("server", goals[1], masks + plain.cpu)):
        cpu = times[name].cpu
        told = "" if np.isnan(goal) else f"{verdict(cpu, goal, ' ms')}; "
        print(f"  {name}: {told}{cpu / bound:.2f} of the bound, {verdict(cpu / bound, BOUND_GOAL)}")
    peer = flower(np.clip(floats[0] * 1e-9, -8, 8), sites, min(rounds, 3))
    if not peer:
        print("  Flower is not here: see the top of this file")
        return
    print(f"  Flower's quantising, which our vectors have behind them: {peer['quantising']:.1f} ms")
    for name in ("masking", "server"):
        ratio = peer[name] / times[name].cpu
        met = "met" if ratio >= FLOWER_GOAL else "NOT MET"
        print(f"  {name}, Flower: {peer[name]:.1f} ms, {ratio:.1f} times ours; goal {FLOWER_GOAL:g}: {met}")


def agreement(sites: int, rounds: int) -> None:
    """Measure what is done once for a run, and once for 256 attempts."""
    gather, deal = Time(), Time()
    for _ in range(rounds):
        sums = Sums.of(sites, max(0, min(2, sites - 2)))
        gather.measure(sums.gather)
        deal.measure(sums.deal)
    print(f"\n{sites} sites, all together: CPU ms (wall ms)")
    print(f"  {'agreement of keys':22} {gather}   once for a session")
    print(f"  {'seeds':22} {deal}   once for 256 attempts")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--words", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, cryptography {version('cryptography')}"
    )
    print(f"{os.cpu_count()} processors, load {load}")
    agreement(given.sites, given.rounds)
    for words in given.words:
        compare(given.sites, words, given.rounds)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\nload {load}")


if __name__ == "__main__":
    main()
