"""An append-only log of signed statements in a folder, in the layout of C2SP tlog-tiles.

    tile/entries/<N>[.p/<W>]    leaves, each after its length in two bytes; 256 to a file
    tile/<L>/<N>[.p/<W>]        hashes, for readers that fetch tiles; derived from the leaves
    checkpoints/<size>          every checkpoint, one for each size: a cosigned one replaces the bare one
    checkpoint                  a copy of the latest, for readers that fetch tiles
    lock                        held by the one writer

A file becomes visible only when it is complete and on disk: it is written beside its place, synchronised, and
renamed. A crash at any moment leaves either the old log or the new one. The page is `spec/log.md`.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final, Self

from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.evidence import note
from oathbound.evidence.durable import make_folder, replace_file
from oathbound.evidence.envelope import MAX_ENVELOPE_BYTES
from oathbound.evidence.merkle import leaf_hash, root

_WIDTH: Final = 256
_LENGTH_BYTES: Final = 2
_MAX_FILE_BYTES: Final = _WIDTH * (_LENGTH_BYTES + MAX_ENVELOPE_BYTES)


class Log:
    """One writer's hold on a log. `open` it, and `close` it or use it in a `with` statement."""

    def __init__(self, path: Path, origin: str, lock: int) -> None:
        self._path = path
        self._origin = origin
        self._lock = lock
        self._leaves: list[bytes] = []
        self._hashes: list[bytes] = []
        self._index: dict[bytes, int] = {}
        self._checkpoint_size = 0

    @classmethod
    def open(cls, path: Path, origin: str) -> Self:
        """Return the log in the folder, made when it is not there, checked against its checkpoints.

        Raises `Unavailable` when another writer holds it, `NotAuthentic` when its files are inconsistent.
        """
        try:
            make_folder(path / "tile" / "entries")
            make_folder(path / "checkpoints")
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Unavailable(f"the log {path} cannot be opened: {error.strerror}") from None
        with contextlib.ExitStack() as on_failure:
            log = cls(path, origin, lock)
            on_failure.callback(log.close)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(f"the log {path} is in use", hint="wait until that process ends") from None
            log._load()
            on_failure.pop_all()
        return log

    @classmethod
    def read(cls, path: Path) -> list[bytes]:
        """Return the leaves of the log in the folder, also while somebody writes it; none if there is no log.

        They are not checked against checkpoints. Raises `NotAuthentic` where a file is damaged.
        """
        log = cls(path, "", -1)
        try:
            return log._all()
        except Unavailable:  # a file was replaced by a wider one after it was found
            return log._all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._leaves)

    def leaves(self) -> tuple[bytes, ...]:
        """Return the leaves, in order."""
        return tuple(self._leaves)

    def leaf_hashes(self) -> tuple[bytes, ...]:
        """Return the hashes of the leaves, in order: what `merkle` makes proofs from."""
        return tuple(self._hashes)

    def root(self) -> bytes:
        """Return the root of all leaves."""
        return root(self._hashes)

    def append(self, leaf: bytes) -> int:
        """Return the index of the leaf, now on disk. A leaf that is there already keeps its index.

        Raises `WrongInput` unless the leaf has 1 to 65,535 bytes, `Unavailable` when it cannot be written.
        """
        if not 0 < len(leaf) <= MAX_ENVELOPE_BYTES:
            raise WrongInput(f"a leaf of a log has 1 to {MAX_ENVELOPE_BYTES} bytes")
        hashed = leaf_hash(leaf)
        if hashed in self._index:
            return self._index[hashed]
        size = self.size
        start = size - size % _WIDTH
        bundle = b"".join(map(_entry, [*self._leaves[start:], leaf]))
        _write(self._tile("entries", size // _WIDTH, size + 1 - start), bundle)
        if size > max(start, self._checkpoint_size):
            # The file just written holds these leaves too, and no checkpoint was made at this size.
            with contextlib.suppress(OSError):
                self._tile("entries", size // _WIDTH, size - start).unlink()
        self._keep(leaf, hashed)
        return size

    def checkpoint(self) -> bytes | None:
        """Return the latest checkpoint, or None before the first."""
        return self.checkpoints()[-1] if self._checkpoint_size else None

    def checkpoints(self) -> tuple[bytes, ...]:
        """Return every checkpoint, ascending in size."""
        folder = self._path / "checkpoints"
        sizes = sorted(int(file.name) for file in folder.iterdir() if file.name.isdecimal())
        return tuple(_read(folder / str(size)) for size in sizes)

    def write_checkpoint(self, data: bytes) -> None:
        """Keep a checkpoint of this log, with the tiles of its size, and make it the latest.

        Raises `NotAuthentic` unless it is of this log, of leaves that are on disk, and no smaller than the
        latest. Its signatures are not verified here.
        """
        checkpoint = self._check(data)
        if checkpoint.size < self._checkpoint_size:
            raise NotAuthentic("a checkpoint is older than the latest of its log")
        self._publish(checkpoint.size)
        _write(self._path / "checkpoints" / str(checkpoint.size), data)
        _write(self._path / "checkpoint", data)
        self._checkpoint_size = checkpoint.size

    def _keep(self, leaf: bytes, hashed: bytes) -> None:
        self._index[hashed] = len(self._leaves)
        self._leaves.append(leaf)
        self._hashes.append(hashed)

    def _tile(self, level: str, number: int, width: int) -> Path:
        """Return a tile's file: `x001/x234/067` for number 1,234,067, and `.p/<W>` when it is partial."""
        name = f"{number % 1000:03}"
        while number := number // 1000:
            name = f"x{number % 1000:03}/{name}"
        return self._path / "tile" / level / (name if width == _WIDTH else f"{name}.p/{width}")

    def _publish(self, size: int) -> None:
        """Write the missing tiles of the first `size` leaves: of the leaves, then of each level of hashes."""
        entries = [_entry(leaf) for leaf in self._leaves[:size]]
        hashes = self._hashes[:size]
        self._publish_level("entries", entries)
        level = 0
        while hashes:
            self._publish_level(str(level), hashes)
            full = len(hashes) - len(hashes) % _WIDTH
            hashes = [root(hashes[start : start + _WIDTH]) for start in range(0, full, _WIDTH)]
            level += 1

    def _publish_level(self, level: str, items: list[bytes]) -> None:
        for start in range(0, len(items), _WIDTH):
            tile = items[start : start + _WIDTH]
            path = self._tile(level, start // _WIDTH, len(tile))
            if not path.exists():
                _write(path, b"".join(tile))

    def _load(self) -> None:
        for leaf in self._all():
            self._keep(leaf, leaf_hash(leaf))
        if len(self._index) != len(self._leaves):
            raise NotAuthentic(f"the log {self._path} holds a leaf twice")
        for data in self.checkpoints():
            self._checkpoint_size = self._check(data).size
        self._copy_latest()

    def _all(self) -> list[bytes]:
        """Return the leaves of all files, of which the last alone may be unfinished."""
        leaves: list[bytes] = []
        number = 0
        while more := self._entries(number):
            if len(leaves) < number * _WIDTH:
                raise NotAuthentic(f"the log {self._path} holds leaves after an unfinished file")
            leaves += more
            number += 1
        return leaves

    def _copy_latest(self) -> None:
        """Bring the copy of the latest checkpoint up to date, if a crash came between the two."""
        latest, copy = self.checkpoint(), self._path / "checkpoint"
        if latest is not None and not (copy.exists() and _read(copy) == latest):
            _write(copy, latest)

    def _entries(self, number: int) -> list[bytes]:
        """Return the leaves in the widest file of this number; none when there is no file."""
        partial = self._tile("entries", number, 0).parent
        widths = [int(file.name) for file in partial.glob("*") if file.name.isdecimal()]
        whole = self._tile("entries", number, _WIDTH)
        width = _WIDTH if whole.exists() else max(widths, default=0)
        if width == 0:
            return []
        data = _read(self._tile("entries", number, width))
        leaves = _split(data)
        if len(leaves) != width or b"".join(map(_entry, leaves)) != data:
            raise NotAuthentic(f"a file of leaves of the log {self._path} is damaged")
        return leaves

    def _check(self, data: bytes) -> note.Checkpoint:
        checkpoint, _ = note.decode(data)
        if checkpoint.origin != self._origin:
            raise NotAuthentic(f"a checkpoint in the log {self._path} is not of {self._origin}")
        if checkpoint.size > self.size or checkpoint.root != root(self._hashes[: checkpoint.size]):
            raise NotAuthentic(f"the leaves of the log {self._path} are not those of its checkpoint")
        return checkpoint


def _entry(leaf: bytes) -> bytes:
    return len(leaf).to_bytes(_LENGTH_BYTES) + leaf


def _split(bundle: bytes) -> list[bytes]:
    leaves, start = [], 0
    while start < len(bundle):
        end = start + _LENGTH_BYTES + int.from_bytes(bundle[start : start + _LENGTH_BYTES])
        leaves.append(bundle[start + _LENGTH_BYTES : end])
        start = end
    return leaves


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"the log's file {path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise NotAuthentic(f"the log's file {path} is larger than {_MAX_FILE_BYTES} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    """Replace the file, so that after any crash it is wholly the old one or wholly the new one."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise Unavailable(f"the log's file {path} cannot be written: {error.strerror}") from None
