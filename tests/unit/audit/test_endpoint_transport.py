"""What happens between an audit and a server: pauses, limits, deaths, keys, certificates."""

import asyncio
import datetime as dt
import gc
import json
import os
import signal
import ssl
import threading
import time
from ipaddress import ip_address
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("httpx", reason="endpoints need httpx")

from endpoint_server import MAP, asked, people, serving, settings

from oathbound.audit.adapters.endpoint import open_endpoint
from oathbound.audit.adapters.endpoint_http import KEY_VARIABLE
from oathbound.audit.kept import ANSWERS, KEY
from oathbound.core.errors import OathboundError, Unavailable, WrongInput

SECRET = "sk-never-to-be-seen"  # noqa: S105 - nobody's


def test_busy_servers_are_asked_again_when_they_say(tmp_path):
    began = time.monotonic()

    def fault(_, number, __):
        return {1: (429, b"", [("Retry-After", "1")]), 2: (500, b"?"), 3: (503, b"")}.get(number)

    with serving(fault=fault) as model:
        scores = asked(model, tmp_path, settings(patience=30, concurrency=1))
        assert len(model.seen) == len(people()) + 3
    assert time.monotonic() - began >= 1
    with serving() as model:
        assert np.array_equal(scores, asked(model, tmp_path))


def test_a_server_that_asks_for_too_long_a_pause_is_given_up_at_once(tmp_path):
    began = time.monotonic()
    busy = (429, b"", [("Retry-After", "3600")])
    with serving(lambda *_: busy) as model, pytest.raises(Unavailable, match=r"127\.0\.0\.1 .* HTTP 429"):
        asked(model, tmp_path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html>"), "not answer in JSON"),
        ((200, b"[" * 100_000), "not answer in JSON"),
        ((200, b"\xff\xfe"), "not answer in JSON"),
        ((302, b"", [("Location", "http://127.0.0.1:9/")]), "leads elsewhere"),
        ((401, b"bad key " + SECRET.encode()), "denies access"),
        ((404, b""), "refuses a request .HTTP 404"),
        ((200, b"", [("Content-Encoding", "gzip")]), "compresses"),
    ],
)
def test_other_answers_end_the_audit_and_the_key_is_never_printed(tmp_path, monkeypatch, answer, said):
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with serving(lambda *_: answer) as model, pytest.raises(WrongInput, match=said) as refused:
        asked(model, tmp_path)
    assert model.seen[0][0] == f"Bearer {SECRET}"
    assert SECRET not in f"{refused.value} {refused.value.hint}"
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_an_answer_without_end_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("oathbound.audit.adapters.endpoint_http.MOST_BYTES", 100_000)
    sent = []

    def fault(handler, *_):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10 * 2**30))
        handler.end_headers()
        for _ in range(2000):  # of ten gigabytes
            handler.wfile.write(b" " * 10_000)
            sent.append(1)

    with serving(fault) as model, pytest.raises(WrongInput, match="more than 100000 bytes"):
        asked(model, tmp_path, settings(concurrency=1))
    assert len(sent) < 2000


@pytest.mark.parametrize("trickle", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_server_that_trickles_is_not_waited_for(tmp_path, trickle):
    stop = threading.Event()

    def fault(handler, *_):
        handler.wfile.write(trickle)
        while not stop.wait(0.05):
            handler.wfile.write(b"1")
        raise ConnectionError

    began = time.monotonic()
    with serving(fault) as model:
        with pytest.raises(Unavailable, match="takes too long"):
            asked(model, tmp_path, settings(timeout=1, patience=1))
        stop.set()
    assert time.monotonic() - began < 3


def test_what_was_answered_before_the_server_died_is_not_asked_again(tmp_path):
    with serving() as whole:
        expected = asked(whole, tmp_path)
    dead = threading.Event()

    def fault(handler, number, _):
        if number > 6 and not dead.is_set():
            handler.connection.close()
            raise ConnectionError

    with serving(fault) as model:
        with pytest.raises(Unavailable, match="cannot be reached"):
            asked(model, tmp_path, settings(concurrency=1, patience=1))
        names = {path.name: oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()}
        assert sorted(names.items()) == [(ANSWERS, "600"), (KEY, "600")]
        kept = (tmp_path / ANSWERS).read_bytes()
        assert kept.count(b"\n") == 6
        assert not any(json.dumps(body["prompt"]).encode() in kept for _, body in model.seen)
        (tmp_path / ANSWERS).write_bytes(kept[:-5])  # a kill tore the last line
        dead.set()
        before = len(model.seen)
        assert np.array_equal(asked(model, tmp_path), expected)
        assert len(model.seen) - before == len(people()) - 5
    assert not list(tmp_path.iterdir())


def test_a_test_that_takes_the_failure_for_its_own_does_not_end_the_audit(tmp_path):
    def audit(model):
        with open_endpoint(model.url, "m", MAP, settings(patience=1), keep=tmp_path) as (target, _):
            for _ in range(2):  # the second time at once
                with pytest.raises(OathboundError):
                    target.token_logprobs([(1, 5)])

    with serving(lambda _, number, __: (500, b"") if number > 1 else None) as model:
        with open_endpoint(model.url, "m", MAP, settings(), keep=tmp_path) as (target, _):
            target.token_logprobs([(1, 6)])
        with pytest.raises(Unavailable, match="HTTP 500"):
            audit(model)
    assert not (tmp_path / KEY).exists()  # there was nothing to keep


def test_two_audits_do_not_share_their_answers(tmp_path):
    with (
        serving() as model,
        open_endpoint(model.url, "m", MAP, settings(), keep=tmp_path),
        pytest.raises(Unavailable, match="the same audit is at work"),
    ):
        asked(model, tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/v1", "not http"),
        ("https://", "not http"),
        ("http://records.example/v1", "in the clear"),
        (f"https://{SECRET}@host/v1", "may be a secret"),
        (f"https://host/v1?key={SECRET}", "may be a secret"),
    ],
)
def test_addresses_that_are_refused(tmp_path, url, said):
    with pytest.raises(WrongInput, match=said) as refused:
        asked(SimpleNamespace(url=url), tmp_path)
    assert SECRET not in str(refused.value)


def test_a_key_that_would_break_a_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, KEY_VARIABLE, f"{SECRET}\r\nX: 1")
    with pytest.raises(WrongInput, match=KEY_VARIABLE) as refused:
        asked(SimpleNamespace(url="https://host/v1"), tmp_path)
    assert SECRET not in str(refused.value)


@pytest.fixture
def interruptible():
    """Where a shell runs the suite in its background, the key is ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_key_pressed_to_stop_stops_and_keeps(tmp_path):
    main = threading.main_thread().ident

    def fault(_, number, __):
        if number == 5:
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.2)

    with serving(fault) as model:
        with pytest.raises(KeyboardInterrupt):
            asked(model, tmp_path, settings(concurrency=1))
        kept = (tmp_path / ANSWERS).read_bytes().count(b"\n")
        assert kept >= 4, "what was answered before"
        asked(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_caller_may_have_an_event_loop_of_its_own(tmp_path):
    async def notebook(model):
        return asked(model, tmp_path)

    with serving() as model:
        assert asyncio.run(notebook(model)).shape[0] == len(people())


def test_the_rate_is_kept(tmp_path):
    began = time.monotonic()
    with serving() as model:
        asked(model, tmp_path, settings(requests_per_second="20"))
    assert time.monotonic() - began >= (len(people()) - 1) / 20


# asyncio leaves the transport of a refused handshake to the garbage collector, with a warning
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_of_nobody_is_not_trusted(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    none = serialization.NoEncryption()
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving(tls=context) as model, pytest.raises(WrongInput, match="is not trusted"):
        asked(model, tmp_path)
    assert not model.seen
    gc.collect()
