"""What the distance of two trajectories costs: from a table and an assignment, and the published way.

    python benchmarks/trajectories.py [--pairs 60]

Pairs of L events of a vocabulary of 2,000 codes, a few of them frequent (Zipf, 1.4), with embeddings of width
768; one thread, CPU milliseconds a pair, median of the pairs. *Published*, from its description: embed both
trajectories, normalise, cosine distance times (|dt| + 1), linear program (POT's `ot.emd2`, or scipy's HiGHS
where POT is not installed: the first line says which). What embedding costs there is left out; how many codes
are embedded is counted. *Ours*: look up a table that is made once an audit, times, assignment. *Gather*:
look up the table and the times alone, the floor of anything that reads a cost for every two events. Both
ways give the same distance, or the benchmark stops.

The exponent of a way is the slope of log time over log L. Exit code 1 where ours is not twice as fast.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import importlib.util
import platform
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from oathbound.audit.demd import CodeTable, additive, published
from oathbound.audit.timeline import NO_GAP, Trajectory

VOCABULARY, WIDTH = 2000, 768
LENGTHS = (25, 50, 100, 200, 400)
JUDGED = (50, 100, 200)
GOAL = 2.0
HOURS = (0.1, 0.2, 0.4, 0.9, 1.5)

Way = Callable[[Trajectory, Trajectory], float]


def linear_program() -> tuple[str, Callable[[NDArray[np.float64]], float]]:
    """Return what solves the transport of uniform weights, and its name."""
    if importlib.util.find_spec("ot"):
        import ot  # noqa: PLC0415 - may not be there

        return f"POT {ot.__version__} emd2", lambda cost: float(
            ot.emd2(np.full(len(cost), 1 / len(cost)), np.full(len(cost), 1 / len(cost)), cost)
        )

    def highs(cost: NDArray[np.float64]) -> float:
        n = len(cost)
        one = sparse.identity(n, format="csr")
        every = sparse.csr_matrix(np.ones((1, n)))
        sums = sparse.vstack([sparse.kron(one, every), sparse.kron(every, one)])
        return float(linprog(cost.ravel(), A_eq=sums, b_eq=np.full(2 * n, 1 / n), method="highs").fun)

    return f"scipy {scipy.__version__} linprog (HiGHS)", highs


class PublishedWay:
    """The published way; `embedded` counts the codes whose embeddings it asked for."""

    def __init__(
        self, embeddings: NDArray[np.float32], solve: Callable[[NDArray[np.float64]], float]
    ) -> None:
        self.embeddings = embeddings
        self.solve = solve
        self.embedded = 0

    def __call__(self, one: Trajectory, other: Trajectory) -> float:
        """Return the distance of a pair."""
        a, b = (self._embed(each) for each in (one, other))
        cosine = 1 - a @ b.T
        return self.solve((cosine * (np.abs(one.hours[:, None] - other.hours) + 1)).astype(np.float64))

    def _embed(self, one: Trajectory) -> NDArray[np.float32]:
        self.embedded += len(one)
        rows = self.embeddings[one.tokens]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def trajectory(rng: np.random.Generator, events: int) -> Trajectory:
    """Return a trajectory: few codes are frequent, and a token takes as long as in the paper's code."""
    hours = rng.choice(HOURS, events).cumsum()
    tokens = np.minimum(rng.zipf(1.4, events), VOCABULARY) - 1
    return Trajectory(tokens, np.full(events, NO_GAP), hours)


def milliseconds(way: Way, pairs: list[tuple[Trajectory, Trajectory]]) -> float:
    """Return the median CPU time of a pair."""
    spent = []
    for one, other in pairs:
        start = time.process_time_ns()
        way(one, other)
        spent.append(time.process_time_ns() - start)
    return float(np.median(spent)) / 1e6


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=60)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    solver, solve = linear_program()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, load {load}"
    )
    start = time.process_time()
    codes = CodeTable.of_embeddings(np.arange(VOCABULARY), embeddings)
    print(
        f"published: {solver}; our table of {VOCABULARY} codes, once: {time.process_time() - start:.2f} CPU s"
    )

    theirs = PublishedWay(embeddings, solve)
    ways: dict[str, Way] = {
        "published": theirs,
        "ours": lambda one, other: published(one, other, codes),
        "ours, additive": lambda one, other: additive(one, other, codes),
        "gather": lambda one, other: float(
            (codes.between(one.tokens, other.tokens) * (np.abs(one.hours[:, None] - other.hours) + 1))[0, 0]
        ),
    }
    print(
        f"{'L':>5}" + "".join(f"{name:>16}" for name in ways) + f"{'published/ours':>16}{'ours/gather':>13}"
    )
    times: dict[str, list[float]] = {name: [] for name in ways}
    slow = False
    for length in LENGTHS:
        pairs = [(trajectory(rng, length), trajectory(rng, length)) for _ in range(given.pairs)]
        for one, other in pairs[:5]:
            np.testing.assert_allclose(ways["ours"](one, other), theirs(one, other), rtol=1e-4)
        for name, way in ways.items():
            times[name].append(milliseconds(way, pairs))
        latest = {name: each[-1] for name, each in times.items()}
        gain = latest["published"] / latest["ours"]
        slow |= length in JUDGED and gain < GOAL
        print(
            f"{length:5}"
            + "".join(f"{each:16.3f}" for each in latest.values())
            + f"{gain:16.1f}{latest['ours'] / latest['gather']:13.1f}"
        )
    for name, spent in times.items():
        slopes = [
            np.log(b / a) / np.log(m / n)
            for (a, b), (n, m) in zip(pairwise(spent), pairwise(LENGTHS), strict=True)
        ]
        overall = np.polyfit(np.log(LENGTHS), np.log(spent), 1)[0]
        print(f"exponent of {name}: {overall:.2f} (step by step {', '.join(f'{s:.2f}' for s in slopes)})")
    print(f"codes embedded: published {theirs.embedded:,}, ours {VOCABULARY:,} (each code once)")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
