"""JSON questions to one server over https, many at a time: paced, tried again, and bounded in every way.

Nothing that a server says is printed: an answer may repeat a prompt, and a prompt is a record.
"""

import asyncio
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, Final, Self

import httpx

from oathbound import __version__
from oathbound.core.errors import Unavailable, WrongInput

KEY_VARIABLE: Final = "OATHBOUND_ENDPOINT_KEY"
"""The environment variable that holds the endpoint's key; it is sent, and nothing else is done with it."""

MOST_BYTES: Final = 64 * 1024 * 1024

_OK: Final = 200
_BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_DENIED: Final = frozenset({401, 403})
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_RESUMES: Final = "what was answered is kept; the same command goes on from there"
_GUIDE: Final = "docs/guides/audit-endpoint.md says what an endpoint must understand"


@dataclass(frozen=True, slots=True)
class Limits:
    """How an endpoint is treated. Times are in seconds; None is without limit.

    `timeout` bounds one try of a request, from the connection to the last byte; `patience` all tries of one
    request and the pauses between them, but not the wait for its turn.
    """

    concurrency: int = 8
    requests_per_second: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 60.0
    patience: float = 300.0


@dataclass(frozen=True, slots=True)
class Question:
    """A JSON body, and how many tokens it asks the model to read and write."""

    body: bytes
    tokens: int


class Pace:
    """A token bucket of `rate` a second that holds one `burst`, as a schedule (GCRA)."""

    def __init__(self, rate: float, *, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._due = -float("inf")

    def wait(self, amount: float, now: float) -> float:
        """Take `amount`, and return the seconds until it is there, also of more than the bucket holds."""
        self._due = max(self._due, now - self._burst / self._rate) + amount / self._rate
        return max(self._due - now, 0.0)


class _Again(Exception):
    """The server could not answer now; worth another try, after `wait` seconds if it says so."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Connection:
    """One server. A thread of its own runs the event loop, so that callers may have one, too (notebooks).

    `WrongInput` for an address that is no http(s), has a user, a query or a fragment, or is neither https nor
    this machine; `allow_http` lets records cross a network in the clear.
    """

    def __init__(self, url: str, limits: Limits, *, allow_http: bool = False) -> None:
        self.url, self._host, here = _checked(url, allow_http=allow_http)
        headers = {
            "Accept-Encoding": "identity",  # so that what is counted is what is held
            "Content-Type": "application/json",
            "User-Agent": f"oathbound/{__version__}",
        }
        if key := os.environ.get(KEY_VARIABLE, ""):
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise WrongInput(f"{KEY_VARIABLE} holds a character that no key has", hint="set it again")
            headers["Authorization"] = f"Bearer {key}"
        self._limits = limits
        self._paces = [
            (pace, of_tokens)
            for pace, of_tokens in (
                (_pace(limits.requests_per_second, 1.0), False),
                (_pace(limits.tokens_per_minute, 60.0), True),
            )
            if pace is not None
        ]
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=limits.timeout,
            follow_redirects=False,
            trust_env=not here,  # a proxy is for what is elsewhere
            limits=httpx.Limits(
                max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._closed(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, questions: Sequence[Question], took: Callable[[int, Any], None]) -> None:
        """Ask all, and give each answer with its place to `took`, as they come, one at a time.

        Raises what `took` raises; `Unavailable` where a question has no answer within the patience;
        `WrongInput` for a server that answers otherwise than in JSON, or not to us. The rest is then not
        asked any more.
        """
        asked = asyncio.run_coroutine_threadsafe(self._all(questions, took), self._loop)
        try:
            asked.result()
        except ExceptionGroup as group:  # what a task group makes of its tasks' errors; one is raised on
            raise _first(group) from None
        finally:
            asked.cancel()  # where somebody pressed Ctrl-C

    async def _closed(self) -> None:
        """End what somebody's Ctrl-C left under way, and every connection."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.aclose()

    async def _all(self, questions: Sequence[Question], took: Callable[[int, Any], None]) -> None:
        waiting = iter(enumerate(questions))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._limits.concurrency, len(questions))):
                group.create_task(self._work(waiting, took))

    async def _work(self, waiting: Iterator[tuple[int, Question]], took: Callable[[int, Any], None]) -> None:
        for place, question in waiting:
            took(place, await self._answer(question))

    async def _answer(self, question: Question) -> Any:
        """Return the answer to one question, of as many tries as the patience allows."""
        left = self._limits.patience
        ceiling = _FIRST_PAUSE
        while True:
            await self._turn(question)
            began = time.monotonic()
            try:
                async with asyncio.timeout(min(self._limits.timeout, left)):
                    return await self._try(question)
            except _Again as error:
                reason, wait = str(error), error.wait
            except TimeoutError:
                reason, wait = "takes too long to answer", 0.0
            except httpx.TransportError as error:
                if _untrusted(error):
                    raise WrongInput(
                        f"the certificate of {self._host} is not trusted",
                        hint="set SSL_CERT_FILE to your authority's, if it is yours",
                    ) from None
                reason, wait = "cannot be reached", 0.0
            # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            wait = max(wait, random.uniform(0, ceiling))  # noqa: S311 - it only spreads the tries
            left -= time.monotonic() - began + wait
            if left <= 0:
                raise Unavailable(f"the endpoint {self._host} {reason}", hint=_RESUMES)
            await asyncio.sleep(wait)
            ceiling = min(2 * ceiling, _LONGEST_PAUSE)

    async def _turn(self, question: Question) -> None:
        now = time.monotonic()
        waits = [pace.wait(question.tokens if of_tokens else 1, now) for pace, of_tokens in self._paces]
        if waits and max(waits) > 0:
            await asyncio.sleep(max(waits))

    async def _try(self, question: Question) -> Any:
        async with self._client.stream("POST", self.url, content=question.body) as response:
            self._refuse_status(response)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise WrongInput(f"the endpoint {self._host} compresses its answers", hint=_GUIDE)
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > MOST_BYTES:
                    raise WrongInput(f"the endpoint {self._host} answers more than {MOST_BYTES} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise WrongInput(f"the endpoint {self._host} does not answer in JSON", hint=_GUIDE) from None

    def _refuse_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == _OK:
            return
        if status in _BUSY:
            raise _Again(f"answers with HTTP {status}", _retry_after(response.headers.get("retry-after")))
        if response.is_redirect:
            raise WrongInput(
                f"the endpoint {self._host} leads elsewhere, and records do not follow",
                hint="give the address that it leads to, if you trust it",
            )
        if status in _DENIED:
            raise WrongInput(
                f"the endpoint {self._host} denies access (HTTP {status})",
                hint=f"its key goes into the environment variable {KEY_VARIABLE}",
            )
        raise WrongInput(f"the endpoint {self._host} refuses a request (HTTP {status})", hint=_GUIDE)


def _pace(rate: float | None, seconds: float) -> Pace | None:
    """Return a bucket that refills in `seconds`; of a second's requests, one goes at a time."""
    if rate is None:
        return None
    return Pace(rate / seconds, burst=rate if seconds > 1 else 1.0)


def _checked(url: str, *, allow_http: bool) -> tuple[str, str, bool]:
    """Return the address to post to, its host, and whether that is this machine."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise WrongInput("the endpoint's address is not http(s)", hint="such as https://host/v1")
    if parts.userinfo or parts.query or parts.fragment:
        raise WrongInput(
            "the endpoint's address holds a user or a query, which may be a secret",
            hint=f"a key goes into the environment variable {KEY_VARIABLE}",
        )
    here = _is_loopback(parts.host)
    if parts.scheme == "http" and not (here or allow_http):
        raise WrongInput(f"records do not go to {parts.host} in the clear", hint="use https")
    return f"{str(parts).rstrip('/')}/completions", parts.host, here


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), which may be a date; 0 for nonsense."""
    if header is None:
        return 0.0
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max((date.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
