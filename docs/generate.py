# ruff: noqa: INP001 - a script, not a package
"""Write what is generated from the code: the pages of `docs/reference/` and the schemas of `spec/schema/`.

`make docs` runs it; a test fails where a committed file is not what it would write.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from oathbound.cli import topics
from oathbound.cli.answers import ANSWERS
from oathbound.cli.main import app
from oathbound.cli.schema import DECIMAL, Key, schema_of
from oathbound.core.exits import Exit
from oathbound.core.finding import Finding
from oathbound.core.folder_audit import FolderAudit
from oathbound.evidence.predicates import KINDS
from oathbound.evidence.verify import STEPS

REPOSITORY: Final = Path(__file__).resolve().parents[1]
WIDTH: Final = 100
NOTE: Final = "Generated from the code by `make docs`; not edited by hand."


def files() -> dict[Path, str]:
    """Return every generated file, with its text."""
    reference, schema = REPOSITORY / "docs" / "reference", REPOSITORY / "spec" / "schema"
    pages = {
        "commands": commands(),
        "exit-codes": exit_codes(),
        "errors": errors(),
        "study-keys": keys(
            "study", "What every site signs (`[policy]`), and what changes only the speed (`[run]`)."
        ),
        "site-keys": keys("site", "A site's own file: never shared, and signed by nobody."),
        "trust-keys": keys("trust", "Whom a verifier trusts, compared out of band."),
        "verify-steps": verify_steps(),
        "statements": statements(),
        "audit-tests": audit_tests(),
        "json-output": json_output(),
    }
    schemas = {file: schema_of(record, f"{file}.schema.json") for file, record in topics.FILES.items()}
    schemas["finding"] = schema_of(Finding, "finding.schema.json")
    schemas["findings"] = schema_of(FolderAudit, "findings.schema.json")
    for predicate in KINDS.values():
        name = f"statement-{predicate.kind.replace('/', '-')}"
        schemas[name] = schema_of(predicate, f"{name}.schema.json")
    for verb, record in ANSWERS.items():
        schemas[f"output-{verb}"] = schema_of(record, f"output-{verb}.schema.json", output=True)
    return {reference / f"{name}.md": text for name, text in pages.items()} | {
        schema / f"{name}.schema.json": json.dumps(each, indent=2) + "\n" for name, each in schemas.items()
    }


def root() -> typer.Context:
    """Return the context of the command line, as wide as these pages."""
    context = typer.Context(typer.main.get_command(app), info_name="oathbound")
    context.terminal_width = WIDTH
    return context


def page(title: str, introduction: str, *parts: str) -> str:
    """Return a page."""
    return "\n\n".join((f"# {title}", introduction, *parts, NOTE)) + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown; a bar in a cell is escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def code(text: str, language: str = "") -> str:
    """Return a block of code."""
    return f"```{language}\n{text}\n```"


def commands() -> str:
    """Return the page of all verbs."""
    context = root()
    parts = [code(context.get_help())]
    parts += [f"## `{verb.id}`\n\n{code(verb.text)}" for verb in topics.verb_topics(context)]
    introduction = (
        "The verbs in the order of a study. No option and no environment variable changes a policy."
    )
    return page("Commands", introduction, *parts)


EXIT_CODES: Final = """\
One number says what happened; none is ever reused. `verify` uses 10 and 11 for evidence, and the verdict's
code where evidence holds: `verify` of an authentic bundle whose release was refused exits 12.

An error is one line, `error: ...`, and often a second, `hint: ...`, both on stderr; stdout then holds
nothing. With `--format json` it is one JSON object ([json-output.md](json-output.md)).\
"""


def exit_codes() -> str:
    """Return the page of exit codes."""
    rows = ((str(code.value), code.meaning) for code in Exit)
    return page("Exit codes", EXIT_CODES, table(("code", "meaning"), rows))


def errors() -> str:
    """Return the page of errors."""
    rows, public = [], topics.public_errors()
    for error in public:
        depth = sum(base in public for base in error.__mro__[1:])
        said = " ".join((error.__doc__ or "").split())
        rows.append((f"{'&nbsp;&nbsp;' * depth}`{error.__name__}`", str(error.exit.value), said))
    introduction = "Every way in which oathbound refuses. The `kind` of an error in JSON is one of these."
    return page("Errors", introduction, table(("error", "exit", "what it says"), rows))


def keys(file: str, introduction: str) -> str:
    """Return the page of the keys of a file that people write."""
    rows = key_rows(topics.file_keys(topics.FILES[file]))
    schema = f"spec/schema/{file}.schema.json"
    said = f"{introduction} Its schema: [{schema}](../../{schema}). Decimal text is in quotes, and exact."
    return page(f"Keys of `{file}.toml`", said, table(("key", "is", "says"), rows))


def key_rows(described: Iterable[Key]) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each key."""
    for key in described:
        yield f"`{key.path}`", key.kind, key.text


def verify_steps() -> str:
    """Return the page of the steps of `verify`."""
    rows = ((str(number), step) for number, step in STEPS.items())
    return page(
        "Steps of `verify`",
        "A refusal names the step. What each step demands stands in [spec/verify.md](../../spec/verify.md).",
        table(("step", "what holds after it"), rows),
    )


def statements() -> str:
    """Return the page of statements."""
    parts = []
    for uri, predicate in KINDS.items():
        said = " ".join((predicate.__doc__ or "").split())
        rows = ((f"`{key.path}`", key.kind) for key in topics.statement_keys(predicate))
        parts.append(
            f"## `{predicate.kind}`\n\n{said} Signed by: {predicate.role}. Type: `{uri}`.\n\n"
            + table(("key", "is"), rows)
        )
    introduction = (
        "What a site or the coordinator signs; [spec/statement.md](../../spec/statement.md) has the envelope."
    )
    return page("Statements", introduction, *parts)


def audit_tests() -> str:
    """Return the page of audit tests."""
    parts = []
    for topic in topics.test_topics():
        read_on = f"[{topic.page}](../../{topic.page})"
        parts.append(f"## `{topic.id}`: {topic.kind}\n\n{topic.title}\n\n{topic.text}\n\nMore: {read_on}.")
    introduction = "What the audit tests ask, and what they measure. Each has a page with its calibration."
    return page("Audit tests", introduction, *parts)


JSON_OUTPUT: Final = """\
With `--format json` stdout holds one JSON object, which names its `format`, and nothing else. Every key is
always there, and null where there is no value. Under one `format` no key is taken away or changes its
meaning; new ones may come. Exact numbers are decimal text.

Where a verb cannot do what was asked, stdout is empty, and stderr holds one object of the format
`oathbound/error/v1`; the exit code is the same as without JSON. An error that nobody foresaw (exit 1) is a
traceback.

The examples show the form, not a run.\
"""


def json_output() -> str:
    """Return the page of JSON output, with an example of each verb."""
    parts = []
    for verb, record in ANSWERS.items():
        schema = schema_of(record, "", output=True)
        link = f"[schema](../../spec/schema/output-{verb}.schema.json)"
        shown = json.dumps(example(schema, schema.get("$defs", {})), indent=2, sort_keys=True)
        said = " ".join((record.__doc__ or "").split())
        parts.append(f"## `{verb}`\n\n{said} {link}\n\n{code(shown, 'json')}")
    return page("JSON output", JSON_OUTPUT, *parts)


EXAMPLES: Final = {
    DECIMAL: "0.5",
    "^sha256:[0-9a-f]{64}$": "sha256:" + 64 * "0",
    "^[a-z][a-z0-9-]{0,62}$": "north",
}
"""By the pattern that it must match."""


def example(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """Return a value that the schema allows."""
    if choices := node.get("anyOf") or node.get("oneOf"):
        return example(choices[0], defs)
    if "$ref" in node:
        return example(defs[node["$ref"].rpartition("/")[2]], defs)
    if node.get("type") == "object":
        return {name: example(field, defs) for name, field in node.get("properties", {}).items()}
    if node.get("type") == "array" and "examples" not in node:
        return [example(node["items"], defs)]
    return scalar(node)


def scalar(node: Mapping[str, Any]) -> Any:
    """Return the example that the schema gives, or a value of its type."""
    for given in ("examples", "enum"):
        if given in node:
            return node[given][0]
    if "const" in node:
        return node["const"]
    pattern = EXAMPLES.get(node.get("pattern", ""), "...")
    return {"integer": node.get("minimum") or 10, "boolean": True, "string": pattern}[node["type"]]


def main() -> None:
    """Write every file, and take away schemas of what is no longer there."""
    written = files()
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in (REPOSITORY / "spec" / "schema").glob("*.json"):
        if path not in written:
            path.unlink()


if __name__ == "__main__":
    main()
