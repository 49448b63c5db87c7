"""What is generated from the code is committed as the code is now, and schemas accept what there is."""

import base64
import importlib.util
import json
import tomllib
from functools import cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from oathbound.cli.answers import ANSWERS
from oathbound.cli.schema import schema_of
from oathbound.core.study import Study
from oathbound.evidence.predicates import KINDS, PREFIX
from oathbound.testing.consortium import Consortium

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = REPOSITORY / "spec" / "schema"


def module():
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs" / "generate.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


generate = module()
FILES = generate.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_committed_as_the_code_is_now(path: Path):
    assert path.is_file(), "make docs"
    assert path.read_text(encoding="utf-8") == FILES[path], "make docs"


def test_no_schema_of_what_is_no_longer_there():
    assert set(SCHEMAS.iterdir()) == {path for path in FILES if path.parent == SCHEMAS}


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent == SCHEMAS], ids=lambda path: path.name
)
def test_a_schema_is_one(path: Path):
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{PREFIX}schema/{path.name}"


@pytest.mark.parametrize("verb", ANSWERS)
def test_an_example_is_what_its_schema_allows(verb: str):
    schema = schema_of(ANSWERS[verb], "", output=True)
    example = generate.example(schema, schema.get("$defs", {}))
    validator(f"output-{verb}").validate(example)
    for key in example:
        with pytest.raises(ValidationError):
            validator(f"output-{verb}").validate({name: example[name] for name in example if name != key})
    validator(f"output-{verb}").validate(example | {"to-come": 1})


@pytest.mark.parametrize("kind", ["study", "trust", "site"])
def test_a_schema_refuses_an_unknown_key_and_a_float(kind: str):
    example = {"format": f"oathbound/{kind}/v1", "budget": {"epsilon": 3.0, "delta": "1e-6"}}
    assert list(validator(kind).iter_errors(example))


@pytest.mark.parametrize("template", ["study.toml", "demo-plain.toml", "demo-private.toml"])
def test_study_files_meet_the_schema(template: str):
    text = (REPOSITORY / "src" / "oathbound" / "workflow" / "templates" / template).read_text()
    digest = "sha256:" + 64 * "0"
    sites = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "{digest}"\n'
        for name in ("north", "east", "south")
    )
    for place, value in (("study", "s"), ("coordinator", digest), ("folder", "sites"), ("sites", sites)):
        text = text.replace(f"${place}\n" if place == "sites" else f"${place}", value)
    study = tomllib.loads(text)
    validator("study").validate(study)
    study["policy"]["epsilom"] = "3"
    with pytest.raises(ValidationError):
        validator("study").validate(study)


def test_statements_and_policies_meet_their_schemas():
    consortium = Consortium.finished()
    seen = set()
    for leaf in (leaf for log in consortium.logs.values() for leaf in log):
        statement = json.loads(base64.b64decode(json.loads(leaf)["payload"]))
        name = statement["predicateType"].removeprefix(PREFIX)
        validator(f"statement-{name.replace('/', '-')}").validate(statement["predicate"])
        seen.add(statement["predicateType"])
    assert seen == set(KINDS)
    run = {"engine": "local", "sites": "sites", "threads": 0}
    study = {"format": "oathbound/study/v1", "policy": consortium.policy.plain(), "run": run}
    Study.parse(study, what="study")
    validator("study").validate(study)
