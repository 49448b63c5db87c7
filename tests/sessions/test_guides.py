"""The guides for people of one role: every command on them runs, and prints what the page says.

The page for data scientists makes a study and releases it; pages of those who come later work on copies of what it left.
"""

import importlib.util
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"


def module():
    spec = importlib.util.spec_from_file_location("sessions", Path(__file__).parent / "test_sessions.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


sessions = module()


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Path:
    """The folder in which the page for data scientists was followed to its end, once for all tests."""
    folder = tmp_path_factory.mktemp("data-scientist")
    sessions.run_page(GUIDES / "data-scientist.md", folder)
    return folder


@pytest.mark.slow
def test_a_data_scientist_gets_a_bundle_and_a_page(released: Path):
    assert (released / "study.oath").read_bytes().startswith(b"PK")
    assert (released / "study.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_a_site_engineer_starts_from_nothing(tmp_path: Path):
    sessions.run_page(GUIDES / "site-engineer.md", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["privacy-officer.md", "patients.md", "auditor.md"])
def test_who_comes_later_finds_what_the_page_says(released: Path, tmp_path: Path, page: str):
    for name in ("study", "study.oath"):
        copy = shutil.copytree if (released / name).is_dir() else shutil.copy2
        copy(released / name, tmp_path / name)
    sessions.run_page(GUIDES / page, tmp_path)


def test_each_role_has_a_page_with_commands():
    for page in ("data-scientist.md", "site-engineer.md", "privacy-officer.md", "auditor.md", "patients.md"):
        assert len(sessions.exchanges(GUIDES / page)) >= 4, page
