"""Pieces of work: what is kept, what other processes do, and that neither changes a number."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pieces import FIRST, MODEL, deaf, dying, echo, full, opened, opened_with_digest, refusing

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.chains import CodeSet, drawn
from oathbound.audit.emission import Counting, Departing, FirstHit, Prompt, SetAvoiding
from oathbound.audit.kept import ANSWERS, KEY
from oathbound.audit.work import Machine, each, place, working
from oathbound.core.errors import Halted, Unavailable, WrongInput

PROMPTS = [Prompt((1, FIRST + i % 3, FIRST + i // 3), (FIRST + 1, FIRST + 7)) for i in range(9)]


def answers(target, way=Departing):
    """Everything that is asked in pieces, and its cost."""
    sets = [CodeSet.of(target, [(FIRST + 7,)]), CodeSet.of(target, [(FIRST + 6,)])]
    estimator = way(target, np.zeros(2)) if way is FirstHit else way(target)
    rng = np.random.default_rng(5)
    estimates = estimator.estimate(PROMPTS, sets, horizon=4, chains=3, rng=rng)
    prompts = np.array([prompt.tokens for prompt in PROMPTS])
    return estimates, drawn(target, prompts, 2, 5, seed=8), target.tokens_pushed


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def at_work(target, folder, machine=None):
    return working(
        target, MODEL, keep=folder, machine=machine or Machine(), opener=opened_with_digest, arguments=()
    )


def killed(folder, ask):
    """Ask a model, and stop before the audit has ended; return the answers."""
    target, said = opened(), []

    def audit():
        with at_work(target, folder):
            said.append(ask(target))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit()
    return said[0]


@pytest.mark.parametrize("way", [SetAvoiding, FirstHit, Departing, Counting])
def test_what_is_kept_changes_no_number_and_no_cost(tmp_path, monkeypatch, way):
    monkeypatch.setattr("oathbound.audit.emission.PROBABILITIES", 200)  # a few prompts a piece
    expected = answers(opened(), way)
    assert same(killed(tmp_path, lambda target: answers(target, way)), expected)
    assert {path.name for path in tmp_path.iterdir()} == {KEY, ANSWERS}
    again = opened()
    monkeypatch.setattr(EventTarget, "begin", None)  # nothing is computed any more
    with at_work(again, tmp_path):
        assert same(answers(again, way), expected)
    assert not list(tmp_path.iterdir()), "the key and the answers go when an audit ends"


def test_every_answer_is_told_of_and_what_was_kept_is_told_apart(tmp_path):
    def told_of():
        said, target = [], opened()
        with working(
            target,
            MODEL,
            keep=tmp_path,
            machine=Machine(),
            opener=opened_with_digest,
            arguments=(),
            on_answer=lambda *, again: said.append(again),
        ):
            list(each(target, refusing, [(0,), (1,), (number,)]))
        return said

    number = 3
    with pytest.raises(WrongInput):
        told_of()
    number = 2
    assert told_of() == [True, True, False]


def test_another_model_or_another_seed_finds_nothing(tmp_path):
    kept = killed(tmp_path, answers)
    other = opened()
    with working(
        other, MODEL[:-1] + "1", keep=tmp_path, machine=Machine(), opener=opened_with_digest, arguments=()
    ):
        other.begin, calls = counting(other.begin)
        assert same(answers(other), kept)
        assert calls


def counting(function):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted, calls


def test_neither_a_question_nor_an_answer_can_be_read_in_what_is_kept(tmp_path):
    killed(tmp_path, lambda target: list(each(target, echo, [(np.array([123456789]), 987654321)] * 2)))
    kept = (tmp_path / ANSWERS).read_bytes()
    assert b"123456789" not in kept
    assert b"987654321" not in kept
    sealed = [base64.b64decode(line.split()[1]) for line in kept.splitlines()]
    assert len({len(each) for each in sealed}) == 1, "one answer twice"
    assert sealed[0] != sealed[1], "and nobody sees that it is"
    assert not any(b"." in each and b"[[" in each for each in sealed)
    assert (tmp_path / ANSWERS).stat().st_mode & 0o777 == 0o600


def test_processes_change_no_number_raise_the_models_error_and_a_dead_one_is_named(tmp_path):
    expected = answers(opened())
    target = opened()
    with at_work(target, tmp_path, Machine(processes=2)):
        assert same(answers(target), expected)
        before = target.tokens_pushed
        done = [float(array[0, 0]) for (array,) in each(target, refusing, [(0,), (1,), (2,)])]
        assert (done, target.tokens_pushed - before) == ([0, 1, 2], 30)
        with pytest.raises(WrongInput, match="nonsense") as refused:
            list(each(target, refusing, [(number,) for number in range(9)]))
        assert refused.value.hint == "ask another"
        with pytest.raises(Unavailable, match="a process of the audit ended"):
            list(each(target, dying, [(number,) for number in range(9)]))
        with pytest.raises(Unavailable, match="a process of the audit ended"):
            list(each(target, dying, [(0,)]))


@pytest.mark.parametrize("processes", [1, 2])
def test_too_little_memory_is_about_the_machine_and_keeps_what_was_done(tmp_path, processes):
    target = opened()
    with pytest.raises(Halted, match="memory"), at_work(target, tmp_path, Machine(processes=processes)):
        list(each(target, full, [(0,), (1,), (2,)]))
    assert (tmp_path / ANSWERS).read_bytes().count(b"\n") >= 1


def test_another_model_in_the_folder_is_found_out_by_the_processes(tmp_path):
    target = opened()
    other = MODEL[:-1] + "1"
    with (
        pytest.raises(WrongInput, match="changed during the audit"),
        working(
            target,
            other,
            keep=tmp_path,
            machine=Machine(processes=2),
            opener=opened_with_digest,
            arguments=(),
        ),
    ):
        list(each(target, refusing, [(0,)]))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_whoever_started_them(tmp_path, end):
    script = Path(__file__).with_name("pieces.py")
    with subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        workers = {int(parent.stdout.readline()) for _ in range(2)}
        parent.send_signal(end)
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def test_an_interruption_waits_until_a_process_has_begun(tmp_path):
    target, before = opened(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in before
    with at_work(target, tmp_path, Machine(processes=2)):
        assert [each_[0] for (each_,) in each(target, deaf, [(0,), (1,)])] == [1.0, 1.0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_audits_of_one_name_are_not_at_work_at_once(tmp_path):
    with at_work(opened(), tmp_path):
        with pytest.raises(Unavailable, match="the same audit is at work"), at_work(opened(), tmp_path):
            pass
        other = Machine()
        with working(
            opened(), MODEL, keep=tmp_path, label="b", machine=other, opener=opened_with_digest, arguments=()
        ):
            assert (tmp_path / f"{ANSWERS}-b").exists()


def test_a_hard_link_to_somebody_elses_file_is_refused(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ANSWERS).hardlink_to(tmp_path / "theirs")
    with pytest.raises(Unavailable, match="leads to another file"), at_work(opened(), tmp_path):
        pass
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_different_pieces_have_different_names(tmp_path):
    target = opened()
    apart = [
        (np.array([1, 2]), 3),
        (np.array([1, 2], dtype=np.int32), 3),
        (np.array([[1, 2]]), 3),
        (np.array([1]), 23),
        (np.array([1, 2]), 4),
    ]
    with at_work(target, tmp_path):
        said = [tuple(array.tolist()) for (array,) in each(target, echo, apart)]
    alone = opened()
    assert said == [tuple(echo(alone, *piece)[0].tolist()) for piece in apart]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    place(opened(), "cpu")
    with pytest.raises(Unavailable, match="no GPU"):
        place(opened(), "cuda")
