"""What an endpoint's adapter is made of, without a server: the pace, what is kept, words, settings."""

import datetime as dt
import json
import math
import re
import tomllib
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("httpx", reason="endpoints need httpx")

from endpoint_server import MAP, SIZE, completed

from oathbound.audit.adapters.codes import CodeMap
from oathbound.audit.adapters.endpoint import limits_of
from oathbound.audit.adapters.endpoint_http import Pace, _retry_after
from oathbound.audit.adapters.endpoint_reading import choices_of, continuation, head, likeliest, told
from oathbound.audit.adapters.endpoint_target import _log_chance
from oathbound.audit.adapters.endpoint_words import Ids, Texts
from oathbound.audit.kept import ANSWERS, KEY, Answers
from oathbound.core.endpoint import EndpointSettings
from oathbound.core.errors import Unavailable, WrongInput

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "audit-endpoint.md"
LEAST = {"format": "oathbound/endpoint/v1", "bos": 1, "eos": 2, "length": 8}

SCORE = {"echo": True, "logprobs": 3, "n": 1}
DRAW = {"n": 3, "max_tokens": 4, "seed": 1, "logprobs": 3}
WORDED = Texts.of(MAP, {1: "<s>", 2: "</s>"}, unknown="<unk>")


def test_a_pace_waits_no_longer_than_it_must():
    pace = Pace(2.0, burst=1.0)
    assert [pace.wait(1, now=0.0) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert pace.wait(1, now=10.0) == 0  # nothing is saved up beyond the burst
    assert pace.wait(1, now=10.0) == 0.5


def test_a_bucket_is_spent_at_once_and_then_at_its_rate():
    pace = Pace(100 / 60, burst=100)
    assert pace.wait(60, now=0.0) == pace.wait(40, now=0.0) == 0
    assert math.isclose(pace.wait(10, now=0.0), 6)


@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0])
def test_no_window_holds_more_than_the_bucket_and_the_rate(rate):
    draw, pace, now, sent = np.random.default_rng(1), Pace(rate, burst=5.0), 0.0, []
    for _ in range(500):
        now += draw.exponential(0.5 / rate)
        sent.append(now + pace.wait(1, now))
    for first in range(0, 500, 7):
        within = sum(sent[first] <= at < sent[first] + 10 / rate for at in sent)
        assert within <= 5 + 10 + 1
    assert sent[-1] <= now + 500 / rate


def test_retry_after_is_seconds_or_a_date_or_nonsense():
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=50)
    assert _retry_after("7") == 7
    assert 40 < _retry_after(format_datetime(soon, usegmt=True)) <= 50
    assert [_retry_after(each) for each in (None, "", "soon", "-3", "Thu, 01 Jan 1970 00:00:00 GMT")] == [
        0
    ] * 5


def test_kept_answers_are_found_in_the_order_of_asking(tmp_path):
    with Answers(tmp_path) as answers:
        names = [answers.name(b"one"), answers.name(b"two"), answers.name(b"one")]
        assert len(set(names)) == 3
        for place, name in enumerate(names):
            answers.keep(name, [[place, math.nan]])
    with Answers(tmp_path) as answers:
        found = [answers.find(answers.name(request)) for request in (b"one", b"two", b"one")]
        assert [answer[0][0] for answer in found] == [0, 1, 2]
        assert answers.find(answers.name(b"one")) is None  # it was asked twice


def test_every_damage_is_as_if_nothing_had_been_kept(tmp_path):
    with Answers(tmp_path) as answers:
        for request in (b"one", b"two", b"three"):
            answers.keep(answers.name(request), [[1.5, 2.5]])
    whole = (tmp_path / ANSWERS).read_bytes()
    for place in range(0, len(whole), 7):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        (tmp_path / ANSWERS).write_bytes(damaged)
        with Answers(tmp_path) as answers:
            found = [answers.find(answers.name(request)) for request in (b"one", b"two", b"three")]
            assert found.count([[1.5, 2.5]]) == 2 - (damaged.count(b"\n") == 2 and place < len(whole) - 1)
            assert found.count(None) == 3 - found.count([[1.5, 2.5]])
    for end in range(len(whole)):
        (tmp_path / ANSWERS).write_bytes(whole[:end])
        with Answers(tmp_path) as answers:
            assert len(answers._places) == whole[:end].count(b"\n")
            answers.keep(answers.name(b"four"), [[4.0]])
        with Answers(tmp_path) as answers:
            assert answers.find(answers.name(b"four")) == [[4.0]]


def test_answers_of_another_key_are_gone(tmp_path):
    with Answers(tmp_path) as answers:
        answers.keep(answers.name(b"one"), [[1.0]])
    (tmp_path / KEY).unlink()
    with Answers(tmp_path) as answers:
        assert answers.find(answers.name(b"one")) is None
    assert not list(tmp_path.iterdir())


def test_a_link_is_not_followed_and_a_missing_folder_is_said(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / ANSWERS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="cannot be kept"):
        Answers(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "kept"
    with pytest.raises(Unavailable, match="cannot be kept"):
        Answers(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": "text"},
        {"bos_text": "<s>"},
        {"logprobs": -1},
        {"length": 1},
        {"requests_per_second": "0"},
        {"requests_per_second": 2.5},
        {"timeout": 0},
        {"key": "sk"},
        {"format": "oathbound/endpoint/v2"},
    ],
)
def test_settings_that_are_wrong(change):
    with pytest.raises(WrongInput):
        EndpointSettings.parse(LEAST | change, what="endpoint.toml")


def test_the_settings_of_the_guide_are_some():
    shown = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (settings,) = (EndpointSettings.parse(tomllib.loads(each), what="guide") for each in shown)
    described = set(re.findall(r"`(\w+)`|^(\w+) =", GUIDE.read_text(), flags=re.MULTILINE))
    assert EndpointSettings.model_fields.keys() <= {name for pair in described for name in pair}
    assert limits_of(settings).requests_per_second == 20


def test_limits_are_those_of_the_settings():
    limits = limits_of(EndpointSettings.parse(LEAST | {"tokens_per_minute": "600"}, what="endpoint.toml"))
    assert (limits.tokens_per_minute, limits.requests_per_second, limits.patience) == (600.0, None, 300.0)


@pytest.mark.parametrize(
    ("tokens", "unknown", "unknown_text"),
    [({"A B": 4}, None, None), ({"<s>": 4}, None, None), ({"A": 4}, 5, None), ({"A": 4}, 5, "A")],
)
def test_words_that_cannot_be_told_apart(tokens, unknown, unknown_text):
    codes = CodeMap(format="oathbound/codes/v1", tokens=tokens, unknown=unknown)
    with pytest.raises(WrongInput):
        Texts.of(codes, {1: "<s>", 2: "</s>"}, unknown=unknown_text)


def test_a_word_of_nobody_is_refused_unless_there_is_an_unknown():
    codes = CodeMap(format="oathbound/codes/v1", tokens={"A": 4})
    with pytest.raises(WrongInput, match="does not list"):
        Texts.of(codes, {1: "<s>", 2: "</s>"}, unknown=None).drawn({"text": "A secret"})
    codes = CodeMap(format="oathbound/codes/v1", tokens={"A": 4}, unknown=5)
    assert Texts.of(codes, {}, unknown="?").drawn({"text": "A secret"}) == [4, 5]


@pytest.mark.statistical
def test_the_trial_of_draws_accuses_no_honest_server():
    """Either side of an honest count is as rare as the bound says, or rarer: 50,000 counts, at 1 % a side."""
    draw, n = np.random.default_rng(2), 512
    for p in (0.01, 0.05, 0.2, 0.5):
        seen = draw.binomial(n, p, size=50_000) / n
        unlikely = [_log_chance(each, p) * n < math.log(0.01) for each in seen]
        assert np.mean(unlikely) <= 0.02
    assert _log_chance(0.0, 0.05) * n < math.log(1e-7)  # and truncation at 95 % is noticed
    assert _log_chance(0.02, 0.05) * n > math.log(1e-7)


def paths(value, path=()):
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from paths(each, (*path, key))


def spoiled(value, path, with_):
    if not path:
        return with_
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = spoiled(value[path[0]], path[1:], with_)
    return copy


WRONG = (
    None,
    True,
    -1,
    10**400,
    1.5,
    math.nan,
    -math.inf,
    "",
    "token_id:4",
    [],
    [[]],
    {},
    {"tokens": 1},
    {"": {}},
)


@pytest.mark.parametrize("body", [SCORE, DRAW], ids=["scores", "continuations"])
@pytest.mark.parametrize("wire", [Ids(SIZE), WORDED], ids=["ids", "text"])
def test_whatever_stands_in_an_answer_it_is_read_or_refused(body, wire):
    prompt = [1, 5, 6, 2]
    answer = json.loads(json.dumps(completed(body | {"prompt": wire.prompt(prompt)})))

    def read(value):
        choices = choices_of(value, body["n"])
        if body is DRAW:
            return [continuation(choice, wire, eos=2, reach=4) for choice in choices]
        tops = list(likeliest(choices[0], 1, 4))
        return [head(top) for top in tops], told(choices[0], prompt, wire)

    read(answer)
    refused = 0
    for path in paths(answer):
        for wrong in WRONG:
            try:
                read(spoiled(answer, path, wrong))
            except WrongInput:
                refused += 1
    assert refused > 100
