"""The whole page against gold pages, which a person has looked at in a browser.

After a change that is meant, write them anew, look at them and at the difference, and commit both:

    OATHBOUND_REGOLD=1 python -m pytest tests/unit/report/test_report_gold.py
"""

import os
import re
from pathlib import Path

import pytest

from oathbound.core.canonical import digest
from oathbound.report.page import render

GOLD = Path(__file__).resolve().parents[2] / "gold" / "report"


def scrub(html: str) -> str:
    """Remove what a release changes without changing the report: the version."""
    return re.sub(r"Made by oathbound \S+ from", "Made by oathbound VERSION from", html)


@pytest.mark.parametrize("case", ["passed", "refused", "undecided"])
def test_the_page_is_the_gold_page(case, request):
    html = scrub(render(request.getfixturevalue(case), bundle_digest=digest(case.encode())))
    gold = GOLD / f"{case}.html"
    if os.environ.get("OATHBOUND_REGOLD") == "1":
        gold.parent.mkdir(parents=True, exist_ok=True)
        gold.write_text(html, encoding="utf-8", newline="\n")
    assert html == gold.read_text(encoding="utf-8")
