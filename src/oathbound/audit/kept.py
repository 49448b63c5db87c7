"""What a model has answered, kept until the audit ends: after a kill nothing is asked, or computed, twice.

Two files in a folder, both 0600: a run key, and one line an answer. A line names its request by an HMAC
under the run key, so that who finds the lines alone cannot guess which records were asked about; no prompt is
in it. A second HMAC covers the line: one that is torn or damaged counts as not there, and is asked again.

When an audit ends, both files go, the key first.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import IO, Final, Self

from oathbound.core.errors import Unavailable

KEY: Final = ".audit-key"
ANSWERS: Final = ".audit-answers"

_KEY_BYTES: Final = 32
_MAC: Final = 64
"""Hexadecimal digits of an HMAC-SHA-256."""

Numbers = list[list[float]]
"""What is kept of an answer; a reader of answers decides what the rows are."""


class Answers:
    """The answers of one audit. `Unavailable` where the folder cannot be written, or is another audit's."""

    def __init__(self, folder: Path) -> None:
        self._paths = folder / KEY, folder / ANSWERS
        self._asked: Counter[bytes] = Counter()
        try:
            self._file = _private(folder / ANSWERS)
        except OSError as error:
            raise Unavailable(
                f"answers cannot be kept in {folder}: {error.strerror}", hint="give -o in a folder of yours"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._key, fresh = _run_key(folder / KEY)
        except OSError as error:
            self._file.close()
            raise Unavailable(
                f"the answers in {folder} are not to be had: {error.strerror}",
                hint="does another audit run there?",
            ) from None
        self._places = {} if fresh else self._whole_lines()
        if fresh:
            self._file.truncate(0)  # of a key that is gone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._places:  # an audit that was refused before it asked leaves nothing
            self.forget()
        self._file.close()

    def name(self, request: bytes) -> bytes:
        """Return the name of a request, another each time it is asked: who asks twice wants two answers.

        A run that begins again asks in the same order, and so finds each.
        """
        self._asked[request] += 1
        return self._mac(b"request", self._asked[request].to_bytes(8), request)

    def find(self, name: bytes) -> Numbers | None:
        """Return what was answered, if it was."""
        place = self._places.get(name)
        if place is None:
            return None
        self._file.seek(place)
        line = self._file.readline()
        if not self._is_whole(line):
            return None
        answer: Numbers = json.loads(line[_MAC + 1 : -_MAC - 2])
        return answer

    def keep(self, name: bytes, answer: Numbers) -> None:
        """Append an answer; `Unavailable` where the disk is full."""
        said = json.dumps(answer, separators=(",", ":")).encode()
        line = b"%b %b %b\n" % (name, said, self._mac(b"line", name, said))
        try:
            self._places[name] = self._file.seek(0, os.SEEK_END)
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise Unavailable(f"answers cannot be kept: {error.strerror}", hint="make room") from None

    def forget(self) -> None:
        """Remove the key and the answers: the audit has ended."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _whole_lines(self) -> dict[bytes, int]:
        """Return where the answers stand, and cut off what a kill left of the last."""
        places, place = {}, 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(place)
                break
            if self._is_whole(line):
                places[line[:_MAC]] = place
            place += len(line)
        return places

    def _is_whole(self, line: bytes) -> bool:
        name, said, mac = line[:_MAC], line[_MAC + 1 : -_MAC - 2], line[-_MAC - 1 : -1]
        return len(line) > 2 * _MAC + 2 and hmac.compare_digest(mac, self._mac(b"line", name, said))

    def _mac(self, *parts: bytes) -> bytes:
        mac = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8) + part)
        return mac.hexdigest().encode()


def _run_key(path: Path) -> tuple[bytes, bool]:
    """Return the key of a run that was killed, or a new one, and whether it is new."""
    with _private(path) as file:
        key = file.read(_KEY_BYTES)
        if len(key) == _KEY_BYTES:
            return key, False
        key = secrets.token_bytes(_KEY_BYTES)
        file.truncate(0)
        file.seek(0)
        file.write(key)
        return key, True


def _private(path: Path) -> IO[bytes]:
    """Open a file to read and write, made if need be, that nobody else may read and no link leads to."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+b")
