"""The blocks of docs/guides/scans-and-signals.md work as they stand."""

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("PIL", reason="scans are an extra")
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from oathbound.data.kinds import open_source

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "scans-and-signals.md").read_text()


def block(kind, holding):
    (found,) = (each for each in re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL) if holding in each)
    return found


def test_scans(tmp_path):
    (tmp_path / "scans" / "png").mkdir(parents=True)
    table = block("", "subject_id,path")
    (tmp_path / "scans" / "scans.csv").write_text(table)
    for place, name in enumerate(re.findall(r"png/\d+\.png", table)):
        Image.fromarray(np.full((8, 8), place, np.uint8)).save(tmp_path / "scans" / name)
    records = tomllib.loads(block("toml", '"scans"'))["records"]
    source = open_source(records["source"], records["options"], tmp_path)
    assert source.subjects() == (7, 9)
    assert not source.unreadable()


def test_beats(tmp_path):
    (tmp_path / "mitdb").mkdir()
    (tmp_path / "mitdb" / "100.hea").write_text("100 1 360 9\n100.dat 16 200 11 0 0 0 0 MLII\n")
    (tmp_path / "mitdb" / "100.dat").write_bytes(bytes(18))
    (tmp_path / "mitdb" / "100.atr").write_bytes(np.array([1 << 10 | 4, 0], "<u2").tobytes())
    records = tomllib.loads(block("toml", '"wfdb"'))["records"]
    source = open_source(records["source"], records["options"], tmp_path)
    (piece,) = source.read(frozenset([100]))
    assert piece.frames.shape == (1, 187)


def test_export(tmp_path, monkeypatch):
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "in.dcm")
    monkeypatch.chdir(tmp_path)
    exec(block("python", "deidentified"), {})  # noqa: S102 - a page of this repository
    assert pydicom.dcmread(tmp_path / "out.dcm").PatientIdentityRemoved == "YES"
