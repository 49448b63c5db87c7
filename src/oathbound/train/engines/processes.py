"""Sites in processes of their own on this machine, reached through pipes that nobody else holds.

A frame is a length (8 bytes, little-endian) and so many bytes. A message goes down as a frame, its answer
(`answers`) comes back as one. A process ends when its pipe does: when its coordinator ends, however it ends.
"""

import subprocess
from collections.abc import Callable, Sequence
from typing import IO, Final

from oathbound.core.errors import Unavailable
from oathbound.train.engines.answers import answered, opened

_LENGTH: Final = 8
MOST_BYTES: Final = 3 * 1024**3 // 2
"""Of a frame. A message of a step carries one vector of the weights; a snapshot, of at most 4 GiB, three."""


class Process:
    """One site's process: a `Peer`. `start` it, or let a message do so: the first one after it died does."""

    def __init__(self, site: str, command: Sequence[str]) -> None:
        self._site = site
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of the process that runs, or 0."""
        return self._process.pid if self._process else 0

    def receive(self, message: bytes) -> bytes:
        """Return the site's answer.

        Raises what the site raises, and `Unavailable` where the process has died or cannot be started; the
        next message starts another, which knows what the site's folder holds and nothing else.
        """
        process = self._process or self.start()
        try:
            answer = _asked(process, message)
        except BaseException:
            # also an interruption: an answer that is still to come would be taken for that to another message
            self.close()
            raise
        if answer is None:
            self.close()
            raise Unavailable(f"the process of {self._site} has ended", hint="its messages are above")
        return opened(answer, self._site)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, which answers when it is ready; `Unavailable` where it cannot be started."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the caller's, and no shell reads it
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise Unavailable(f"no process for {self._site} can be started: {error.strerror}") from None
        return self._process


def serve(receive: Callable[[bytes], bytes], messages: IO[bytes], answers: IO[bytes]) -> None:
    """Answer every message, in the site's process, until there are no more."""
    while (message := _read(messages)) is not None:
        _write(answers, answered(receive, message))


def _asked(process: subprocess.Popen[bytes], message: bytes) -> bytes | None:
    """Return the answer's frame, None if the process has ended."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        _write(process.stdin, message)
        return _read(process.stdout)
    except OSError:
        return None


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(_LENGTH, "little"))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """Return the next frame; None at the end, or where it is cut short or too long."""
    head = pipe.read(_LENGTH)
    size = int.from_bytes(head, "little")
    if len(head) < _LENGTH or size > MOST_BYTES:
        return None
    data = pipe.read(size)
    return data if len(data) == size else None


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:
        return  # what was not written has nobody to read it
