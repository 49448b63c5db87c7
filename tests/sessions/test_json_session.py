"""A study with `--format json`: every answer is one object that its schema allows, and so is a refusal."""

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

pytest.importorskip("torch", reason="training is an extra")

from oathbound.cli.main import run

SCHEMAS = Path(__file__).resolve().parents[2] / "spec" / "schema"
REFUSED = {2, 3, 4, 5, 10, 11}
"""Codes with which an error is said, and no answer given."""


@pytest.fixture
def said(capsys, monkeypatch):
    """Return a function that runs a verb in this process, as a process of its own would import torch anew."""

    def say(*arguments: object, codes: tuple[int, ...] = (0,)) -> dict:
        """Return the one object that the verb printed, after its schema has allowed it."""
        monkeypatch.setattr(sys, "argv", ["oathbound", *map(str, arguments), "--format", "json"])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        assert ended.value.code in codes, out + err
        return allowed(arguments, *((err, out) if ended.value.code in REFUSED else (out, err)))

    return say


def allowed(arguments: tuple[object, ...], spoken: str, silent: str) -> dict:
    assert silent == ""
    answer = json.loads(spoken)
    verb = answer["format"].split("/")[1]
    schema = json.loads((SCHEMAS / f"output-{verb}.schema.json").read_text())
    Draft202012Validator(schema).validate(answer)
    assert verb in {"-".join(map(str, arguments[:count])) for count in (1, 2)} | {"error"}
    return answer


@pytest.mark.slow
def test_a_study_in_json(said, tmp_path: Path):
    study = tmp_path / "study"
    made = said("init", study, "--example")
    file = study / "study.toml"
    file.write_text(file.read_text().replace("threads = 0", "threads = 1"))
    assert said("join", tmp_path / "west", "--site", "west")["made"]
    price = said("check", study)
    refused = said("train", study, codes=(5,))
    assert (refused["exit"], refused["kind"], refused["step"]) == (5, "Refused", None)
    for site in ("north", "east", "south"):
        assert said("oath", "--site", site, study)["policy"] == price["policy"]
        admission = said("admit", "--site", site, study)["admission"]
        assert admission["policy_digest"] == price["policy"]
        assert admission["members"] % 5 == 0
    trained = said("train", study)
    assert float(trained["epsilon"]) <= float(price["epsilon"])
    for site in ("north", "east", "south"):
        tests = {finding["test"] for finding in said("audit", study / "model", "--site", site)["findings"]}
        assert tests == {"membership", "sensitive-disclosure"}
    verdicts = (0, 12, 13)
    released = said("release", study / "model", "-o", tmp_path / "a.oath", codes=verdicts)
    trust = ("--trust", study / "trust.toml")
    verified = said("verify", tmp_path / "a.oath", *trust, "--model", study / "model", codes=verdicts)
    for key in ("verdict", "reason"):
        assert verified[key] == released[key]
    assert (verified["policy"], verified["model"]) == (price["policy"], trained["model"])
    page = said("report", tmp_path / "a.oath", "-o", tmp_path / "a.html", *trust)
    assert page["verdict"] == verified["verdict"]
    bundle = bytearray((tmp_path / "a.oath").read_bytes())
    bundle[len(bundle) // 2] ^= 1
    (tmp_path / "b.oath").write_bytes(bundle)
    tampered = said("verify", tmp_path / "b.oath", *trust, codes=(10,))
    assert (tampered["kind"], tampered["step"]) == ("NotAuthentic", 1)
    assert made["coordinator"] not in {"", None}


def test_verbs_that_need_no_study(said):
    assert said("explain", "12")["topics"][0]["id"] == "exit 12"
    assert "_oathbound_completion" in said("completion", "bash")["script"]
    assert said("data", "list")["sets"]
    assert said("explain", "epsilom", codes=(2,))["hint"]
