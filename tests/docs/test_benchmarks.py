"""Benchmarks are run by hand: here they are imported, so that what they use is there."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))

for needed in ("torch", "PIL", "pydicom"):
    pytest.importorskip(needed, reason="benchmarks use the extras")


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_uses_is_there(path):
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main
    assert str(path.name) in module.__doc__
