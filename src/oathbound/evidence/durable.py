"""Files that outlive a power cut: once written they are there, whole, and until then the old ones are.

POSIX promises a file's bytes after its fsync, and its name after an fsync of the folder that lists it; a
rename replaces one name at once. Nothing more is relied on. Every function raises the `OSError` of the disk.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path


def replace_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put a file in its place, in a folder that is made if need be: a reader sees the old one or the new one.

    `mode` is less what the process' mask takes away. `BlockingIOError` while another process writes the file.
    """
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.new")
    with os.fdopen(_held(unfinished, mode), "wb") as file:
        try:
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
    synchronise(path.parent)


def make_folder(path: Path) -> None:
    """Make the folder and those above it, durably, as far as they are not there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _held(unfinished: Path, mode: int) -> int:
    """Open a file that no other process writes, made if need be: a killed writer may have left it."""
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), unfinished.stat()):
            # It was renamed between the two lines above: it is somebody's finished file now.
            raise BlockingIOError(errno.EAGAIN, "another process writes it")
        os.fchmod(descriptor, os.fstat(descriptor).st_mode & mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
