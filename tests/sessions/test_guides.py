"""The guides for people of one role: every command on them runs, and prints what the page says.

The page for data scientists makes a study and releases it; pages of those who come later work on copies of
what it left.
"""

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")

import polars as pl

from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source
from oathbound.evidence.trust import Trust
from oathbound.report.words import VERDICTS
from oathbound.workflow.folders import RecordsAt

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES, SOURCE = REPOSITORY / "docs" / "guides", REPOSITORY / "src" / "oathbound"


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


def fragments(page: str, heading: str) -> list[str]:
    """Return what stands in backticks, between dots, in the first column of the table of that heading."""
    table = (GUIDES / page).read_text().split(f"| {heading} |")[1].split("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    quoted = (each for cell in cells for each in re.findall(r"`([^`]+)`", cell))
    return [part.strip() for each in quoted for part in each.split("...") if part.strip()]


@pytest.mark.parametrize(
    ("page", "heading"),
    [("site-engineer.md", "you see"), ("site-engineer.md", "line"), ("patients.md", "it says")],
)
def test_what_a_page_quotes_is_said_by_the_code(page: str, heading: str):
    source = "\n".join(file.read_text() for file in SOURCE.rglob("*.py"))
    said = source.replace('{use}: {decision.reason}"', 'training: audit: "')
    quoted = fragments(page, heading)
    assert len(quoted) >= 4
    for words in quoted:
        for part in words.removeprefix("not admitted: ").split(" {"):
            assert part in said, words


def test_the_words_of_a_verdict_are_those_of_the_page():
    page = (GUIDES / "privacy-officer.md").read_text()
    for verdict, said in VERDICTS.items():
        assert f"| {said.word} | {int(verdict.exit)} |" in page
    template = "".join(file.read_text() for file in (SOURCE / "report" / "templates").glob("*.j2"))
    parts = [row.split("|")[1].strip() for row in page.split("| part |")[1].split("\n\n")[0].splitlines()[3:]]
    assert len(parts) >= 6
    for words in (*parts, "Circle: within the gate", "Square: above it", "Ring: undecided"):
        assert words in page
        assert words in template


def test_a_table_as_the_page_says_is_read(tmp_path: Path):
    page = (GUIDES / "own-records.md").read_text()
    records = RecordsAt.parse(
        tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])["records"], what="it"
    )
    visits = {"patient_nbr": [7, 7, 9], "encounter_id": [2, 1, 3], "zip": [1, 2, 3], "ward": ["a", "b", "?"]}
    pl.DataFrame(visits | {"age": [50.0, 49.0, None]}).write_parquet(tmp_path / "visits.parquet")
    source = open_source(records.source, records.options, tmp_path)
    assert set(source.subjects()) == {7, 9}
    cohort = restored("study", "sha256:" + 64 * "0", {"members": [7], "held_out": [9], "reference": []})
    events = {patient.subject_id: [e.code for e in patient.events] for patient in source.patients(cohort)}
    assert events == {7: ["zip//2", "ward//b", "age"], 9: ["zip//3"]}


def test_a_trust_file_as_the_page_says_is_read(tmp_path: Path):
    page = (GUIDES / "auditor.md").read_text()
    (tmp_path / "trust.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    assert [party.name for party in Trust.load(tmp_path / "trust.toml").party] == ["north"]
