"""`oathbound audit https://...`, as a person runs it: to the end, killed, and with a server that dies."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("httpx", reason="endpoints need httpx")

from endpoint_server import CODES, FIRST, MAP, serving

from oathbound.audit.kept import ANSWERS, KEY
from oathbound.cli.main import run

SETTINGS = 'format = "oathbound/endpoint/v1"\nbos = 1\neos = 2\nlength = 16\npatience = 60\nconcurrency = 2\n'
PLAN = """format = "oathbound/audit-plan/v1"
alpha = "0.05"
minimum_patients = 20
[sensitive]
name = "E"
codes = ["E"]
implied_by = []
prompt_events = 2
horizon = 6
chains = 4
"""
PEOPLE = 110


def records(folder, first):
    draw = np.random.default_rng(first)
    rows = [
        (first + person, FIRST.replace(microsecond=first + person, day=day + 1), str(code))
        for person in range(PEOPLE)
        for day, code in enumerate(draw.choice(CODES, size=draw.integers(4, 10)))
    ]
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    (folder / "data").mkdir(parents=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "data" / "0.parquet")


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    records(tmp_path / "members", 1000)
    records(tmp_path / "held-out", 5000)
    (tmp_path / "vocabulary.json").write_text(json.dumps(MAP.plain()))
    (tmp_path / "endpoint.toml").write_text(SETTINGS + "logprobs = 3\n")
    (tmp_path / "samples.toml").write_text(SETTINGS)
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(url, endpoint="endpoint.toml"):
    files = ("--vocabulary", "vocabulary.json", "--endpoint", endpoint, "--plan", "plan.toml")
    given = ("--members", "members", "--held-out", "held-out", "-o", "findings.json")
    return ("audit", url, "--model", "m", *files, *given, "--format", "json")


@pytest.fixture
def audit(monkeypatch, capsys):
    def ran(*arguments):
        monkeypatch.setattr(sys, "argv", ["oathbound", *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, answer=json.loads(out) if out else None, err=err)

    return ran


def outcomes(answer):
    return {finding["test"]: finding["outcome"] for finding in answer["findings"]}


def kinds(outcome):
    return {
        (each["metric"], each["score"]) for each in outcome["measures"] if each["kind"] == "not-measurable"
    }


def test_an_audit_to_its_end_measures_what_can_be_and_leaves_nothing(work, audit):
    with serving() as model:
        said = audit(*command(model.url))
    assert said.code == 13, said.err
    assert said.answer["known"] == 100
    found = outcomes(said.answer)
    auc = {each["score"]: each for each in found["membership"]["measures"] if each["kind"] == "auc"}
    assert auc.keys() == {"loss", "min-k"}  # min-k-plus-plus takes more than three logprobs
    assert {score for _, score in kinds(found["membership"])} >= {"min-k-plus-plus"}
    assert abs(float(auc["loss"]["estimate"]) - 0.5) < 4 * float(auc["loss"]["standard_error"])
    assert found["sensitive-disclosure"]["kind"] == "measured"
    assert not (work / KEY).exists()
    assert not (work / ANSWERS).exists()


def test_samples_alone_give_disclosure_and_no_membership(audit):
    with serving() as model:
        found = outcomes(audit(*command(model.url, "samples.toml")).answer)
    assert found["membership"]["kind"] == "did-not-run"
    assert found["sensitive-disclosure"]["kind"] == "measured"


def test_a_server_that_dies_for_good_and_one_that_comes_back(work, audit):
    with serving() as model:
        whole = audit(*command(model.url)).answer
        needed = len(model.seen)
        port = model.server.server_port
    (work / "findings.json").unlink()
    impatient = SETTINGS.replace("patience = 60", "patience = 1")
    (work / "endpoint.toml").write_text(impatient + "logprobs = 3\n")

    def dying(_, number, __):
        if number > needed // 2:
            raise ConnectionError

    with serving(dying, port=port) as model:
        url = model.url
        died = audit(*command(url))
    assert died.code == 4
    assert json.loads(died.err)["error"] == "the endpoint 127.0.0.1 cannot be reached"
    assert not (work / "findings.json").exists()
    assert audit(*command(url)).code == 4  # nobody listens at all
    (work / "endpoint.toml").write_text(SETTINGS + "logprobs = 3\n")
    with serving(port=port) as model:
        again = audit(*command(url)).answer
        assert len(model.seen) == needed - needed // 2
    assert again["findings"] == whole["findings"]
    assert again["attempt"] == whole["attempt"] == 1  # one audit, however often it broke off
    assert not (work / KEY).exists()


@pytest.mark.slow
def test_a_killed_audit_goes_on(audit):
    with serving() as model:
        whole = audit(*command(model.url)).answer
        needed, port = len(model.seen), model.server.server_port
    with serving(lambda *_: time.sleep(0.005), port=port) as model:
        with subprocess.Popen(
            [sys.executable, "-m", "oathbound.cli", *command(model.url)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        ) as process:
            while len(model.seen) < needed // 2 and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        time.sleep(0.1)
        before = len(model.seen)
        assert needed // 2 <= before < needed
        assert audit(*command(model.url)).answer["findings"] == whole["findings"]
        assert len(model.seen) - before <= needed - before + 2  # two were on their way


@pytest.mark.parametrize(
    "arguments",
    [
        ("https://host/v1", "--model", "m", "--vocabulary", "vocabulary.json"),
        ("folder", "--model", "m"),
        ("https://host/v1", "--site", "a"),
        (
            "http://records.example/v1",
            "--model",
            "m",
            "--vocabulary",
            "vocabulary.json",
            "--endpoint",
            "endpoint.toml",
        ),
        ("https://host/v1", "--model", "m", "--vocabulary", "none.json", "--endpoint", "endpoint.toml"),
        ("https://host/v1", "--model", "m", "--vocabulary", "vocabulary.json", "--endpoint", "plan.toml"),
    ],
)
def test_what_is_asked_wrongly_is_said(work, audit, arguments):
    said = audit("audit", *arguments, "--members", "members", "--held-out", "held-out")
    assert said.code == 2
    assert "Traceback" not in said.err
    assert not (work / KEY).exists()
