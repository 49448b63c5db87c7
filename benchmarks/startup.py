"""How long `oathbound` takes before it does anything, against an empty Python in the same run.

    python benchmarks/startup.py [--rounds 20]

Prints CPU seconds (user and system, of the process and its children) and wall seconds: the median of the
rounds, and its ratio to `python -c pass`. The commands alternate, so that a change of load meets all.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oathbound.testing.consortium import NOW, Consortium

GOAL = 10
"""Times an empty Python: what we want of `--help` and `verify`."""


def bundle(folder: Path) -> tuple[str, ...]:
    """Write a bundle of two sites and a trust file, and return the arguments that verify it."""
    consortium = Consortium.finished()
    (folder / "a.oath").write_bytes(consortium.bundle())
    lines = ['format = "oathbound/trust/v1"']
    for party in consortium.trust().party:
        lines += ["[[party]]", f'name = "{party.name}"', f'fingerprint = "{party.fingerprint}"']
    (folder / "trust.toml").write_text("\n".join(lines))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW))
    return "verify", str(folder / "a.oath"), "--trust", str(folder / "trust.toml"), "--at", at


def measured(command: list[str]) -> tuple[float, float]:
    """Return the CPU seconds and the wall seconds of one run."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own commands
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "oathbound.cli"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import typer'": [sys.executable, "-c", "import typer"],
            "python -c 'import pydantic.main'": [sys.executable, "-c", "import pydantic.main"],
            "oathbound --help": [*ours, "--help"],
            "oathbound verify": [*ours, *bundle(Path(folder))],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for name, command in commands.items():
            measured(command)  # fills the caches of files and bytecode
            runs[name].clear()
        for _ in range(rounds):
            for name, command in commands.items():
                runs[name].append(measured(command))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load}, {rounds} rounds")
    print(f"{'':34} {'CPU s':>7} {'ratio':>6} {'wall s':>7} {'ratio':>6}")
    empty = [statistics.median(column) for column in zip(*runs["python -c pass"], strict=True)]
    for name, pairs in runs.items():
        cpu, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:34} {cpu:7.3f} {cpu / empty[0]:6.1f} {wall:7.3f} {wall / empty[1]:6.1f}")
    print(f"The goal of --help and verify is a ratio of {GOAL}.")


if __name__ == "__main__":
    main()
