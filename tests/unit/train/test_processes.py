"""A site's process: answers and refusals cross whole; one that died is noticed, and another is started."""

import os
import signal
import sys
from io import BytesIO

import pytest

from oathbound.core import errors
from oathbound.core.canonical import canonical
from oathbound.train.engines import answers
from oathbound.train.engines.processes import Process, serve

CHILD = """
import os, sys
from oathbound.core.errors import BudgetRefused, ConsentRefused
from oathbound.train.engines.processes import serve

def receive(message):
    if message == b"consent":
        raise ConsentRefused("nobody consents", hint="ask them")
    if message == b"budget":
        raise BudgetRefused("too much", needed="3", allowed="2")
    if message == b"die":
        os._exit(3)
    return message[::-1] + str(os.getpid()).encode()

serve(receive, sys.stdin.buffer, sys.stdout.buffer)
"""


@pytest.fixture
def process():
    site = Process("north", [sys.executable, "-c", CHILD])
    yield site
    site.close()


def test_answers_and_refusals_cross(process):
    assert process.receive(b"abc" * 100_000).startswith(b"cba" * 100_000)
    with pytest.raises(errors.ConsentRefused, match="north: nobody consents") as refused:
        process.receive(b"consent")
    assert refused.value.hint == "ask them"
    with pytest.raises(errors.BudgetRefused) as over:
        process.receive(b"budget")
    assert (over.value.needed, over.value.allowed) == ("", ""), "they tell what other studies reserved"
    assert process.receive(b"") == str(process.pid).encode(), "a refusal does not end the process"


def test_a_process_that_died_is_noticed_and_another_one_is_started(process):
    first = process.receive(b"")
    with pytest.raises(errors.Unavailable, match="the process of north has ended"):
        process.receive(b"die")
    second = process.receive(b"")
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(errors.Unavailable):
        process.receive(b"")
    assert len({first, second, process.receive(b"")}) == 3


def test_a_process_ends_with_whoever_started_it(process):
    process.receive(b"")
    running = process.start.__self__._process
    running.stdin.close()
    assert running.wait(timeout=30) == 0


def test_a_command_that_is_not_there():
    with pytest.raises(errors.Unavailable, match="no process for north can be started"):
        Process("north", ["/nowhere/python"]).receive(b"")


@pytest.mark.parametrize("cut", [b"", b"\1", b"\5" + 7 * b"\0", b"\5" + 7 * b"\0" + b"abcd", b"\xff" * 8])
def test_messages_that_are_cut_short_are_not_answered(cut):
    said = BytesIO()
    serve(lambda message: message, BytesIO(cut), said)
    assert not said.getvalue()


def test_every_error_of_the_tree_keeps_its_kind():
    tree = [errors.OathboundError]
    for kind in tree:
        tree += kind.__subclasses__()
    travelling = [kind for kind in tree if kind.__module__ == errors.__name__]  # a demo's own does not
    for kind in set(travelling) - {errors.OathboundError, errors._VerifyError, errors.Interrupted}:
        facts = {"needed": "1", "allowed": "0"} if kind is errors.BudgetRefused else {}

        def refuse(_, kind=kind, facts=facts):
            raise kind("north says no", hint="why", **facts)

        with pytest.raises(kind) as raised:
            answers.opened(answers.answered(refuse, b""), "north")
        assert (type(raised.value), raised.value.message) == (kind, "north says no")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\2",
        b"\1",
        b"\1{}",
        b"\1" + canonical({"error": "Refused", "message": "x" * 3000, "hint": ""}),
        b"\1" + canonical({"error": "Refused", "message": "x", "hint": "", "more": ""}),
        b'\1{ "error":"Refused","hint":"","message":"x"}',
    ],
)
def test_an_answer_of_another_form_is_refused(answer):
    with pytest.raises(errors.ProtocolRefused, match="form of its own"):
        answers.opened(answer, "north")


def test_a_refusal_carries_no_fact_of_a_budget():
    def refuse(_):
        raise errors.BudgetRefused("too much", needed="3.7", allowed="10", hint="ask")

    assert answers.answered(refuse, b"") == b"\1" + canonical(
        {"error": "BudgetRefused", "message": "too much", "hint": "ask"}
    )


def test_a_path_that_is_no_text_can_be_named_in_a_refusal():
    def receive(_message):
        raise errors.WrongInput("records\udcff.csv is no table", hint="name it otherwise")

    with pytest.raises(errors.WrongInput, match=r"records\?\.csv is no table"):
        answers.opened(answers.answered(receive, b""), "north")


def test_a_refusal_that_is_too_long_is_not_parsed(monkeypatch):
    longest = {"error": "Refused", "message": "\1" * 2000, "hint": "\1" * 2000}
    with pytest.raises(errors.Refused):
        answers.opened(b"\1" + canonical(longest), "north")
    monkeypatch.setattr(answers, "from_canonical", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(errors.ProtocolRefused, match="form of its own"):
        answers.opened(b"\1" + bytes(2**16), "north")


def test_a_frame_that_is_too_long_is_not_read():
    longest = 3 * 2**29  # one vector of three, which a snapshot of 4 GiB holds, and what goes with it

    class Pipe(BytesIO):
        asked = 0

        def read(self, size):
            self.asked = max(self.asked, size)
            return super().read(min(size, 8))

    for size, asked in ((longest + 1, 8), (longest, longest)):
        pipe = Pipe(size.to_bytes(8, "little"))
        serve(lambda message: message, pipe, BytesIO())
        assert pipe.asked == asked


def test_a_refusal_cannot_write_to_a_terminal_or_name_an_error_that_is_none():
    text = canonical({"error": "SystemExit", "message": "\x1b[2J\nno", "hint": "\u202e"})
    with pytest.raises(errors.Unavailable) as raised:
        answers.opened(b"\1" + text, "north")
    assert (raised.value.message, raised.value.hint) == ("north: ?[2J?no", "?")
