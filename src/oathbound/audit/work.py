"""An audit's work in pieces: done here or in several processes, and kept, so that a kill costs few of them.

A piece is what the model is asked about a few patients, and a seed of its own where something is drawn: what
comes of it depends on nothing else, neither on who does it nor on which pieces were done before.

    each(target, do, pieces)     yields do(target, *piece) of every piece, in order

`do` is a function of a module, since other processes know it by its name. A target whose adapter has the
attribute `work` has its pieces done as that says; any other has them done here, one after the other.
"""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch

from oathbound import __version__
from oathbound.audit.kept import Answers, OnAnswer, untold
from oathbound.audit.target import Floats, HasTokens
from oathbound.core.errors import Halted, OathboundError, Unavailable, WrongInput

Done = tuple[Floats, ...]
"""What comes of a piece: arrays of float64 of any shape."""

Do = Callable[..., Done]
Opener = Callable[..., tuple[Any, str]]

_AHEAD: Final = 2
"""Pieces that wait for each process, so that none is idle while results are taken."""


@dataclass(frozen=True, slots=True)
class Pool:
    """So many processes that have opened the model under audit; `processes` starts them."""

    executor: ProcessPoolExecutor
    count: int


@dataclass(frozen=True, slots=True)
class Work:
    """Where pieces are done, and where results are kept; `model` is the digest of the model under audit."""

    model: str = ""
    kept: Answers | None = None
    pool: Pool | None = None


HERE: Final = Work()


@runtime_checkable
class Works(HasTokens, Protocol):
    """A target whose pieces are done as `work` says."""

    work: Work


def each(target: HasTokens, do: Do, pieces: Iterable[tuple[Any, ...]]) -> Iterator[Done]:
    """Yield what `do` makes of every piece, in order; the cost is counted as if all was done here, now.

    Arguments of a piece are integers, text, arrays, and tuples or data classes of those. Raises `Halted`
    where a process ended, memory was not enough, or results cannot be kept; and what `do` raises.
    """
    if not isinstance(target, Works) or target.work == HERE:
        yield from (do(target, *piece) for piece in pieces)
        return
    work = target.work
    waiting: deque[tuple[bytes, Done | Future[tuple[Done, int]], int]] = deque()
    most = 1 if work.pool is None else _AHEAD * work.pool.count
    for piece in pieces:
        name, found = b"", None
        if work.kept is not None:
            name = work.kept.name(b"".join(_flat((__version__, work.model, do.__qualname__, piece))))
            found = work.kept.find(name)
        if found is not None:
            done, cost = _read(found)
            waiting.append((b"", done, cost))
        elif work.pool is not None:
            waiting.append((name, _submitted(work.pool, do, piece), 0))
        else:
            done, cost = _did(target, do, piece)
            target.tokens_pushed -= cost  # it is counted when it is taken
            _keep(work, name, done, cost)
            waiting.append((b"", done, cost))
        if len(waiting) >= most:
            yield _taken(work, target, *waiting.popleft())
    while waiting:
        yield _taken(work, target, *waiting.popleft())


@dataclass(frozen=True, slots=True)
class Machine:
    """What an audit may use of this machine: so many processes, and "cpu", or "cuda" for all GPUs."""

    processes: int = 1
    device: str = "cpu"


ALONE: Final = Machine()


@contextmanager
def working(
    target: object,
    model: str,
    *,
    keep: Path,
    label: str = "",
    machine: Machine,
    opener: Opener,
    arguments: tuple[Any, ...],
    on_answer: OnAnswer = untold,
) -> Iterator[None]:
    """Have an audit's work done by the machine, and what was done kept in the folder until the audit ends.

    `model` is the digest of the model; `opener`, a function of a module, gives model and digest from
    `arguments` in another process. `label` tells the audit from others in the folder, `on_answer` is told of
    every piece. A model that sees records as a whole answers in no time, and needs none of this.
    """
    if not isinstance(target, Works):
        yield
        return
    place(target, machine.device)
    with ExitStack() as stack:
        kept = stack.enter_context(Answers(keep, label, on_answer=on_answer))
        pool = None
        if machine.processes > 1:
            pool = stack.enter_context(processes(machine, model, opener, arguments))
        target.work = Work(model, kept, pool)
        yield
        kept.forget()


def _taken(
    work: Work, target: HasTokens, name: bytes, result: Done | Future[tuple[Done, int]], cost: int
) -> Done:
    """Return a result, once there is one; keep it where `name` is not empty; and count its cost."""
    if isinstance(result, Future):
        try:
            result, cost = result.result()
        except BrokenProcessPool:
            raise _ended() from None
        _keep(work, name, result, cost)
    target.tokens_pushed += cost
    return result


def _did(target: HasTokens, do: Do, piece: tuple[Any, ...]) -> tuple[Done, int]:
    """Return what `do` makes of a piece, and what it cost."""
    before = target.tokens_pushed
    try:
        done = do(target, *piece)
    except torch.OutOfMemoryError:
        raise Halted(
            "the memory of the device is not enough",
            hint="fewer --processes, or --device cpu: nothing that was done is lost",
        ) from None
    return done, target.tokens_pushed - before


def _keep(work: Work, name: bytes, done: Done, cost: int) -> None:
    if work.kept is not None:
        shapes = [[float(length) for length in array.shape] for array in done]
        numbers = [array.ravel().tolist() for array in done]
        work.kept.keep(name, [[float(cost)], *shapes, *numbers])


def _read(kept: list[list[float]]) -> tuple[Done, int]:
    """Return what `_keep` kept."""
    (cost,), *rest = kept
    shapes, numbers = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    arrays = (
        np.array(each, dtype=np.float64).reshape([int(length) for length in shape])
        for shape, each in zip(shapes, numbers, strict=True)
    )
    return tuple(arrays), int(cost)


def _flat(value: Any) -> Iterator[bytes]:
    """Yield bytes that differ where values do: every part says its kind and its length."""
    if isinstance(value, np.ndarray):
        yield from _flat((str(value.dtype), value.shape, value.tobytes()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _flat(tuple(getattr(value, field.name) for field in dataclasses.fields(value)))
    elif isinstance(value, (tuple, list)):
        yield b"(%d:" % len(value)
        for part in value:
            yield from _flat(part)
    else:
        said = value if isinstance(value, bytes) else repr(value).encode()
        yield b"%b %d:" % (type(value).__name__.encode(), len(said))
        yield said


# What follows is about other processes. They are of this machine and talk through pipes: the object
# collectives of torch.distributed unpickle whatever a peer on the network sends (decision 17).

_opened: list[HasTokens | OathboundError] = []
"""In a process of a pool: the model, once it has been opened, or why it could not be."""


@contextmanager
def processes(machine: Machine, model: str, opener: Opener, arguments: tuple[Any, ...]) -> Iterator[Pool]:
    """Start processes that each open the model; of a machine with GPUs, each on the next of these.

    They end with this process, however it ends: each watches a pipe that this one alone holds open.
    """
    count = machine.processes
    threads = max(torch.get_num_threads() // count, 1)
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    places = context.SimpleQueue()
    for number in range(count):
        places.put(number)
    ended, alive = context.Pipe(duplex=False)
    begun = ended, places, threads, machine.device, model, opener, arguments
    executor = ProcessPoolExecutor(count, context, _begin, begun)
    try:
        yield Pool(executor, count)
    finally:
        alive.close()
        executor.shutdown(wait=False, cancel_futures=True)


def _begin(  # noqa: PLR0917 - what a pool gives its processes stands in a row
    ended: Connection,
    places: Any,
    threads: int,
    device: str,
    model: str,
    opener: Opener,
    arguments: tuple[Any, ...],
) -> None:
    """Open the model in a process of a pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever pressed a key is told once, by the parent
    threading.Thread(target=_end_with, args=(ended,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        target, digest = opener(*arguments)
        if digest != model:
            raise WrongInput("the model's folder changed during the audit", hint="audit what does not change")
        place(target, device, places.get())
    except OathboundError as error:
        target = error
    _opened.append(target)


def _end_with(ended: Connection) -> None:
    """Wait until the parent has ended, or has done with this process, and end."""
    ended.poll(None)
    os._exit(1)


@runtime_checkable
class Movable(Protocol):
    """A target that can compute on another device."""

    def to(self, device: torch.device) -> None:
        """Compute on `device` from now on."""
        ...


def place(target: object, device: str, number: int = 0) -> None:
    """Have a target computed on the GPU of that number, counted round; `Unavailable` where there is none."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise Unavailable("this machine has no GPU that torch can use", hint="leave out --device")
    if isinstance(target, Movable):  # a classifier answers in no time where it is
        target.to(torch.device("cuda", number % torch.cuda.device_count()))


def _perform(do: Do, piece: tuple[Any, ...]) -> tuple[Done, int]:
    (target,) = _opened
    if isinstance(target, OathboundError):
        raise target
    return _did(target, do, piece)


def _submitted(pool: Pool, do: Do, piece: tuple[Any, ...]) -> Future[tuple[Done, int]]:
    # A process that is started here begins with this thread's mask, and says by itself, once it can, that
    # interruptions are not for it (`_begin`); until then they wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.executor.submit(_perform, do, piece)
    except BrokenProcessPool:
        raise _ended() from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended() -> Halted:
    return Halted(
        "a process of the audit ended before its work was done",
        hint="was the memory enough? run it again with fewer --processes: nothing that was done is lost",
    )
