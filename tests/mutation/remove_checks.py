"""Take one check out at a time, of verification or of the secure sum, and see that tests turn red each time.

    python tests/mutation/remove_checks.py verification       all its modules
    python tests/mutation/remove_checks.py sums               all of the secure sum
    python tests/mutation/remove_checks.py evidence.steps     one module

Every test runs once in a process of its own, which shows the lines that it reaches. Then every mutant (see
`checks.py`) gets a fork of this process, in which its code replaces the original's, and in which tests run
that reach its lines, until one fails. A mutant that no test notices is an error; so is an entry of
`EQUIVALENT` that a test does notice, or that is of no mutant.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, TypeAlias

import pytest
from checks import Key, Mutant, mutants_of
from equivalent import EQUIVALENT

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "oathbound"
VERIFICATION: Final = (
    *(f"evidence.{path.stem}" for path in sorted((PACKAGE / "evidence").glob("[a-z]*.py"))),
    *(f"core.{name}" for name in ("accounting", "audit_plan", "canonical", "catalogue", "claims")),
    *(f"core.{name}" for name in ("folder_audit", "gates", "groups", "intervals", "ladder")),
    *(f"core.{name}" for name in ("local_training", "one_run", "planned", "pooling", "record")),
    *(f"core.{name}" for name in ("rungs", "shape", "study", "tail", "training_plan", "unjudged", "usable")),
)
SUMS: Final = (
    *(f"train.secure_sum.{path.stem}" for path in sorted((PACKAGE / "train/secure_sum").glob("[a-z]*.py"))),
    *(f"hazmat.{name}" for name in ("kem", "masks", "shamir")),
)
GROUPS: Final = {
    "verification": (
        VERIFICATION,
        (
            "tests/unit/evidence",
            "tests/unit/core",
            "tests/scenarios/evidence",
            "tests/property/audit/test_ladder_monotone.py",
        ),
    ),
    "sums": (SUMS, ("tests/unit/secure_sum", "tests/unit/hazmat")),
}
"""The modules of each, and the tests that are tried on their mutants."""

TRIED: Final = "not slow and not hypothesis"
"""A property is tried on other examples each time, and where it fails they are made small: neither helps."""

CALLS: Final = 300
"""So many calls of a function in one test are traced: a test that calls it oftener does the same again."""

LIKELIEST: Final = 200
CASES: Final = 10
"""So many tests are tried on a mutant, so many cases of one before those of another: see `Reach.of`."""

NOT_APPLIED: Final = 3

SLOW: Final = 5
"""A mutant that takes more seconds than these is named, so that somebody may write a quicker test for it."""

SECONDS: Final = 15
"""A test that takes more of a processor hangs, and so notices its mutant."""


class RemoveChecks:
    """A pytest plugin that runs mutants in place of tests."""

    def __init__(self, modules: Iterable[str]) -> None:
        self.modules = tuple(modules)
        self.faults: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every mutant on the tests that were collected."""
        if session.testsfailed or not session.items:
            self.faults.append("the tests cannot be collected")
            return True
        with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = scratch
            self._run(session.items, Path(scratch))
        return True

    def _run(self, items: list[pytest.Item], scratch: Path) -> None:
        began = time.monotonic()
        mutants = [
            mutant
            for module in self.modules
            for mutant in mutants_of(PACKAGE / f"{module.replace('.', '/')}.py", module)
        ]
        functions = _functions_of({str(mutant.path) for mutant in mutants})
        gc.freeze()  # what is shared with the forks is then not copied to count its references
        reach = Reach({str(mutant.path) for mutant in mutants}, items, scratch)
        self.faults += [f"without any mutant this fails: {name}" for name in reach.broken]
        if self.faults:
            return
        print(f"{len(items)} tests took {time.monotonic() - began:.0f} s; {len(mutants)} mutants", flush=True)
        jobs = [_mutated(mutant, reach.of(mutant), functions) for mutant in mutants]
        survived = set()
        for number, status, seconds in _in_forks(jobs):
            name = mutants[number].name
            if status == NOT_APPLIED:
                self.faults.append(f"nothing runs the code of: {name}")
            elif status == 0:
                survived.add(name)
            if status == 0 or seconds > SLOW:
                print(f"{seconds:4.1f} s {'noticed' if status else 'survived'} {name}", flush=True)
        others = {*VERIFICATION, *SUMS} - set(self.modules)
        known = {name for name in EQUIVALENT if name.split(" ", 1)[0] not in others}
        self.faults += [f"no test notices: {name}" for name in sorted(survived - known)]
        names = {mutant.name for mutant in mutants}
        self.faults += [
            f"not equivalent, a test notices: {name}" for name in sorted(known & names - survived)
        ]
        self.faults += [f"listed as equivalent, and no mutant: {name}" for name in sorted(known - names)]
        noticed = len(mutants) - len(survived)
        print(
            f"{noticed} noticed, {len(survived & known)} equivalent, {len(survived - known)} survived, "
            f"{time.monotonic() - began:.0f} s"
        )


Test: TypeAlias = tuple[float, int]
"""How long a test took, in seconds of a processor, and its number."""


class Reach:
    """Which tests reach which lines, each test run alone."""

    def __init__(self, paths: set[str], items: list[pytest.Item], scratch: Path) -> None:
        self.items = items
        self.tests: dict[tuple[str, int], list[Test]] = defaultdict(list)
        self.raised: dict[tuple[str, int], list[Test]] = defaultdict(list)
        outs = [scratch / f"{number}.json" for number in range(len(items))]
        jobs = [_traced(item, paths, out) for item, out in zip(items, outs, strict=True)]
        codes = {number: status for number, status, _ in _in_forks(jobs)}
        self.broken = [item.nodeid for number, item in enumerate(items) if codes[number]]
        for number, out in enumerate(outs):
            if codes[number] == 0:
                took, lines, raised = json.loads(out.read_text())
                for reached, places in ((self.tests, lines), (self.raised, raised)):
                    for path, line in places:
                        reached[path, line].append((took, number))

    def of(self, mutant: Mutant) -> list[pytest.Item]:
        """Return the likeliest of the tests that reach a mutant's lines.

        Those that see an error raised there come first, then those that see one in its function, then those
        in a file that is named after its module; then the quickest, but a case of each test function before
        many of one.
        """
        path = str(mutant.path)
        there = _all(self.raised, path, [*mutant.lines, *mutant.guarded])
        near = _all(self.raised, path, mutant.function)
        cases: Counter[str] = Counter()
        order = []
        for test in sorted(_all(self.tests, path, mutant.lines)):
            name = self.items[test[1]].nodeid.partition("[")[0]
            elsewhere = mutant.path.stem not in Path(name).name
            order.append((test not in there, test not in near, elsewhere, cases[name] // CASES, test))
            cases[name] += 1
        return [self.items[number] for *_, (_, number) in sorted(order)[:LIKELIEST]]


def _all(tests: dict[tuple[str, int], list[Test]], path: str, lines: Iterable[int]) -> set[Test]:
    return {test for line in lines for test in tests.get((path, line), ())}


def _traced(item: pytest.Item, paths: set[str], out: Path) -> Callable[[], int]:
    def job() -> int:
        lines: set[tuple[str, int]] = set()
        raised: set[tuple[str, int]] = set()
        calls: Counter[CodeType] = Counter()

        def local(frame: FrameType, event: str, _: Any) -> Any:
            if event != "return":
                (raised if event == "exception" else lines).add((frame.f_code.co_filename, frame.f_lineno))
            return local

        def trace(frame: FrameType, _event: str, _: Any) -> Any:
            if frame.f_code.co_filename not in paths:
                return None
            calls[frame.f_code] += 1
            return local if calls[frame.f_code] <= CALLS else None

        began = time.process_time()
        sys.settrace(trace)
        failed = _fails([item])
        sys.settrace(None)
        out.write_text(json.dumps([time.process_time() - began, sorted(lines), sorted(raised)]))
        return int(failed)

    return job


def _mutated(
    mutant: Mutant, items: list[pytest.Item], functions: dict[tuple[str, Key], list[FunctionType]]
) -> Callable[[], int]:
    def job() -> int:
        applied = False
        for key, code in mutant.code().items():
            for function in functions.get((str(mutant.path), key), []):
                applied |= function.__code__ != code
                function.__code__ = code
        return int(_fails(items)) if applied else NOT_APPLIED

    return job


def _fails(items: list[pytest.Item]) -> bool:
    """Return whether one of the tests fails; those after it are not run."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
        reports = _Reports()
        item.config.pluginmanager.register(reports)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if reports.failed:
            return True
        item.config.pluginmanager.unregister(reports)
    return False


class _Reports:
    """A pytest plugin that remembers whether a test failed."""

    failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed


def _functions_of(paths: set[str]) -> dict[tuple[str, Key], list[FunctionType]]:
    """Return every function object of these files by file and key; names elsewhere refer to the same."""
    functions = defaultdict(list)
    for value in gc.get_objects():
        if isinstance(value, FunctionType):
            code: CodeType = value.__code__
            if code.co_filename in paths:
                functions[code.co_filename, (code.co_qualname, code.co_firstlineno)].append(value)
    return functions


def _in_forks(jobs: Iterable[Callable[[], int]]) -> Iterator[tuple[int, int, float]]:
    """Run each job in a fork, as many at a time as there are processors.

    Yield number, exit code and seconds of a processor, as they end. A job that raises, hangs or dies of a
    signal has a code other than zero.
    """
    running: dict[int, int] = {}
    sys.stdout.flush()
    for number, job in enumerate(jobs):
        if len(running) == (os.cpu_count() or 1):
            yield _ended(running)
        child = os.fork()
        if child == 0:
            _become(job)
        running[child] = number
    while running:
        yield _ended(running)


def _ended(running: dict[int, int]) -> tuple[int, int, float]:
    child, status, used = os.wait4(-1, 0)
    return running.pop(child), os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _become(job: Callable[[], int]) -> None:
    """Do the job in this process, silently, and end the process."""
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
        code = job()
    finally:
        os._exit(code)


@contextmanager
def _at_root() -> Iterator[None]:
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)


def main(asked: str) -> int:
    """Return 0 when every mutant of a group, or of one module, is noticed or known as equivalent."""
    name = next((name for name, (modules, _) in GROUPS.items() if asked == name or asked in modules), None)
    if name is None:
        print(f"one of: {', '.join((*GROUPS, *VERIFICATION, *SUMS))}")
        return 2
    modules, tests = GROUPS[name]
    plugin = RemoveChecks(modules if asked == name else (asked,))
    options = ["-q", "-s", "--no-header", "--no-summary", "-m", TRIED, "-p", "no:cacheprovider"]
    with _at_root():
        pytest.main([*options, *tests], plugins=[plugin])
    print("\n".join(plugin.faults))
    return int(bool(plugin.faults))


if __name__ == "__main__":
    sys.exit(main("".join(sys.argv[1:])))
