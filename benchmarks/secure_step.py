"""One whole secure step with sites in processes of their own, beside the bare upload of every site's vector.

    python benchmarks/secure_step.py [--weights 1000000] [--steps 5]
    python benchmarks/secure_step.py --flare        # over NVIDIA FLARE on loopback: needs oathbound[nvflare]

Three sites. A step is all of its waves: the weights go down, masked shares come up, the sum is opened and the
optimiser moves; the first one also agrees on keys and deals 256 attempts' seeds. Nobody's records: each site
has none, so what is timed is the protocol and the carrying, and no gradient; and no noise is drawn. The bare
upload is the same number of bytes from every site, all at once, without any protection.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core.canonical import digest
from oathbound.core.shape import LogisticRegression
from oathbound.core.training_plan import Training
from oathbound.models.model import flat
from oathbound.models.tabular import build
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Descent
from oathbound.train.engine import Peer
from oathbound.train.engines import parallel
from oathbound.train.engines.processes import Process, serve
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.terms import Terms, Thresholds
from oathbound.train.trainer import Trainer
from oathbound.workflow.sibling import Uncharged

SITES = ("north", "east", "south")
RUN, BARE = digest(b"run"), b"bare"
MODEL = LogisticRegression(name="logistic-regression")
SIGNERS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n, name in enumerate(SITES, 1)}
RESULT, SIZE, STEPS = "OATHBOUND_BENCHMARK", "OATHBOUND_BENCHMARK_WEIGHTS", "OATHBOUND_BENCHMARK_STEPS"
"""Environment variables that say to FLARE's processes what this one was asked."""


class Nobody:
    """A sampler without patients."""

    def __init__(self, width: int) -> None:
        self._rows = np.zeros((0, width + 1), dtype=np.float32)

    def sample(self, _rate: object) -> np.ndarray:
        """Return no rows."""
        return self._rows


class Site:
    """A peer: a node, and the bare upload."""

    def __init__(self, name: str, weights: int, steps: int) -> None:
        plan, terms = agreed(weights, steps)
        trainer = Trainer(
            site=name, run=RUN, plan=plan, last_step=steps, model=build(MODEL, weights - 1),
            sampler=Nobody(weights - 1), ledger=Uncharged(), noise=None,
        )  # fmt: skip
        self._node = Node(trainer, Client(terms, name, SIGNERS[name]))
        self._bare = bytes(4 * weights)

    def receive(self, message: bytes) -> bytes:
        """Return the node's answer, or the bare upload."""
        return self._bare if message == BARE else self._node.receive(message)


def agreed(weights: int, steps: int) -> tuple[Plan, Terms]:
    """Return what everybody agrees on."""
    training = Training.parse(
        {
            "members": 60, "sampling_rate": "0.5", "steps": steps, "attempts": steps + 4,
            "round_steps": steps,
            "learning_rate": "0.1", "warmup": 0, "ring_norm": 16384, "clip": "1",
        },
        what="training",
    )  # fmt: skip
    plan = Plan(digest(b"policy"), SITES, training, weights, privacy=None)
    keys = tuple(signer.public_key() for signer in SIGNERS.values())
    return plan, Terms(RUN, plan.policy, SITES, keys, Thresholds(3, colluding=1, least=3), weights)


def measured(peers: Mapping[str, Peer], weights: int, steps: int) -> dict[str, object]:
    """Return the milliseconds of the first step, of the others and of bare uploads."""
    plan, terms = agreed(weights, steps)
    descent = Descent(plan=plan, run=RUN, weights=flat(build(MODEL, weights - 1)))
    with ThreadPoolExecutor(len(peers)) as pool:
        list(pool.map(lambda peer: peer.receive(BARE), peers.values()))  # they are there, and warm
        uploads = []
        for _ in range(steps):
            start = time.perf_counter()
            list(pool.map(lambda peer: peer.receive(BARE), peers.values()))
            uploads.append(time.perf_counter() - start)
    marks = [time.perf_counter()]
    parallel.run(
        Coordinator(descent, terms),
        peers,
        goes_on=lambda: descent.progress.step < steps,
        save=lambda _: None,
        on_progress=lambda _: marks.append(time.perf_counter()),
    )
    took = [after - before for before, after in pairwise(marks)]
    return {
        "first step, ms": round(1000 * took[0]),
        "step, ms (median)": round(1000 * statistics.median(took[1:])),
        "bare upload, ms (median)": round(1000 * statistics.median(uploads)),
    }


def over_processes(weights: int, steps: int) -> dict[str, object]:
    """Measure with each site in a process of this machine."""
    asked = ["--weights", str(weights), "--steps", str(steps)]
    peers = {name: Process(name, [sys.executable, __file__, "--site", name, *asked]) for name in SITES}
    try:
        return measured(peers, weights, steps)
    finally:
        for peer in peers.values():
            peer.close()


try:
    from nvflare.collab import CollabRecipe, collab
except ModuleNotFoundError:
    pass
else:

    class RemoteSite:
        """What FLARE runs at a site."""

        @collab.publish
        def receive(self, message: bytes) -> bytes:
            """Return the site's answer."""
            if not hasattr(self, "_site"):
                torch.set_num_threads(1)
                self._site = Site(collab.site_name, int(os.environ[SIZE]), int(os.environ[STEPS]))
            return self._site.receive(message)

    class Remote:
        """A site of FLARE's: a peer."""

        def __init__(self, proxy: object) -> None:
            self._proxy = proxy

        def receive(self, message: bytes) -> bytes:
            """Return the site's answer."""
            return self._proxy(timeout=600.0).receive(message)

    class RemoteCoordinator:
        """What FLARE runs at the server."""

        @collab.main
        def run(self) -> None:
            """Measure, and write what was found where whoever asked looks."""
            torch.set_num_threads(1)
            peers = {proxy.name: Remote(proxy) for proxy in collab.clients}
            found = measured(peers, int(os.environ[SIZE]), int(os.environ[STEPS]))
            Path(os.environ[RESULT]).write_text(json.dumps(found))


def over_flare(weights: int, steps: int) -> dict[str, object]:
    """Start FLARE's proof of concept, whose kits let a job bring code, and run this file as one."""
    nvflare = str(Path(sys.executable).parent / "nvflare")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        environment = os.environ | {
            "HOME": folder, "NVFLARE_POC_WORKSPACE": f"{folder}/poc", RESULT: str(result), SIZE: str(weights),
            STEPS: str(steps), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        sys.path.insert(0, str(Path(__file__).parent))
        from secure_step import RemoteCoordinator as Server  # noqa: PLC0415 - by the name that FLARE knows
        from secure_step import RemoteSite as Client_  # noqa: PLC0415

        recipe = CollabRecipe("secure-step", server=Server(), client=Client_(), min_clients=len(SITES))
        recipe.export(f"{folder}/jobs")

        def ran(*arguments: str) -> None:
            command = [nvflare, *arguments]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours

        ran("poc", "prepare", "-c", *SITES, "--force")
        ran("poc", "start", "-ex", "admin@nvidia.com", "--timeout", "180")
        try:
            ran("job", "submit", "-j", f"{folder}/jobs/secure-step")
            for _ in range(300):
                if result.exists() and result.read_text():
                    break
                time.sleep(1)
        finally:
            ran("poc", "stop")
        return json.loads(result.read_text())


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--site", default="")
    parser.add_argument("--flare", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.site:
        serve(Site(asked.site, asked.weights, asked.steps).receive, sys.stdin.buffer, sys.stdout.buffer)
        return
    found = (over_flare if asked.flare else over_processes)(asked.weights, asked.steps)
    print(f"{asked.weights:,} weights, three sites, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for what, value in found.items():
        print(f"{value:>8}  {what}")


if __name__ == "__main__":
    main()
