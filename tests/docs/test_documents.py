"""Documents say what the code says."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

import pytest
import typer

from oathbound.cli.main import app
from oathbound.core.exits import Exit
from oathbound.core.study import Policy, Run
from oathbound.evidence.predicates import KINDS, PREFIX

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = (
    "study",
    *(f"demo{cohort}-{name}" for cohort in ("", "-heart", "-nodules") for name in ("plain", "private")),
)
PAGES = [
    page
    for page in REPOSITORY.rglob("*.md")
    if not {".venv", "demo", "node_modules"} & set(page.relative_to(REPOSITORY).parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_key_of_a_study_is_on_its_page():
    page = (REPOSITORY / "spec" / "study.md").read_text()
    for record in (Policy, Run):
        pending = [record]
        while pending:
            for name, field in pending.pop().model_fields.items():
                assert re.search(rf"[`.]{name}[`\]]|`{name} = ", page), name
                pending += [kind for kind in _records(field.annotation) if kind not in pending]


def _records(annotation: object) -> list[type]:
    arguments = getattr(annotation, "__args__", ())
    inner = [kind for argument in arguments for kind in _records(argument)]
    return inner + ([annotation] if hasattr(annotation, "model_fields") else [])


def test_every_statement_is_on_its_page():
    page = (REPOSITORY / "spec" / "statement.md").read_text()
    for kind, predicate in KINDS.items():
        assert f"`{kind.removeprefix(PREFIX)}`" in page
        for name in predicate.model_fields:
            assert f"`{name}`" in page, f"{kind}: {name}"


@pytest.mark.parametrize("template", [f"{name}.toml" for name in TEMPLATES])
def test_templates_have_the_same_places(template: str):
    text = Template((files("oathbound.workflow") / "templates" / template).read_text())
    assert set(text.get_identifiers()) == {"study", "coordinator", "sites", "folder"}


def test_help_lists_the_verbs_in_order_and_every_exit_code():
    ran = subprocess.run(
        [sys.executable, "-m", "oathbound.cli", "--help"], capture_output=True, text=True, check=True
    )
    verbs = [
        "init",
        "join",
        "oath",
        "check",
        "admit",
        "train",
        "audit",
        "release",
        "verify",
        "report",
        "explain",
        "demo",
        "completion",
        "data",
    ]
    places = [re.search(rf"^\s+{verb}\s", ran.stdout, re.MULTILINE).start() for verb in verbs]
    assert places == sorted(places)
    words = " ".join(ran.stdout.split())
    for code in Exit:
        assert f"{code.value} {code.meaning}" in words


def test_nothing_is_claimed_that_is_never_claimed():
    for page in PAGES:
        if page.name != "LIMITATIONS.md":
            text = page.read_text().lower()
            for claim in ("hipaa compliant", "gdpr ready", "no memorisation", "100 % secure"):
                assert claim not in text, page


COMMAND = re.compile(r"(?:^\s*\$ |`)oathbound ([a-z][^`\n|]*)", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def options_of(words: list[str]) -> set[str]:
    """Return the options of the verb, or of the verb and its object, that the words begin with."""
    group = typer.main.get_command(app)
    for word in words[:2]:
        group = getattr(group, "commands", {}).get(word, group)
    assert group.name in words[:2], f"no verb: {' '.join(words)}"
    return {option for parameter in group.params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_on_a_page_are_commands(page: Path):
    for line in COMMAND.findall(page.read_text()):
        assert set(OPTION.findall(line)) <= options_of(line.split()), line


def test_a_command_that_is_none_would_be_noticed():
    assert COMMAND.findall("run `oathbound verify A --trust B`") == ["verify A --trust B"]
    assert "--trust" in options_of(["verify"])
    assert "--force" not in options_of(["verify"])
    with pytest.raises(AssertionError):
        options_of(["frobnicate", "x"])


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "```console\n" in page.read_text()],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_a_page_that_shows_a_session_has_a_test_that_runs_it(page: Path):
    tests = (REPOSITORY / "tests").rglob("test_*.py")
    assert any(f'"{page.name}"' in test.read_text() for test in tests if test != Path(__file__)), page
