"""What a model has answered, kept until the audit ends: after a kill nothing is asked, or computed, twice.

Two files in a folder, both 0600: a run key, and one line an answer. A line names its request by an HMAC
under the run key, and holds the answer encrypted under it (ChaCha20-Poly1305, RFC 8439, a random nonce a
line, the name as associated data): an answer is what a model said of a patient, and whoever has the model and
a guess at the record would know it again. A line that is torn or damaged counts as not there, and is asked
again.

When an audit ends, both files go, the key first: what a disk may still hold of the lines then says nothing.
"""

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import IO, Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from oathbound.core.errors import Halted, Unavailable

KEY: Final = ".audit-key"
ANSWERS: Final = ".audit-answers"

_KEY_BYTES: Final = 32
_MAC: Final = 64
"""Hexadecimal digits of an HMAC-SHA-256."""

_NONCE: Final = 12

Numbers = list[list[float]]
"""What is kept of an answer; a reader of answers decides what the rows are."""


class OnAnswer(Protocol):
    """Is told of every answer."""

    def __call__(self, *, again: bool) -> None:
        """Take note; `again` where an earlier run had kept it."""
        ...


def untold(*, again: bool) -> None:
    """Tell nobody."""


class Answers:
    """The answers of one audit, which `label` tells from others in the folder; `on_answer` is told of each.

    `Unavailable` where the folder cannot be written, or the same audit is at work in it already.
    """

    def __init__(self, folder: Path, label: str = "", *, on_answer: OnAnswer = untold) -> None:
        self._on_answer = on_answer
        ending = f"-{label}" if label else ""
        self._paths = folder / f"{KEY}{ending}", folder / f"{ANSWERS}{ending}"
        self._asked: Counter[bytes] = Counter()
        try:
            self._file = _private(self._paths[1])
        except OSError as error:
            raise _not_kept(folder, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            key, fresh = run_key(self._paths[0])
        except OSError as error:
            self._file.close()
            raise _not_kept(folder, error) from None
        self._names, sealed = (hmac.digest(key, use, "sha256") for use in (b"names", b"answers"))
        self._seal = ChaCha20Poly1305(sealed)
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
        found = self._opened(self._file.readline())
        if found is not None:
            self._on_answer(again=True)
        return found

    def keep(self, name: bytes, answer: Numbers) -> None:
        """Append an answer; `Halted` where the disk is full."""
        nonce = secrets.token_bytes(_NONCE)
        said = json.dumps(answer, separators=(",", ":")).encode()
        sealed = base64.b64encode(nonce + self._seal.encrypt(nonce, said, name))
        try:
            self._places[name] = self._file.seek(0, os.SEEK_END)
            self._file.write(b"%b %b\n" % (name, sealed))
            self._file.flush()
        except OSError as error:
            raise Halted(
                f"answers cannot be kept: {error.strerror}",
                hint="make room, and run the same command again: nothing that was done is lost",
            ) from None
        self._on_answer(again=False)

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
            if self._opened(line) is not None:
                places[line[:_MAC]] = place
            place += len(line)
        return places

    def _opened(self, line: bytes) -> Numbers | None:
        """Return the answer in a line; none where it is damaged, or another run's."""
        name, _, sealed = line.rstrip(b"\n").partition(b" ")
        try:
            data = base64.b64decode(sealed, validate=True)
            answer: Numbers = json.loads(self._seal.decrypt(data[:_NONCE], data[_NONCE:], name))
        except (InvalidTag, binascii.Error, ValueError):
            return None
        return answer

    def _mac(self, *parts: bytes) -> bytes:
        mac = hmac.new(self._names, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8) + part)
        return mac.hexdigest().encode()


def _not_kept(folder: Path, error: OSError) -> Unavailable:
    if error.errno == errno.EWOULDBLOCK:
        return Unavailable(
            f"the same audit is at work in {folder} already", hint="wait for it, or write to another file"
        )
    return Unavailable(
        f"answers cannot be kept in {folder}: {error.strerror}",
        hint="give -o in a folder of yours, with room",
    )


def run_key(path: Path) -> tuple[bytes, bool]:
    """Return the key in a file that only its owner may read, or a new one, and whether it is new."""
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
    if os.fstat(descriptor).st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "a link leads to another file")
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+b")
