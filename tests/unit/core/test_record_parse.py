from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from oathbound.core.errors import WrongInput
from oathbound.core.record import Exact, Record, Text


class Dose(Record):
    amount: Exact
    unit: Text


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "abc",
        "NaN",
        "Infinity",
        "1_000",
        "+1",
        "01",
        "1.",
        ".5",
        " 1",
        "\u0661",
        "1e",
        "1e999",
        "1e99",
        None,
        [],
        {},
        True,
    ],
)
def test_a_number_that_is_not_exact_is_refused(amount):
    with pytest.raises(WrongInput, match="the dose: amount: "):
        Dose.parse({"amount": amount, "unit": "mg"}, what="the dose")


def test_a_text_that_is_no_number_is_said_to_be_none():
    with pytest.raises(WrongInput, match="amount: not a decimal number such as"):
        Dose.parse({"amount": "ten", "unit": "mg"}, what="the dose")


def test_a_bare_number_is_told_to_be_quoted():
    for amount in (1, 0.5):
        with pytest.raises(WrongInput, match=f'write the number in quotes: "{amount}"'):
            Dose.parse({"amount": amount, "unit": "mg"}, what="the dose")


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_is_refused(amount):
    with pytest.raises(ValidationError, match="not a decimal number"):
        Dose(amount=Decimal(amount), unit="mg")


def test_a_date_in_a_mapping_is_refused_with_a_hint():
    with pytest.raises(WrongInput, match="the dose: ") as refusal:
        Dose.parse({"amount": "1", "unit": datetime(2026, 1, 1, tzinfo=UTC)}, what="the dose")
    assert "quotes" in refusal.value.hint


def test_an_unknown_key_is_named_before_other_errors():
    with pytest.raises(WrongInput, match=r"the dose: units: unknown key \(and 2 more\)") as refusal:
        Dose.parse({"amount": 1, "units": "mg"}, what="the dose")
    assert "spelling" in refusal.value.hint


def test_a_missing_key_is_named():
    with pytest.raises(WrongInput, match="the dose: unit: missing") as refusal:
        Dose.parse({"amount": "1"}, what="the dose")
    assert "oathbound explain" in refusal.value.hint


@pytest.mark.parametrize("unit", ["", "a\nb", "\x1b[2J", "\u202egm", "m" * 2001])
def test_a_text_that_a_terminal_could_show_otherwise_is_refused(unit):
    with pytest.raises(WrongInput, match="unit"):
        Dose.parse({"amount": "1", "unit": unit}, what="the dose")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(WrongInput, match="the dose"):
        Dose.parse(data, what="the dose")
