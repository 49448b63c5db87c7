"""A section for a model card, as Markdown: a part of what the page says, in the page's words.

Texts that others wrote are escaped, so that they stay texts: a card is shown on somebody's web page.
"""

import re
from collections.abc import Iterator
from typing import Final

from oathbound import __version__
from oathbound.core.folder_audit import NO_VERDICT, FolderAudit
from oathbound.core.record import decimal_text
from oathbound.evidence.verify import Verified
from oathbound.report.attacks import audit_attacks, audit_confidences, grounds
from oathbound.report.audit_page import audit_digests, audit_not_run
from oathbound.report.environment import scientific, upper_first
from oathbound.report.tables import Table, cohorts, count, identities, not_run
from oathbound.report.words import UNJUDGED_AUDIT, Said, said_of

CARD: Final = "<!-- oathbound: section of a model card -->"
"""The first line, by which an earlier card is known."""

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~&$@!]|:(?=//)|(?<=www)\.)")


def escaped(text: str) -> str:
    """Return the text such that Markdown, with tables, autolinks and formulas, shows it as it is."""
    return " ".join(_SPECIAL.sub(r"\\\1", text).split("\n"))


def study_card(verified: Verified, *, bundle_digest: str) -> str:
    """Return the section about a verified bundle; `bundle_digest` is the digest of its bytes."""
    policy, verdict = verified.policy, verified.judgement.verdict
    found = Table(
        "",
        ("Measure", "Gate", "Interval", "Result", "Of"),
        tuple(
            (each.metric, decimal_text(each.limit), each.interval, each.word, each.source)
            for each in grounds(verified)
        ),
    )
    known = (*identities(verified, bundle_digest), *cohorts(verified.admissions))
    return _lines(
        *_opening(said_of(verified.judgement), verified.judgement.sentence),
        "### Gates",
        *_table(found),
        "### Privacy",
        _privacy(verified),
        *_missing(not_run(verified)),
        "### Digests",
        *_table(Table("", ("Of", "Digest"), known)),
        "### Verify",
        *_commands(
            f"sha256sum {policy.study}.oath", f"oathbound verify {policy.study}.oath --trust trust.toml"
        ),
        f"The last command must end with exit code {verdict.exit.value}: {verdict.exit.meaning}. "
        "Write `trust.toml` yourself, from fingerprints that each site told you.",
        f"Made by oathbound {__version__} from a verified bundle.",
    )


def audit_card(audit: FolderAudit, *, file_digest: str) -> str:
    """Return the section about an audit without a study; `file_digest` is the digest of its file."""
    attacks = audit_attacks(audit)
    rows = tuple(
        (attack.test, f"{figure.metric.name} of {score.name}", row.interval, row.word)
        for attack in attacks
        for figure in attack.figures
        for score in figure.scores
        for row in score.rows
    )
    ladders = [
        each
        for attack in attacks
        if attack.ladder
        for each in (attack.ladder.sentence, attack.ladder.meaning)
    ]
    said = [f"- {each}" for attack in attacks for each in map(escaped, attack.blind)]
    known = "not known" if audit.known is None else f"{audit.known} % of the events"
    return _lines(
        *_opening(UNJUDGED_AUDIT, NO_VERDICT),
        "**Nobody signed this.**",
        f"Attempt {count(audit.attempt)}; in the vocabulary of the model: {known}; patients who could not be "
        f"read: {f'up to {audit.unread} %' if audit.unread else 'none'}.",
        "### What the attacks found",
        *(_table(Table("", ("Test", "Measure", "Interval", "Result"), rows)) if rows else ()),
        *(f"Confidence of an interval: {each}." for each in audit_confidences(audit)),
        *map(escaped, ladders),
        *(["\n".join(said)] if said else []),
        *_missing(audit_not_run(audit)),
        "### Digests",
        *_table(audit_digests(audit, file_digest)),
        "### Check",
        *_commands("sha256sum findings.json", "oathbound report findings.json -o findings.html"),
        f"Made by oathbound {__version__} from a file of findings that nobody signed.",
    )


def _opening(said: Said, sentence: str) -> tuple[str, ...]:
    return (
        CARD,
        "## Memorisation audit",
        f"**{said.word}.** {said.headline} {said.meaning}",
        f"{escaped(upper_first(sentence))}.",
    )


def _privacy(verified: Verified) -> str:
    spent, budget = verified.epsilon, verified.policy.budget
    if spent is None or budget is None:
        return "Unbounded: this study was trained without differential privacy."
    return (
        f"ε = {decimal_text(spent)} of {decimal_text(budget.epsilon)} allowed, at δ = "
        f"{scientific(budget.delta)}, per {budget.protected}, add or remove one."
    )


def _missing(missing: Table) -> Iterator[str]:
    yield "### What was not run, and why"
    if missing.rows:
        yield from _table(missing)
    else:
        yield "Every measure that was asked for was taken. That says nothing about other attacks."


def _table(table: Table) -> Iterator[str]:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    yield "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return f"`{text}`" if text.startswith("sha256:") else escaped(text)


def _commands(*commands: str) -> Iterator[str]:
    yield "\n".join(("```console", "pip install oathbound", *commands, "```"))


def _lines(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs) + "\n"
