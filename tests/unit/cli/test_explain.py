"""Everything that oathbound names can be asked about, in a base install too."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import typer

from oathbound.cli import topics
from oathbound.cli.main import app
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import WrongInput
from oathbound.core.exits import Exit
from oathbound.data.consent import Reason
from oathbound.evidence.predicates import KINDS
from oathbound.evidence.verify import STEPS

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def known():
    return topics.topics(typer.Context(typer.main.get_command(app), info_name="oathbound"))


def ids(found) -> list[str]:
    return [topic.id for topic in found]


def test_every_name_is_a_topic_once_and_says_something(known):
    assert len(set(ids(known))) == len(known)
    for topic in known:
        assert topic.title
        assert ids(topics.find(topic.id, known)) == [topic.id]
    expected = {f"exit {code.value}" for code in Exit} | {f"step {number}" for number in STEPS}
    expected |= {predicate.kind for predicate in KINDS.values()} | set(CATALOGUE) | {*Reason}
    expected |= {metric for listed in CATALOGUE.values() for metric in listed.metrics}
    expected |= {error.__name__ for error in topics.public_errors()}
    assert expected <= set(ids(known))


def test_every_key_has_a_sentence():
    for record in topics.FILES.values():
        for key in topics.file_keys(record):
            assert key.text.endswith("."), key


def test_every_reason_and_every_test_has_its_words():
    assert set(topics.REASONS) == set(Reason)
    assert set(topics.QUESTIONS) == set(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_question_is_that_of_its_page(name: str):
    page = (REPOSITORY / "docs" / "audits" / f"{name}.md").read_text()
    question = re.search(r"\*\*Question\.\*\* (.*?)\n\n", page, re.DOTALL)
    assert question
    assert " ".join(question[1].split()) == topics.QUESTIONS[name]


def test_pages_to_read_on_are_there(known):
    for topic in known:
        assert not topic.page or (REPOSITORY / topic.page).is_file(), topic


def test_numbers_keys_and_case(known):
    assert ids(topics.find("12", known)) == ["exit 12"]
    assert ids(topics.find("policy.budget.epsilon", known)) == ["study.policy.budget.epsilon"]
    assert ids(topics.find("budget.epsilon", known)) == ["study.policy.budget.epsilon", "site.budget.epsilon"]
    assert ids(topics.find("budgetrefused", known)) == ["BudgetRefused"]
    assert ids(topics.find("  Step   9 ", known)) == ["step 9"]


def test_the_nearest_are_offered(known):
    for asked, near in (("verfy", "verify"), ("epsilom", "epsilon"), ("BudgetRefuse", "BudgetRefused")):
        with pytest.raises(WrongInput) as refused:
            topics.find(asked, known)
        assert near in refused.value.hint
    with pytest.raises(WrongInput) as refused:
        topics.find("qqqqqqqq", known)
    assert "lists" in refused.value.hint


def test_on_the_command_line(run):
    told = run("explain", "step", "9")
    assert told.returncode == 0
    assert STEPS[9] in told.stdout
    everything = run("explain")
    assert everything.returncode == 0
    assert all(f"exit {code.value} " in everything.stdout for code in Exit)
    refused = run("explain", "epsilom")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "epsilon" in refused.stderr.splitlines()[1]


def test_keys_of_the_commented_study_file_are_keys(known):
    template = (files("oathbound.workflow") / "templates" / "study.toml").read_text()
    for table in re.findall(r"^\[+([a-z_.]+)\]+", template, re.MULTILINE):
        assert topics.find(f"study.{table}", known)
