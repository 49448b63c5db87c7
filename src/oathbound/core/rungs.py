"""How much an attacker knows before asking the model: the rungs of a ladder, by their names.

A ladder is a chain of rungs, each of which knows all that the one before knows, and more. What a rung means
in a model's vocabulary is said in `docs/audits/ladder.md`. Standard library only: a policy names rungs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from oathbound.core.errors import WrongInput

EVENTS: Final = (1, 2, 5, 10, 20, 50)
"""How many events the attacker of the published ladder knows."""

MOST_EVENTS: Final = 1000

_NAME: Final = re.compile(r"nothing|age-and-sex|codes-([1-9][0-9]{0,3})(?:-(dates|values))?")


@dataclass(frozen=True, slots=True)
class Rung:
    """What an attacker knows of a person, before asking the model.

    Nothing; or age and sex; or also the codes of the first `codes` events, and other facts without a date;
    with `dates`, when these events were; with `values`, the values that were measured, too.
    """

    person: bool
    codes: int = 0
    dates: bool = False
    values: bool = False

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the rung of a name, or raise `WrongInput`."""
        match = _NAME.fullmatch(name)
        codes = int(match[1] or 0) if match else 0
        if not match or codes > MOST_EVENTS:
            raise WrongInput(
                f"no rung of the ladder is called {name}",
                hint="nothing, age-and-sex, codes-10, codes-10-dates, codes-10-values; any number to 1000",
            )
        further = match[2]
        return cls(name != "nothing", codes, dates=further is not None, values=further == "values")

    @property
    def name(self) -> str:
        """The name of the score that reports the rung."""
        if not self.person:
            return "nothing"
        if not self.codes:
            return "age-and-sex"
        return f"codes-{self.codes}" + ("-values" if self.values else "-dates" if self.dates else "")

    def knows(self, other: "Rung") -> bool:
        """Return whether whoever stands here knows all that is known at `other`."""
        return (
            self.person >= other.person
            and self.codes >= other.codes
            and self.dates >= other.dates
            and self.values >= other.values
        )


def ladder_of(names: Sequence[str], most_events: int) -> tuple[Rung, ...]:
    """Return the rungs of these names, from the bottom.

    Raises `WrongInput` unless each knows all that the one before knows, and more, and none knows more than
    `most_events` events: the risk of a rung is the largest of those below it, and that must be of attackers
    who knew less.
    """
    rungs = tuple(Rung.parse(name) for name in names)
    for below, above in pairwise(rungs):
        if below == above or not above.knows(below):
            raise WrongInput(
                f"the rung {above.name} does not know all that {below.name} knows, and more",
                hint="first more codes, then their dates, then their values",
            )
    if rungs and rungs[-1].codes > most_events:
        raise WrongInput(
            f"the rung {rungs[-1].name} knows more events than prompt_events, which is {most_events}",
            hint="raise prompt_events to the most events of the ladder",
        )
    return rungs


def published_ladder(most_events: int) -> tuple[str, ...]:
    """Return nothing, age and sex, 1, 2, 5, 10, 20 and 50 codes up to `most_events`, their dates, values."""
    counts = [count for count in EVENTS if count <= most_events]
    codes = [f"codes-{count}" for count in counts]
    return (
        "nothing",
        "age-and-sex",
        *codes,
        *(f"{codes[-1]}-{each}" for each in ("dates", "values") if codes),
    )
