"""A patient's record as dated events: what a source yields, and the only unit that oathbound knows."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One MEDS event. `time` is None for a static fact; `value` is None where the code carries none."""

    time: datetime | None
    code: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Patient:
    """One person's events, static facts first, then by time. `subject_id` never leaves the site."""

    subject_id: int
    events: tuple[Event, ...]
