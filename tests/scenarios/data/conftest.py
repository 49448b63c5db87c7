"""A server on this machine that speaks TLS, and fails as it is told to."""

import hashlib
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from oathbound.core.claims import Verdict
from oathbound.data.recipes import Published
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified, verify
from oathbound.workflow.download import Network, https_alone
from oathbound.workflow.watch import Watch, unwatched

if TYPE_CHECKING:
    from oathbound.workflow.demo import Stage

type_of_answer = Callable[["Ask"], None]


class Ask(BaseHTTPRequestHandler):
    """One request. The server's script answers it, or the default does: the file, and ranges of it."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, self.headers["Range"]))
        self.server.seen.append(dict(self.headers))
        answer = self.server.script.pop(0) if self.server.script else Ask.whole
        answer(self)

    def whole(self, body: bytes | None = None, *, ranges: bool = True, cut: int | None = None) -> None:
        """Send the file, or what a range asks of it; the connection breaks after `cut` bytes."""
        data = self.server.files.get(self.path) if body is None else body
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers["Range"]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
        if start >= len(data) > 0:
            self.send_error(416)
            return
        self.send_response(206 if wanted and ranges else 200)
        if wanted and ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : len(data) if cut is None else start + cut])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """`script` holds what is done with the next requests; `asked` has path and range of each so far."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Ask)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.files: dict[str, bytes] = {}
        self.script: list[type_of_answer] = []
        self.asked: list[tuple[str, str | None]] = []
        self.seen: list[dict[str, str]] = []

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has gone."""

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}/"

    def publish(self, path: str, data: bytes) -> Published:
        self.files["/" + path] = data
        return Published(path, len(data), hashlib.sha256(data).hexdigest())


@dataclass
class Paused:
    """A network whose pauses are only written down."""

    context: ssl.SSLContext
    pauses: list[float] = field(default_factory=list)

    def network(self) -> Network:
        return Network(https_alone(self.context), self.pauses.append)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    running = Server(context)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.fixture
def paused(certificate: Path) -> Paused:
    return Paused(ssl.create_default_context(cafile=certificate))


NOW = 1_800_000_000


@pytest.fixture
def silent() -> Callable[[str], AbstractContextManager[Watch]]:
    """A progress bar that shows nothing."""

    @contextmanager
    def bar(_title: str) -> Iterator[Watch]:
        yield unwatched

    return bar


@pytest.fixture
def demonstrated(
    tmp_path: Path, silent: Callable[[str], AbstractContextManager[Watch]]
) -> Callable[[str], tuple[Path, list["Stage"], Verified, Verified]]:
    """Return a function that runs the demo of a cohort, in which a model that memorises is refused."""

    def run(cohort: str) -> tuple[Path, list["Stage"], Verified, Verified]:
        from oathbound.workflow.demo import demo  # noqa: PLC0415 - training is an extra

        folder = tmp_path / "demo"
        stages = list(demo(folder, cohort, now=NOW, bar=silent))
        trust = Trust.load(folder / "trust.toml")
        plain, private = (
            verify((folder / f"{name}.oath").read_bytes(), trust, at=NOW) for name in ("plain", "private")
        )
        assert plain.judgement.verdict is Verdict.FAIL
        assert private.judgement.verdict in {Verdict.PASS, Verdict.INCONCLUSIVE}
        assert private.epsilon is not None
        assert private.epsilon <= 3
        return folder, stages, plain, private

    return run
