"""Feed changed inputs to every parser that oathbound has: each must give a value, or refuse as documented.

    python tests/fuzz/fuzz.py --seconds 600               all parsers, ten minutes of a processor together
    python tests/fuzz/fuzz.py --seconds 30 note envelope  two of them

Every parser runs in a process of its own, with little memory, and two seconds of a processor for an input. An
input that reaches a line of the package that no other reached is kept to be changed further, and as a seed in
`seeds/<parser>/`. What a parser should not have done is a finding: printed, and its input kept as a seed too.
`test_seeds.py` replays all seeds.
"""

import argparse
import contextlib
import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from mutate import mutated
from parsers import PARSERS, Parser, all_samples

import oathbound

SEEDS: Final = Path(__file__).resolve().parent / "seeds"
PACKAGE: Final = str(Path(oathbound.__file__).parent)
SECONDS: Final = 2
MORE_MEMORY: Final = 1024 * 1024 * 1024
LARGEST_PARENT: Final = 32 * 1024
SEED_BYTES: Final = 10 * 1024
"""So much a parser's new seeds may take together; those with a finding are always kept."""
_SLOT: Final = 1 << 18
_LENGTH: Final = 4


class TooSlow(BaseException):
    """An input took longer than its time; not an `Exception`, so that no parser swallows it."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow


def outcome(parser: Parser, data: bytes, folder: Path) -> str:
    """Return "value" or "refused", or what is wrong with the way that the parser ended."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        parser.parse(data, folder)
    except parser.refusals:
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = next(
            (f for f in reversed(traceback.extract_tb(error.__traceback__)) if PACKAGE in f.filename), None
        )
        where = f"{Path(last.filename).name}:{last.name}" if last else "outside"
        return f"{type(error).__name__} at {where}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "value"


class Lines:
    """The lines of the package that were reached so far."""

    def __init__(self) -> None:
        self.reached: set[tuple[str, int]] = set()

    def new(self, parser: Parser, data: bytes, folder: Path) -> tuple[str, int]:
        """Return an input's outcome, and how many lines it was the first to reach."""
        before, reached = len(self.reached), self.reached

        def local(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                reached.add((frame.f_code.co_filename, frame.f_lineno))
            return local

        def trace(frame: FrameType, _event: str, _: Any) -> Any:
            return local if frame.f_code.co_filename.startswith(PACKAGE) else None

        sys.settrace(trace)
        try:
            result = outcome(parser, data, folder)
        finally:
            sys.settrace(None)
        return result, len(reached) - before


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder, in memory where the machine has such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - only if it is there; the folder in it has a name of its own
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def _fuzz(name: str, seconds: float, seed: int, slot: mmap.mmap, out: Path) -> None:
    """Fuzz one parser in this process; its numbers, seeds and findings are left in `out`."""
    _limit_memory()
    signal.signal(signal.SIGPROF, _stop)
    # What a library written in Rust prints when it panics is of no use here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    random, parser, lines = Random(f"{name} {seed}"), PARSERS[name], Lines()
    corpus, others, left = parser.samples(), all_samples(), SEED_BYTES
    corpus += [file.read_bytes() for file in sorted((SEEDS / name).glob("*"))]
    counts: dict[str, int] = {}
    with scratch() as base:
        for data in corpus:
            lines.new(parser, data, _cleared(base))
        deadline = time.process_time() + seconds
        while time.process_time() < deadline:
            data = mutated(random.choice(corpus), corpus if random.random() < 0.8 else others, random)
            slot[: _LENGTH + len(data)] = len(data).to_bytes(_LENGTH) + data
            result, new = lines.new(parser, data, _cleared(base))
            counts[result] = counts.get(result, 0) + 1
            wrong = result not in {"value", "refused"}
            if new and not wrong and len(data) <= LARGEST_PARENT:
                corpus.append(data)
            if (wrong and counts[result] == 1) or (new and len(data) <= left):
                left -= len(data)
                (out / f"{name}-{sha256(data).hexdigest()[:16]}").write_bytes(data)
    (out / f"{name}.json").write_text(json.dumps(counts))


def _cleared(base: Path) -> Path:
    folder = base / "it"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _limit_memory() -> None:
    """Allow a parser so much memory more than the process has now, where the system says how much that is."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MORE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def run(name: str, seconds: float, seed: int, out: Path) -> dict[str, int]:
    """Fuzz one parser in a fork; return how often it ended in which way."""
    slot = mmap.mmap(-1, _SLOT)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _fuzz(name, seconds, seed, slot, out)
            code = 0
        except BaseException:
            (out / f"{name}.txt").write_text(traceback.format_exc())
            raise
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60 + 20 * seconds  # of a machine that does much else
    status = None
    while status is None:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = code
        elif time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline += 60
        else:
            time.sleep(0.1)
    if os.WIFSIGNALED(status):
        data = slot[_LENGTH : _LENGTH + int.from_bytes(slot[:_LENGTH])]
        (out / f"{name}-{sha256(data).hexdigest()[:16]}").write_bytes(data)
        return {f"the process was ended by signal {os.WTERMSIG(status)}": 1}
    if status:
        return {f"the fuzzer itself failed: {(out / f'{name}.txt').read_text()}": 1}
    result: dict[str, int] = json.loads((out / f"{name}.json").read_text())
    return result


def _again(name: str, seconds: float, seed: int, out: Path) -> dict[str, int]:
    """Fuzz one parser; where its process is ended by an input, once more with another seed, up to thrice."""
    ended: dict[str, int] = {}
    for more in range(3):
        counts = run(name, seconds, seed + more, out)
        if "value" in counts or "refused" in counts:
            return ended | counts
        ended |= counts
    return ended


def main(arguments: list[str]) -> int:
    """Fuzz; return 1 if there was a finding."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("parsers", nargs="*", choices=[*PARSERS, []], metavar="PARSER")
    chosen = options.parse_args(arguments)
    names = chosen.parsers or list(PARSERS)
    findings = 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for name in names:
            counts = _again(name, chosen.seconds / len(names), chosen.seed, out)
            wrong = {what: count for what, count in counts.items() if what not in {"value", "refused"}}
            total = sum(counts.values())
            values = counts.get("value", 0)
            print(f"{name}: {total} inputs, {values} values, {len(wrong)} findings", flush=True)
            for what, count in wrong.items():
                print(f"    {count} x {what}", flush=True)
            findings += len(wrong)
            for file in sorted(out.glob(f"{name}-????????????????")):
                (SEEDS / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, SEEDS / name / file.name.rpartition("-")[2])
                file.unlink()
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
