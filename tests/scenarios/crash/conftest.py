"""A disk that loses power: what it keeps of what was written and not synchronised is up to it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import pytest

Kept = tuple[str, ...]


@dataclass
class Node:
    """A file's bytes, or a folder's names, as programs see them and as they are on the platters."""

    folder: bool
    seen: bytes = b""
    durable: bytes = b""
    names: dict[str, int] = field(default_factory=dict)


@dataclass
class Disk:
    """The folders and files below `root`, and which changes of names have not reached the disk."""

    root: Path
    nodes: dict[int, Node] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[int, str, int | None]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        """Take what is there as durable."""
        self._add("", folder=True)
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            number = self._add(name, folder=path.is_dir())
            if path.is_file():
                self.nodes[number].seen = self.nodes[number].durable = path.read_bytes()
            self._settle(self.seen[_parent(name)])

    def _add(self, name: str, *, folder: bool) -> int:
        number = next(self.numbers)
        self.nodes[number] = Node(folder)
        self.seen[name] = number
        if name:
            self.pending.append((self.seen[_parent(name)], Path(name).name, number))
        return number

    def _settle(self, folder: int) -> None:
        """Make the names in a folder durable."""
        names = self.nodes[folder].names
        for _, name, number in [change for change in self.pending if change[0] == folder]:
            _apply(names, name, number)
        self.pending = [change for change in self.pending if change[0] != folder]

    def open(self, name: str, flags: int) -> None:
        if name not in self.seen and flags & os.O_CREAT:
            self._add(name, folder=False)
        elif name in self.seen and flags & os.O_TRUNC:
            self.nodes[self.seen[name]].seen = b""

    def mkdir(self, name: str) -> None:
        if name not in self.seen:
            self._add(name, folder=True)

    def remove(self, name: str) -> None:
        if self.seen.pop(name, None) is not None:
            self.pending.append((self.seen[_parent(name)], Path(name).name, None))

    def rename(self, old: str, new: str) -> None:
        moved = {
            name: number for name, number in self.seen.items() if name == old or name.startswith(old + "/")
        }
        for name, number in moved.items():
            del self.seen[name]
            self.seen[new + name.removeprefix(old)] = number
        # A rename is one change, kept whole or lost whole: both halves are in one folder here.
        assert _parent(old) == _parent(new)
        self.pending.append((self.seen[_parent(new)], f"{Path(old).name}\0{Path(new).name}", self.seen[new]))

    def read(self) -> None:
        """See what every file holds now: bytes are written before a rename and an fsync, not at them."""
        for name, number in self.seen.items():
            path = self.root / name
            if not self.nodes[number].folder and path.is_file():
                self.nodes[number].seen = path.read_bytes()

    def fsync(self, name: str) -> None:
        node = self.nodes[self.seen[name]]
        if node.folder:
            self._settle(self.seen[name])
        else:
            node.durable = node.seen

    def after_power_cut(self) -> Iterator[dict[str, bytes | None]]:
        """Yield every state that the disk can be in: path to bytes, None for a folder."""
        for kept in product((False, True), repeat=len(self.pending)):
            names = {number: dict(node.names) for number, node in self.nodes.items()}
            for (folder, name, number), is_kept in zip(self.pending, kept, strict=True):
                if is_kept:
                    _apply(names[folder], name, number)
            reached = dict(_walk(names, self.nodes, self.seen[""]))
            torn = [path for path, number in reached.items() if not self._settled(number)]
            for choice in product(range(4), repeat=len(torn)):
                state = {
                    p: None if self.nodes[n].folder else self.nodes[n].durable for p, n in reached.items()
                }
                state |= {p: self._torn(reached[p], how) for p, how in zip(torn, choice, strict=True)}
                yield state

    def _settled(self, number: int) -> bool:
        node = self.nodes[number]
        return node.folder or node.seen == node.durable

    def _torn(self, number: int, how: int) -> bytes:
        node = self.nodes[number]
        half = len(node.seen) // 2
        zeros = node.seen[:half] + bytes(len(node.seen) - half)
        return (node.durable, node.seen, node.seen[:half], zeros)[how]


def _parent(name: str) -> str:
    parent = str(Path(name).parent)
    return "" if parent == "." else parent


def _apply(names: dict[str, int], name: str, number: int | None) -> None:
    old, _, new = name.partition("\0")
    if number is None:
        names.pop(old, None)
    elif new:
        names.pop(old, None)
        names[new] = number
    else:
        names[old] = number


def _walk(names: dict[int, dict[str, int]], nodes: dict[int, Node], at: int) -> Iterator[tuple[str, int]]:
    for name, number in names[at].items():
        yield name, number
        if nodes[number].folder:
            for below, deeper in _walk(names, nodes, number):
                yield f"{name}/{below}", deeper


_listeners: list[Callable[[str, tuple[object, ...]], None]] = []
_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _listeners and event in _EVENTS:
        _listeners[-1](event, arguments)


Program = Callable[..., str]


@pytest.fixture(scope="session")
def program() -> Program:
    """Return a function that runs a program beside this file, and returns what it prints."""

    def run(name: str, *arguments: object) -> str:
        command = [sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    return run


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """Return copies of a tiny study, one as it is before each verb, named for the verb."""
    pytest.importorskip("torch", reason="training is an extra")
    folder = tmp_path_factory.mktemp("states")
    program("sweep.py", "prepare", folder)
    return folder


PowerCuts = Callable[[Path, Callable[[], object], Callable[..., None], Path], int]


@pytest.fixture(scope="session")
def power_cuts() -> PowerCuts:
    """Return a function that runs a work, cuts the power at every moment, and checks each folder left.

    `check` gets a folder, and whether the work had ended: what it wrote must be there then. The function
    returns how many folders it checked.
    """
    sys.addaudithook(_hook)

    def cut(root: Path, work: Callable[[], object], check: Callable[..., None], scratch: Path) -> int:
        states = list(_recorded(root, work))
        distinct = {(tuple(sorted(state.items())), ended) for state, ended in states}
        for files, ended in distinct:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            for name, data in files:
                if data is None:
                    (scratch / name).mkdir(parents=True, exist_ok=True)
            for name, data in files:
                if data is not None:
                    (scratch / name).write_bytes(data)
            check(scratch, ended=ended)
        return len(distinct)

    return cut


@dataclass
class Recording:
    """What one work does to a disk, and every state that a power cut leaves meanwhile."""

    disk: Disk
    states: list[dict[str, bytes | None]] = field(default_factory=list)
    busy: bool = False

    def inside(self, path: object) -> str | None:
        root = self.disk.root
        if self.busy or not isinstance(path, (str, os.PathLike)) or not Path(path).is_relative_to(root):
            return None
        name = str(Path(path).relative_to(root))
        return "" if name == "." else name

    def listen(self, event: str, arguments: tuple[object, ...]) -> None:
        """Follow what Python is about to do."""
        name = self.inside(arguments[0])
        if name is None:
            return
        target = self.inside(arguments[1]) if event == "os.rename" else None
        self.look()
        if event == "open":
            self.disk.open(name, int(str(arguments[2])))
        elif event == "os.mkdir":
            self.disk.mkdir(name)
        elif target is not None:
            self.disk.rename(name, target)
        else:
            self.disk.remove(name)
        self.states.extend(self.disk.after_power_cut())

    def fsync(self, descriptor: int) -> None:
        """Follow an fsync that has just been done."""
        name = self.inside(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name is not None:
            self.look()
            self.disk.fsync(name)

    def look(self) -> None:
        """See what was written since, and what of it a power cut leaves now."""
        self.busy = True
        self.disk.read()
        self.busy = False
        self.states.extend(self.disk.after_power_cut())


def _recorded(root: Path, work: Callable[[], object]) -> Iterator[tuple[dict[str, bytes | None], bool]]:
    """Run the work; yield each state that a power cut can leave, and whether the work had ended."""
    recording, real = Recording(Disk(root)), os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        recording.fsync(descriptor)

    _listeners.append(recording.listen)
    os.fsync = fsync
    try:
        work()
    finally:
        os.fsync = real
        _listeners.pop()
    recording.look()
    yield from ((state, False) for state in recording.states)
    yield from ((state, True) for state in recording.disk.after_power_cut())
