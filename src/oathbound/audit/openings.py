"""The beginning of a record: which events are facts of the person, and the tokens that say it."""

import re
from collections.abc import Sequence
from typing import Final

from oathbound.audit.target import HasTokens
from oathbound.core.patient import Event, Patient
from oathbound.models.tokenizer import BIRTH

LENGTH_BAND: Final = 8
"""Prompts whose lengths lie in one band of so many tokens are alike."""


def is_fact(event: Event) -> bool:
    """Return whether an event is a fact of the person: it has no date, or is the birth."""
    return event.time is None or event.code == BIRTH


def is_sex(event: Event) -> bool:
    """Return whether an event is a static fact of the family that MEDS data calls GENDER, or SEX."""
    return event.time is None and re.split("/+", event.code)[0].upper() in {"GENDER", "SEX"}


def opening(target: HasTokens, events: Sequence[Event]) -> tuple[int, ...]:
    """Return the tokens of the first events of a record that goes on."""
    tokens = target.tokenize(Patient(0, tuple(events)))
    return tokens[:-1] if tokens[-1] == target.eos else tokens
