"""The pages on extensions say what the code and the example say."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the contract suites try models and training")

from oathbound.core.shape import ExtensionModel
from oathbound.core.study import Extension
from oathbound.workflow.extensions import GROUPS

REPOSITORY = Path(__file__).resolve().parents[3]
SPEC = (REPOSITORY / "spec" / "extensions.md").read_text()
GUIDE = (REPOSITORY / "docs" / "guides" / "extend.md").read_text()
PROJECT = tomllib.loads((REPOSITORY / "examples" / "extension-clinic" / "pyproject.toml").read_text())


def test_the_table_of_the_specification_is_one():
    block = re.search(r"(?:^    .+\n)+", SPEC, re.MULTILINE).group()
    (table,) = tomllib.loads(re.sub("^    ", "", block, flags=re.MULTILINE))["policy"]["extensions"]
    assert Extension.parse(table, what="table").name == "neighbourhood"
    assert {group for group in GROUPS if f"| `{group}` | `oathbound.{group}` |" in SPEC} == set(GROUPS)


def test_the_example_brings_one_of_each():
    points = PROJECT["project"]["entry-points"]
    assert set(points) == {f"oathbound.{group}" for group in GROUPS}
    assert all(len(names) == 1 for names in points.values())


def test_what_the_guide_shows_is_of_the_example():
    first, second = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL))
    shown = first["project"]["entry-points"]
    assert all(PROJECT["project"]["entry-points"][group] == names for group, names in shown.items())
    assert ExtensionModel.parse(second["policy"]["model"], what="model").name == "code-chain"


def test_the_guide_names_every_suite():
    for module, suite in re.findall(r"^\| `(\w+)\.(\w+)` \|", GUIDE, re.MULTILINE):
        assert hasattr(importlib.import_module(f"oathbound.testing.contracts.{module}"), suite)
    assert set(re.findall(r"^\| `(\w+)\.\w+` \|", GUIDE, re.MULTILINE)) == set(GROUPS)
