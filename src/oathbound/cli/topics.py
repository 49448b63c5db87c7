"""What `oathbound explain` can explain, in the words of the code."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, get_args

import typer

from oathbound.cli.schema import Key, keys_of, schema_of
from oathbound.core import errors, finding
from oathbound.core.audit_plan import PlanFile
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.endpoint import EndpointSettings
from oathbound.core.errors import OathboundError, WrongInput
from oathbound.core.exits import Exit
from oathbound.core.record import Record
from oathbound.core.study import Study
from oathbound.data.consent import Reason
from oathbound.data.kinds import KINDS as SOURCES
from oathbound.data.kinds import described
from oathbound.evidence.predicates import KINDS, Predicate
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import STEPS
from oathbound.workflow.folders import SiteFile

FILES: Final[dict[str, type[Record]]] = {
    "study": Study,
    "site": SiteFile,
    "trust": Trust,
    "audit-plan": PlanFile,
    "endpoint": EndpointSettings,
}
"""The files that people write."""

PAGES: Final = {
    "site": "docs/reference/site-keys.md",
    "audit-plan": "docs/guides/audit-any-model.md",
    "endpoint": "docs/guides/audit-endpoint.md",
}
"""Where those are explained that have no page in `spec/`."""

QUESTIONS: Final = {
    "embedding-probe": (
        "From the model's inner representation of a harmless beginning, does a probe read better who has a "
        "sensitive code, among patients it was trained on?"
    ),
    "attribute-inference": (
        "Given a whole record but one attribute, does the model give the true candidate away more surely for "
        "patients it was trained on?"
    ),
    "membership": "Given a whole record, can an attacker tell whether its patient was trained on?",
    "sensitive-disclosure": (
        "Given a harmless beginning of a record, does the model state a sensitive code more readily for "
        "patients it was trained on?"
    ),
    "canary": (
        "Does the training procedure keep its epsilon, when invented patients are planted in a sibling of "
        "the model?"
    ),
    "gradient-reconstruction": (
        "Can a patient's scan or signal be brought back from what a site sends in training: from a bare "
        "gradient, and from the sum that the study opens?"
    ),
    "image-linkage": (
        "Does the model's inner representation link two recordings of a person more surely, where it was "
        "trained on that person?"
    ),
    "identifier-perturbation": (
        "Does what the model says of a sensitive code fall more, when age, sex or dates change a little, for "
        "patients it was trained on?"
    ),
    "rare-subgroup": (
        "Are the oldest, or people with a rare code, or those of a small group exposed, where the average "
        "looks harmless?"
    ),
    "trajectory-recall": (
        "Given the beginning of a record, does the model go on as the record really did, more nearly for "
        "patients it was trained on?"
    ),
}
"""What each audit test asks; the first words of its page in `docs/audits/`."""

TABLES: Final = {
    "attribute-inference": "attributes",
    "canary": "canaries",
    "embedding-probe": "probe",
    "gradient-reconstruction": "reconstruction",
    "identifier-perturbation": "perturbation",
    "image-linkage": "linkage",
    "rare-subgroup": "groups",
    "sensitive-disclosure": "sensitive",
    "trajectory-recall": "trajectories",
}
"""Where a plan says how a test is run; without it the test does not run."""

REASONS: Final = {
    Reason.UNREADABLE: "A consent could not be read, or not understood whole: it cannot permit.",
    Reason.DENIED: "A rule denies the use, or the consent was rejected. A deny overrides every permit.",
    Reason.WITHHELD: "The patient withholds a class of sensitive data that the policy says its records hold.",
    Reason.WITHDRAWN: "The consent was given once, and is inactive now.",
    Reason.EXPIRED: "The consent's period, or that of the rule that would permit, is over.",
    Reason.NOT_YET: "The consent is a draft or a proposal, or begins later.",
    Reason.CONDITION: "The consent permits under a condition that the policy does not say it meets.",
    Reason.PURPOSE: "No rule names the purpose. A permit that names no purpose permits nothing.",
    Reason.NO_CONSENT: "There is no consent of the patient. Nothing is assumed in its place.",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """Something that can be explained: `title` in one line, `text` in full or empty, `page` to read on."""

    id: str
    kind: str
    title: str
    text: str = ""
    page: str = ""


def topics(context: typer.Context) -> tuple[Topic, ...]:
    """Return everything that can be explained; `context` is any of the command line."""
    return (
        *verb_topics(context),
        *exit_topics(),
        *error_topics(),
        *test_topics(),
        *file_topics(),
        *key_topics(),
        *source_topics(),
        *step_topics(),
        *statement_topics(),
        *reason_topics(),
    )


def find(asked: str, known: Sequence[Topic]) -> list[Topic]:
    """Return the topics of that id, of that number as an exit code, or of a key that ends so.

    Raises `WrongInput` with the nearest ids when there is none.
    """
    wanted = " ".join(asked.split()).lower()
    wanted = f"exit {wanted}" if wanted.isdecimal() else wanted
    found = [topic for topic in known if topic.id.lower() == wanted]
    found = found or [topic for topic in known if topic.id.lower().endswith(f".{wanted}")]
    if found:
        return found
    names = {name.lower(): topic.id for topic in known for name in (topic.id.rpartition(".")[2], topic.id)}
    near = list(dict.fromkeys(names[name] for name in get_close_matches(wanted, names, n=3)))
    if not near:
        near = [topic.id for topic in known if wanted in f"{topic.title} {topic.text}".lower().split()][:3]
    hint = f"perhaps: {', '.join(near)}" if near else "oathbound explain lists what can be explained"
    raise WrongInput(f"nothing is known of {asked!r}", hint=hint)


def verb_topics(context: typer.Context) -> Iterator[Topic]:
    """Yield the verbs, each with its whole help, and the objects of those that have some."""
    root = context.find_root()
    for name, command in getattr(root.command, "commands", {}).items():
        inner = typer.Context(command, info_name=name, parent=root)
        yield Topic(name, "verb", command.get_short_help_str(200), command.get_help(inner))
        for thing, told in getattr(command, "commands", {}).items():
            text = told.get_help(typer.Context(told, info_name=thing, parent=inner))
            yield Topic(f"{name} {thing}", "verb", told.get_short_help_str(200), text)


def exit_topics() -> Iterator[Topic]:
    """Yield the exit codes, with the errors that end in them."""
    for code in Exit:
        kinds = [error.__name__ for error in public_errors() if error.exit is code]
        text = f"Errors: {', '.join(kinds)}." if kinds else ""
        yield Topic(f"exit {code.value}", "exit code", code.meaning, text, "docs/reference/exit-codes.md")


def public_errors() -> list[type[OathboundError]]:
    """Return the errors that a caller may meet, in the order of `core/errors.py`."""
    return [
        each
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, OathboundError) and not name.startswith("_")
    ]


def error_topics() -> Iterator[Topic]:
    """Yield the errors, with their exit codes."""
    for error in public_errors():
        title, text = _said(error)
        code = f"Exit {error.exit.value}: {error.exit.meaning}."
        yield Topic(error.__name__, "error", title, f"{text}\n\n{code}".strip(), "docs/reference/errors.md")


def test_topics() -> Iterator[Topic]:
    """Yield the audit tests, and what they measure."""
    measures = {
        get_args(each.model_fields["kind"].annotation)[0]: each
        for each in (
            finding.Auc,
            finding.AucDifference,
            finding.TruePositiveRate,
            finding.Excess,
            finding.Tail,
            finding.Baseline,
            finding.OneRun,
            finding.Reconstruction,
        )
    }
    used: dict[str, list[str]] = {}
    for name, listed in CATALOGUE.items():
        text = [f"Version {listed.version}. It measures, at each site:"]
        for metric, scores in listed.metrics.items():
            text.append(f"  {metric} of {', '.join(sorted(scores))}")
            used.setdefault(metric, []).append(name)
        if name in TABLES:
            text.append(f"Its table: [policy.audit.{TABLES[name]}] of a study, [{TABLES[name]}] of a plan.")
        yield Topic(name, "audit test", QUESTIONS.get(name, name), "\n".join(text), f"docs/audits/{name}.md")
    for metric, tests in used.items():
        title, text_ = _said(measures[metric])
        page = f"docs/audits/{tests[0]}.md"
        yield Topic(metric, "metric", title, f"{text_}\n\nMeasured by {', '.join(tests)}.".strip(), page)


def file_topics() -> Iterator[Topic]:
    """Yield the files that people write, each with its tables and keys."""
    for file, record in FILES.items():
        title, text = _said(record)
        keys = "\n".join(f"  {key.path} = {key.kind}" for key in file_keys(record) if "." not in key.path)
        page = PAGES.get(file, f"spec/{file}.md")
        yield Topic(file, "file", title, f"{text}\n\nIts keys and tables:\n{keys}".strip(), page)


def key_topics() -> Iterator[Topic]:
    """Yield every key of every file that people write."""
    for file, record in FILES.items():
        for key in file_keys(record):
            page = PAGES.get(file, f"spec/{file}.md")
            title, _, rest = (key.text or key.kind).partition(". ")
            text = "\n\n".join(filter(None, (rest, f"{file}.toml: {key.path} = {key.kind}")))
            yield Topic(f"{file}.{key.path}", f"key of {file}.toml", title, text, page)


def file_keys(record: type[Record]) -> Iterator[Key]:
    """Yield the keys of a file that people write."""
    return keys_of(schema_of(record, ""))


def source_topics() -> Iterator[Topic]:
    """Yield the kinds of source that a site can name, each with its options."""
    for kind in sorted(SOURCES):
        title, _, text = described(kind).partition("\n\n")
        yield Topic(kind, "source", " ".join(title.split()), text, "docs/reference/site-keys.md")


def step_topics() -> Iterator[Topic]:
    """Yield the steps of `verify`."""
    refuses = "Where it does not hold, `verify` refuses with exit 10 or 11 and names this step."
    for number, step in STEPS.items():
        yield Topic(f"step {number}", "step of verify", step, refuses, "spec/verify.md")


def statement_topics() -> Iterator[Topic]:
    """Yield the statements of a study."""
    for uri, predicate in KINDS.items():
        title, text = _said(predicate)
        keys = "\n".join(f"  {key.path}: {key.kind}" for key in statement_keys(predicate))
        text = f"{text}\n\nSigned by: {predicate.role}. Type: {uri}\n{keys}".strip()
        yield Topic(predicate.kind, "statement", title, text, "spec/statement.md")


def statement_keys(predicate: type[Predicate]) -> Iterator[Key]:
    """Yield the keys of a predicate's own table."""
    return (key for key in keys_of(schema_of(predicate, "")) if "." not in key.path)


def reason_topics() -> Iterator[Topic]:
    """Yield the reasons for which consent keeps a patient out."""
    for reason in Reason:
        yield Topic(
            reason.value, "reason of consent", REASONS.get(reason, reason.value), "", "spec/consent.md"
        )


def _said(kind: type) -> tuple[str, str]:
    """Return the first sentence of a class's docstring, and the rest."""
    title, _, text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    return " ".join(title.split()), text
