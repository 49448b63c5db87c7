"""One published file over https: resumed where it was cut, and in place only once its digest is right.

The digest alone decides what is authentic; nothing that a server says is believed. Proxies are those of the
environment (`https_proxy`, `no_proxy`); no credential is sent.
"""

import hashlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from oathbound import __version__
from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.data.recipes import Published
from oathbound.evidence.durable import synchronise

ATTEMPTS: Final = 5
"""How often a file is asked for, before the network is held to be down."""

_TIMEOUT: Final = 30
_LONGEST_PAUSE: Final = 60
_PIECE: Final = 1 << 16
_PARTIAL: Final = 206
_RANGE_WRONG: Final = 416
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOVED: Final = "has it moved, or been replaced by a newer version? see docs/guides/public-data.md"
_GO_ON: Final = "what has come is kept; the same command goes on from there"


class _Cut(Exception):
    """The server is busy or the connection broke; worth another try after `wait` seconds, if it says so."""

    def __init__(self, reason: str, wait: int = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class _HttpsAlone(HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - as it is overridden
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        fp.close()  # urllib would read all of an answer that may have no end
        if urlsplit(newurl).scheme != "https":
            raise Unavailable(f"{req.host} leads away from https, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # of a Location that is no address, before `redirect_request` is asked
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def https_alone(context: ssl.SSLContext | None = None) -> OpenerDirector:
    """Return an opener of https and nothing else, that trusts the system's authorities, or `context`."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPSHandler(context=context or ssl.create_default_context()),
        _HttpsAlone(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True, slots=True)
class Network:
    """How files are asked for, and how the time until the next try is passed."""

    opener: OpenerDirector = field(default_factory=https_alone)
    pause: Callable[[float], None] = time.sleep


def download(
    url: str, file: Published, target: Path, *, network: Network, advance: Callable[[int], None]
) -> bool:
    """Put the file at `target`; return False when it was there already, True when it was downloaded.

    `advance` is told how many of its bytes are here. Raises `NotAuthentic` when the server, or `target`, has
    something else than what was published, `Unavailable` when it cannot be had or written now; what has come
    then waits beside `target` for the next call.
    """
    if urlsplit(url).scheme != "https":
        raise WrongInput(f"{url} is not https", hint="nothing is downloaded in the clear")
    if target.exists():
        if _digest(target) != file.sha256:
            raise NotAuthentic(
                f"{target} is not the file that was published", hint="remove it, and try again"
            )
        advance(file.size)
        return False
    part = target.with_name(f".{target.name}.{file.sha256[:16]}.part")
    with _writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
    transfer = _Transfer(url, part, file.size, network, advance)
    transfer.complete()
    if resumed and _digest(part) != file.sha256:
        # A machine that lost power may keep a damaged part; only a whole one speaks for the server.
        _discard(part)
        transfer.complete()
    if _digest(part) != file.sha256:
        _discard(part)
        raise NotAuthentic(
            f"{url} is not the file that was published: its SHA-256 is another", hint="nothing of it was kept"
        )
    with _writing(target):
        part.replace(target)
        synchronise(target.parent)
    return True


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One file on its way into `part`, of which `size` bytes are expected."""

    url: str
    part: Path
    size: int
    network: Network
    advance: Callable[[int], None]

    def complete(self) -> None:
        """Receive what is missing, with pauses of 1, 2, 4 and 8 seconds, or those the server asks for."""
        reason = ""
        for attempt in range(ATTEMPTS):
            try:
                return self._receive()
            except _Cut as cut:
                reason = str(cut)
                if attempt + 1 < ATTEMPTS:
                    self.network.pause(min(cut.wait, _LONGEST_PAUSE) or 2**attempt)
        raise Unavailable(f"{self._host} was asked {ATTEMPTS} times: {reason}", hint=_GO_ON)

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def _receive(self) -> None:
        """Ask once for what is missing, and append it; a server that sends the whole begins it anew."""
        have = self.part.stat().st_size if self.part.exists() else 0
        if have == self.size:
            return
        if have > self.size:
            have = 0
        with self._asked(have) as response:
            if response.status != _PARTIAL:
                have = 0
            elif not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
                _discard(self.part)
                raise _Cut("it sent another range than was asked for")
            if response.length not in {None, self.size - have}:
                raise self._other("its size is another")
            have = self._append(response, have)
        if have > self.size:
            _discard(self.part)
            raise self._other("it is longer")
        if have < self.size:
            raise _Cut("the connection was cut")

    def _append(self, response: HTTPResponse, have: int) -> int:
        """Write what comes after the first `have` bytes, at most one byte too many; return what is there."""
        with _writing(self.part), self.part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while piece := _read(response, min(_PIECE, self.size + 1 - have)):
                file.write(piece)
                have += len(piece)
                self.advance(min(have, self.size))
            file.flush()
            os.fsync(file.fileno())
        return have

    def _asked(self, have: int) -> HTTPResponse:
        """Return the server's answer; `_Cut` where another try may help, `Unavailable` where none would."""
        headers = {"User-Agent": f"oathbound/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            response: HTTPResponse = self.network.opener.open(
                Request(self.url, headers=headers),  # noqa: S310 - `download` took https alone
                timeout=_TIMEOUT,
            )
        except HTTPError as error:
            error.close()
            raise self._answered(error, have) from None
        except URLError as error:
            raise self._unreached(error.reason) from None
        except (OSError, HTTPException) as error:
            raise _Cut(str(error) or type(error).__name__) from None
        except ValueError:  # of urllib, or of the codec of names, for what is no address
            raise Unavailable(f"{self._host} leads to what is no address", hint=_MOVED) from None
        return response

    def _answered(self, error: HTTPError, have: int) -> Exception:
        if error.code == _RANGE_WRONG and have:
            _discard(self.part)
            return _Cut("it has less than came before")
        if error.code in _BUSY:
            wait = error.headers["Retry-After"] or ""
            return _Cut(f"{error.code} {error.reason}", int(wait[:9]) if wait.isdecimal() else 0)
        return Unavailable(f"{self.url}: {error.code} {error.reason}", hint=_MOVED)

    def _unreached(self, reason: object) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Unavailable(
                f"the certificate of {self._host} is not trusted here: {reason.verify_message}",
                hint="behind a proxy that opens TLS, SSL_CERT_FILE names the certificates to trust",
            )
        if isinstance(reason, socket.gaierror):
            return Unavailable(
                f"{self._host} cannot be found: no network?", hint="behind a proxy, https_proxy names it"
            )
        return _Cut(str(reason))

    def _other(self, fault: str) -> NotAuthentic:
        return NotAuthentic(f"{self.url} is not the file that was published: {fault}", hint=_MOVED)


def _read(response: HTTPResponse, most: int) -> bytes:
    try:
        return response.read1(most)
    except (OSError, HTTPException) as error:
        raise _Cut(str(error) or type(error).__name__) from None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror}") from None


def _discard(part: Path) -> None:
    with _writing(part):
        part.unlink(missing_ok=True)  # a range may come that nobody asked for


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{path.parent} cannot be written: {error.strerror}", hint=f"is the disk full? {_GO_ON}"
        ) from None
