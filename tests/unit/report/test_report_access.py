"""The page for whoever does not see it as we do: landmarks, headings, tables, contrast, larger type."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from oathbound.core.canonical import digest
from oathbound.report.page import render

CSS = (files("oathbound.report") / "templates" / "report.css").read_text(encoding="utf-8")
COLOURS = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", CSS))
ENOUGH_FOR_TEXT, ENOUGH_FOR_SHAPES = 4.5, 3.0
"""WCAG 2.2, success criteria 1.4.3 and 1.4.11."""


class Outline(HTMLParser):
    """Landmarks, the levels of headings, and of each table its caption and its header cells' scopes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.landmarks, self.levels, self.tables, self.unlabelled = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in {"header", "main", "footer"}:
            self.landmarks.append(tag)
        elif re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        elif tag == "table":
            self.tables.append({"caption": 0, "scopes": []})
        elif tag == "caption":
            self.tables[-1]["caption"] += 1
        elif tag == "th":
            self.tables[-1]["scopes"].append(attributes.get("scope"))
        elif tag in {"section", "article"} and "aria-labelledby" not in attributes:
            self.unlabelled.append(tag)


@pytest.fixture(params=["passed", "refused", "undecided"])
def html(request):
    return render(request.getfixturevalue(request.param), bundle_digest=digest(b"bundle"))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, by the definition of relative luminance in WCAG 2.2."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_defined():
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("ground", ["paper", "wash"])
@pytest.mark.parametrize("text", ["ink", "soft", "accent", "pass", "fail", "inconclusive"])
def test_every_text_has_enough_contrast(text, ground):
    assert contrast(COLOURS[text], COLOURS[ground]) >= ENOUGH_FOR_TEXT


def test_the_bar_of_the_budget_stands_out_from_what_is_left():
    assert contrast(COLOURS["accent"], COLOURS["line"]) >= ENOUGH_FOR_SHAPES


def test_no_colour_is_used_that_was_not_measured():
    rules = CSS[CSS.index("}") :]
    used = set(re.findall(r"(?<![-\w])(?:color|fill|stroke|background): (?:var\(--)?([^;)}]+)", rules))
    assert used <= {"none", "state", *COLOURS}
    assert set(re.findall(r"--state: var\(--([a-z]+)\)", rules)) == {"pass", "fail", "inconclusive", "accent"}
    assert "prefers-color-scheme" not in CSS


def test_text_is_sized_by_the_reader():
    screen = CSS[: CSS.index("@page")]
    sizes = re.findall(r"font(?:-size)?: ([^;]+);", screen)
    assert all("rem" in size for size in sizes)
    assert not [size for size in sizes if re.search(r"\d(px|pt|em)", size)]
    assert all(float(size) >= 0.75 for size in re.findall(r"(?<![\d.])([\d.]+)rem", " ".join(sizes)))


def test_nothing_is_wider_than_the_screen():
    assert not re.search(r"(?<!max-)(?<!min-)width: \d{3,}px", CSS)
    assert "overflow-wrap: anywhere" in CSS
    assert "nowrap" not in CSS.replace(
        ".forest .ends, .forest .patients, .state { white-space: nowrap; }", ""
    )


def test_landmarks_come_once_and_in_order(html):
    assert Outline(html).landmarks == ["header", "main", "footer"]


def test_headings_skip_no_level_and_every_section_has_one(html):
    outline = Outline(html)
    assert outline.levels.count(1) == 1
    assert outline.levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert not outline.unlabelled


def test_every_table_has_a_caption_and_says_what_its_headers_head(html):
    tables = Outline(html).tables
    assert tables
    for table in tables:
        assert table["caption"] == 1
        assert "col" in table["scopes"]
        assert "row" in table["scopes"]
        assert None not in table["scopes"]


def test_the_headers_of_tables_stay_for_screen_readers_on_a_telephone():
    assert "display: none" not in "".join(re.findall(r"thead \{[^}]*\}", CSS))
