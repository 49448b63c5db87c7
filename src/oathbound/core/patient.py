"""A patient's record as dated events: what a source yields, and the only unit that oathbound knows."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Event:
    """One MEDS event. `time` is None for a static fact; `value` is None where the code carries none.

    `frame` is what was recorded at it, in a source of scans or signals; events compare without it.
    """

    time: datetime | None
    code: str
    value: float | None
    frame: "np.ndarray | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Patient:
    """One person's events, static facts first, then by time. `subject_id` never leaves the site."""

    subject_id: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Columns:
    """The same records as arrays, one entry an event: whole patients, by id, each one's events in order.

    `subject` int64; `time` datetime64[us], NaT for a static fact; `code` unsigned, a place in `codes`;
    `value` float32 or float64, finite, or NaN where the code carries none. `frames`, in a source of scans or
    signals, what was recorded at each event: (events, ...), all of one shape, uint8, uint16 or float32.
    """

    subject: "np.ndarray"
    time: "np.ndarray"
    code: "np.ndarray"
    value: "np.ndarray"
    codes: tuple[str, ...]
    frames: "np.ndarray | None" = None
