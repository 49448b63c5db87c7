"""Counts of patients, as they may be shown: rounded to 5, and suppressed below 10."""

from typing import Final

LEAST_SHOWN: Final = 10
STEP: Final = 5


def rounded(count: int) -> int | None:
    """Return the count rounded to a multiple of 5, or None where it is below 10 and not 0."""
    if 0 < count < LEAST_SHOWN:
        return None
    return STEP * ((count + STEP // 2) // STEP)


def spoken(count: int) -> str:
    """Return the count as a sentence may hold it."""
    shown = rounded(count)
    return f"fewer than {LEAST_SHOWN}" if shown is None else f"about {shown}" if shown else "no"
