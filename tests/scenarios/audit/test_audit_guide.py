"""What the guide shows is what the code reads."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="audits are an extra")

from oathbound.audit.adapters.codes import read_map
from oathbound.workflow.audit_folder import read_plan

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "audit-any-model.md").read_text()


def block(language, place=0):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[place]


def test_the_plan_is_one(tmp_path):
    (tmp_path / "audit.toml").write_text(block("toml"))
    assert read_plan(tmp_path / "audit.toml").sensitive.name == "HIV"


def test_the_map_is_one():
    assert read_map(block("json").encode(), what="page").tokens["ICD10CM//E11"] == 5


def test_the_python_runs(tmp_path):
    draw = np.random.default_rng(1)
    codes = ["GENDER//F", "ICD10CM//E11", "LAB//creatinine", "OTHER"]
    day = np.datetime64("2020-01-01", "us")
    rows = [
        (person, day + np.timedelta64(person, "m"), str(code))
        for person in range(240)
        for code in draw.choice(codes, size=5)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "metadata").mkdir()
    pl.DataFrame(
        [(person, time.item(), code) for person, time, code in rows],
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
        orient="row",
    ).write_parquet(tmp_path / "data" / "0.parquet")
    pl.DataFrame({"subject_id": list(range(240)), "split": ["train", "held_out"] * 120}).write_parquet(
        tmp_path / "metadata" / "subject_splits.parquet"
    )
    table = draw.normal(size=(8, 8))
    names = {
        "map_bytes": block("json").encode(),
        "logits": lambda tokens: table[tokens],
        "meds": tmp_path,
        "weights": b"",
    }
    exec(block("python"), names)  # noqa: S102 - it is our own page
    findings = {finding.test: finding.outcome.kind for finding in names["findings"]}
    assert findings["membership"] == "measured"
