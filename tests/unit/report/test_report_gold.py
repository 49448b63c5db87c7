"""The whole page against gold pages, which a person has looked at in a browser.

After a change that is meant, write them anew, look at them and at the difference, and commit both:

    OATHBOUND_REGOLD=1 python -m pytest tests/unit/report/test_report_gold.py
"""

import os
import re
from pathlib import Path

import pytest

from oathbound.core.canonical import digest
from oathbound.report.audit_page import render_audit
from oathbound.report.card import audit_card, study_card
from oathbound.report.page import render

GOLD = Path(__file__).resolve().parents[2] / "gold" / "report"


def scrub(text: str) -> str:
    """Remove what a release changes without changing the report: the version."""
    return re.sub(r"Made by oathbound \S+ from", "Made by oathbound VERSION from", text)


def check(name: str, text: str) -> None:
    """Compare a text with its gold file, or write the file anew."""
    gold, text = GOLD / name, scrub(text)
    if os.environ.get("OATHBOUND_REGOLD") == "1":
        gold.parent.mkdir(parents=True, exist_ok=True)
        gold.write_text(text, encoding="utf-8", newline="\n")
    assert text == gold.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ["passed", "refused", "undecided", "laddered"])
def test_the_page_is_the_gold_page(case, request):
    check(f"{case}.html", render(request.getfixturevalue(case), bundle_digest=digest(case.encode())))


def test_the_page_without_a_study_is_the_gold_page(alone):
    check("alone.html", render_audit(alone, file_digest=digest(b"alone")))


def test_the_card_is_the_gold_card(laddered, alone):
    check("laddered.md", study_card(laddered, bundle_digest=digest(b"laddered")))
    check("alone.md", audit_card(alone, file_digest=digest(b"alone")))
