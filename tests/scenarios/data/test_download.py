"""A file comes whole and right, or not at all, whatever the server, the network and the disk do."""

import errno
import os
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from oathbound.core.errors import NotAuthentic, OathboundError, Unavailable, WrongInput
from oathbound.core.exits import Exit
from oathbound.data.recipes import Published
from oathbound.workflow.download import ATTEMPTS, Network, download, https_alone

DATA = random.Random(1).randbytes(300_000)


@pytest.fixture
def get(server, paused, tmp_path: Path) -> Callable[..., bool]:
    """Download the file `DATA` to `tmp_path / "to" / "a.bin"`, checked against `file` if given."""
    published = server.publish("a/a.bin", DATA)

    def call(
        file: Published = published, url: str = "", told: Callable[[int], None] = lambda _: None
    ) -> bool:
        return download(
            url or server.address + file.path,
            file,
            tmp_path / "to" / "a.bin",
            network=paused.network(),
            advance=told,
        )

    call.published = published
    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def refusal(call: Callable[[], object]) -> OathboundError:
    with pytest.raises(OathboundError) as caught:
        call()
    assert caught.value.message
    return caught.value


def test_whole_and_the_second_time_nothing(get, server, paused, tmp_path: Path):
    told: list[int] = []
    assert get(told=told.append) is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA
    assert told == sorted(told)
    assert told[-1] == len(DATA)
    assert names(tmp_path) == ["a.bin"]
    assert get() is False
    assert server.asked == [("/a/a.bin", None)]
    assert paused.pauses == []


def test_no_credential_is_sent(get, server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    get()
    assert not {"authorization", "cookie"} & {name.lower() for name in server.seen[0]}


def test_cut_in_the_middle_goes_on(get, server, paused, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=100_000), lambda ask: ask.whole(cut=50_000)]
    assert get() is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert paused.pauses == [1, 2]


def test_cut_too_often_is_unavailable_and_goes_on_later(get, server, paused, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=1000)] * ATTEMPTS
    error = refusal(get)
    assert error.exit is Exit.UNAVAILABLE
    assert "goes on" in error.hint
    assert paused.pauses == [1, 2, 4, 8]
    assert not (tmp_path / "to" / "a.bin").exists()
    assert get() is True
    assert server.asked[-1] == ("/a/a.bin", f"bytes={1000 * ATTEMPTS}-")
    assert names(tmp_path) == ["a.bin"]


def test_a_server_that_ignores_ranges_begins_anew(get, server, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=100_000), lambda ask: ask.whole(ranges=False)]
    assert get() is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA


def test_a_server_that_sends_another_range_is_not_believed(get, server, tmp_path: Path):
    def other_range(ask) -> None:
        ask.send_response(206)
        ask.send_header("Content-Range", f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
        ask.send_header("Content-Length", str(len(DATA)))
        ask.end_headers()
        ask.wfile.write(DATA)

    server.script = [lambda ask: ask.whole(cut=100_000), other_range]
    assert get() is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA
    assert server.asked[-1] == ("/a/a.bin", None)


def test_a_range_that_nobody_asked_for_is_not_believed(get, server, paused, tmp_path: Path):
    def ranged(ask) -> None:
        ask.send_response(206)
        ask.send_header("Content-Range", f"bytes 5-9/{len(DATA)}")
        ask.send_header("Content-Length", "5")
        ask.end_headers()

    server.script = [ranged]
    assert get() is True
    assert paused.pauses == [1]
    (tmp_path / "to" / "a.bin").unlink()
    server.script = [ranged] * ATTEMPTS
    assert "another range" in refusal(get).message


def test_a_damaged_part_is_fetched_anew_once(get, server, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=1000)] * ATTEMPTS
    refusal(get)
    (part,) = (tmp_path / "to").iterdir()
    part.write_bytes(bytes(len(part.read_bytes())))
    assert get() is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize("length", [len(DATA) + 1, len(DATA)])
def test_a_part_that_is_long_enough_is_not_believed(get, tmp_path: Path, length: int):
    place = tmp_path / "to" / f".a.bin.{get.published.sha256[:16]}.part"
    place.parent.mkdir()
    place.write_bytes(bytes(length))
    assert get() is True
    assert names(tmp_path) == ["a.bin"]
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA


def test_a_server_that_has_less_than_came_before_begins_anew(get, server, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=100_000), lambda ask: ask.send_error(416)]
    assert get() is True
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", None]
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_busy_then_fine(get, server, paused, code: int):
    server.script = [lambda ask: ask.send_error(code)] * 2
    assert get() is True
    assert paused.pauses == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "waited"), [("7", 7), ("86400", 60), ("Wed, 21 Oct", 1), ("-3", 1), ("9" * 5000, 60)]
)
def test_a_server_may_say_how_long_within_reason(get, server, paused, wanted: str, waited: int):
    def busy(ask) -> None:
        ask.send_response(503)
        ask.send_header("Retry-After", wanted)
        ask.send_header("Content-Length", "0")
        ask.end_headers()

    server.script = [busy]
    assert get() is True
    assert paused.pauses == [waited]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_will_not_come_is_asked_for_once(get, server, paused, code: int):
    server.script = [lambda ask: ask.send_error(code)]
    error = refusal(get)
    assert error.exit is Exit.UNAVAILABLE
    assert str(code) in error.message
    assert paused.pauses == []
    assert len(server.asked) == 1


def test_another_file_of_the_same_size_is_refused(get, server, tmp_path: Path):
    server.files["/a/a.bin"] = DATA[:-1] + b"x"
    error = refusal(get)
    assert isinstance(error, NotAuthentic)
    assert error.exit is Exit.NOT_AUTHENTIC
    assert names(tmp_path) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("other", [DATA + b"x", DATA[:-1], b"", b"<html>we have moved</html>"])
def test_another_size_is_refused_before_it_is_read(get, server, tmp_path: Path, other: bytes):
    server.files["/a/a.bin"] = other
    assert isinstance(refusal(get), NotAuthentic)
    assert names(tmp_path) == []


def test_a_body_without_end_is_cut_off(get, server, tmp_path: Path):
    sent: list[int] = []

    def endless(ask) -> None:
        ask.send_response(200)
        ask.end_headers()
        while len(sent) < 1000:
            ask.wfile.write(DATA)
            sent.append(len(DATA))

    server.script = [endless]
    error = refusal(get)
    assert isinstance(error, NotAuthentic)
    assert "longer" in error.message
    assert names(tmp_path) == []
    assert len(sent) < 100


def test_what_is_there_and_wrong_is_left_alone(get, server, tmp_path: Path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "a.bin").write_bytes(b"mine")
    assert isinstance(refusal(get), NotAuthentic)
    assert (tmp_path / "to" / "a.bin").read_bytes() == b"mine"
    assert server.asked == []


def redirect(to: str) -> Callable[[object], None]:
    def answer(ask) -> None:
        ask.send_response(302)
        ask.send_header("Location", to)
        ask.send_header("Content-Length", "0")
        ask.end_headers()

    return answer


def test_a_redirect_over_https_is_followed(get, server, tmp_path: Path):
    server.files["/elsewhere"] = server.files.pop("/a/a.bin")
    server.script = [redirect("/elsewhere")]
    assert get() is True
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/a", "ftp://127.0.0.1/a", "file:///etc/hostname", "data:,x"]
)
def test_a_redirect_away_from_https_is_refused(get, server, tmp_path: Path, to: str):
    server.script = [redirect(to.format(port=server.server_address[1]))]
    assert refusal(get).exit is Exit.UNAVAILABLE
    assert names(tmp_path) == []


@pytest.mark.parametrize("to", ["https://[", "https://a..b/", f"https://{'a' * 70}.example/"])
def test_a_redirect_to_what_is_no_address_is_refused(get, server, paused, tmp_path: Path, to: str):
    server.script = [redirect(to)]
    error = refusal(get)
    assert error.exit is Exit.UNAVAILABLE
    assert error.message == "127.0.0.1 leads to what is no address"
    assert paused.pauses == []
    assert names(tmp_path) == []


def test_the_body_of_a_redirect_is_not_read(get, server):
    sent: list[int] = []

    def endless(ask) -> None:
        ask.send_response(302)
        ask.send_header("Location", "/a/a.bin")
        ask.end_headers()
        while len(sent) < 1000:
            ask.wfile.write(DATA)
            sent.append(len(DATA))

    server.script = [endless]
    assert get() is True
    assert len(sent) < 100


def test_a_redirect_without_end_is_refused(get, server):
    server.script = [redirect("/a/a.bin")] * 50
    assert refusal(get).exit is Exit.UNAVAILABLE
    assert len(server.asked) < 20


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "HTTP"])
def test_nothing_but_https_is_asked_for(get, server, scheme: str):
    assert isinstance(
        refusal(lambda: get(url=server.address.replace("https", scheme) + "a/a.bin")), WrongInput
    )
    assert server.asked == []


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(get, server, tmp_path: Path):
    pauses: list[float] = []
    network = Network(https_alone(), pauses.append)
    error = refusal(
        lambda: download(
            server.address + "a/a.bin", get.published, tmp_path / "b", network=network, advance=lambda _: None
        )
    )
    assert error.exit is Exit.UNAVAILABLE
    assert "certificate" in error.message
    assert pauses == []


def test_no_network_is_said_at_once(get, paused, monkeypatch: pytest.MonkeyPatch):
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    error = refusal(get)
    assert error.exit is Exit.UNAVAILABLE
    assert "no network" in error.message
    assert paused.pauses == []


def test_nobody_listens(get, paused):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert refusal(lambda: get(url=f"https://127.0.0.1:{port}/a")).exit is Exit.UNAVAILABLE
    assert paused.pauses == [1, 2, 4, 8]


def test_a_server_that_falls_silent_is_left(
    get, server, paused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("oathbound.workflow.download._TIMEOUT", 0.2)
    awake = threading.Event()

    def silent(ask) -> None:
        ask.send_response(200)
        ask.send_header("Content-Length", str(len(DATA)))
        ask.end_headers()
        ask.wfile.write(DATA[:70_000])
        awake.wait(10)

    server.script = [silent]
    assert get() is True
    awake.set()
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA
    assert paused.pauses == [1]


def test_a_proxy_of_the_environment_is_asked(get, server, monkeypatch: pytest.MonkeyPatch):
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(10)

        def refuse() -> None:
            with suppress(TimeoutError):
                for _ in range(ATTEMPTS):
                    client, _ = proxy.accept()
                    with client:
                        asked.append(client.recv(4096).split(b"\r\n")[0])
                        client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        error = refusal(get)
        thread.join()
    assert error.exit is Exit.UNAVAILABLE
    assert "403" in error.message
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{server.server_address[1]} ".encode())
    assert server.asked == []


def test_a_full_disk_is_said(get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("oathbound.workflow.download.os", SimpleNamespace(fsync=full))
    error = refusal(get)
    assert isinstance(error, Unavailable)
    assert "No space left" in error.message
    assert not (tmp_path / "to" / "a.bin").exists()


def test_a_part_of_another_version_is_not_gone_on_with(get, server, tmp_path: Path):
    server.script = [lambda ask: ask.whole(cut=1000)] * ATTEMPTS
    refusal(get)
    newer = server.publish("a/a.bin", DATA[::-1])
    assert get(replace(newer)) is True
    assert server.asked[-1] == ("/a/a.bin", None)
    assert (tmp_path / "to" / "a.bin").read_bytes() == DATA[::-1]
