"""What a model's tokens say: which code, and how much later. Learnt by asking its tokenizer alone.

A trajectory is a list of dated events. Two of them can be compared only where it is known which tokens are
events, what code each states, and how much time each other one lets pass. A black box does not tell; but it
turns any record into tokens, and what it puts between two events that are some hours apart is the token of
that gap.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.harm.codes import BY_PREFIX, Coded, read
from oathbound.audit.target import Floats, HasTokens, Tokens
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient

_BEGIN: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - MEDS has no zone
_MINUTES: Final = np.unique(np.geomspace(1, 60 * 24 * 365 * 100, 150).astype(np.int64)).tolist()
"""Gaps that are tried, ascending, up to a hundred years: each about a seventh longer than the one before."""

NO_GAP: Final = -1
"""Where no token stands between an event and the one before: the two have one time."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The events of a continuation, one array entry each.

    `tokens` state code and value bin, `gaps` are the tokens of the time since the event before, or `NO_GAP`,
    and `hours` is the time since the prompt.
    """

    tokens: Tokens
    gaps: Tokens
    hours: Floats

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.tokens)

    def first(self, events: int) -> "Trajectory":
        """Return the trajectory cut after so many events."""
        return Trajectory(self.tokens[:events], self.gaps[:events], self.hours[:events])


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Of every token, what it says.

    `hours`, shape (size,), is the time that a token lets pass, NaN where it states an event. `paths` leads
    from the vocabulary down to the code, then to the value bin; a token that it lacks states a code that
    nobody under audit has.
    """

    eos: int
    hours: Floats
    paths: Mapping[int, tuple[str, ...]]

    def trajectory(self, continuation: Sequence[int] | NDArray[np.int64]) -> Trajectory:
        """Return what a continuation says before EOS. A gap at its end, before no event, is left out."""
        said = np.asarray(continuation, dtype=np.int64)
        ends = np.flatnonzero(said == self.eos)
        said = said[: ends[0]] if ends.size else said
        passed = self.hours[said]
        is_event = np.isnan(passed)
        events = np.flatnonzero(is_event)
        after_gap = (events > 0) & ~is_event[np.maximum(events - 1, 0)]
        gaps = np.where(after_gap, said[np.maximum(events - 1, 0)], NO_GAP)
        return Trajectory(said[events], gaps, np.nancumsum(passed)[events])


def lexicon_of(target: HasTokens, patients: Iterable[Patient]) -> Lexicon:
    """Learn what the tokens say, from the codes of these patients' events and from invented gaps.

    A band of time counts as the shortest gap tried that it stands for, so that its real length is at least
    that. A vocabulary without tokens of time gives none, and then all events have one time.
    """
    codes = sorted({event.code for patient in patients for event in patient.events})
    paths = {}
    for code in codes:
        try:
            tokens = sorted(target.tokens_of(code))
        except WrongInput:  # the model does not know it, so it can state it nowhere
            continue
        for token in tokens:
            paths[token] = (*path_of(code), *((f"bin {token}",) if len(tokens) > 1 else ()))
    hours = np.full(target.size, np.nan)
    for token, minutes in _gaps(target, codes).items():
        hours[token] = minutes / 60
    return Lexicon(
        target.eos, hours, {token: path for token, path in paths.items() if np.isnan(hours[token])}
    )


def _gaps(target: HasTokens, codes: Sequence[str]) -> dict[int, int]:
    """Return of every token of time the minutes that it stands for at least."""
    spoken = (code for code in codes if len(_said(target, code, [])) < len(_said(target, code, [0])))
    code = next(spoken, None)
    if code is None:
        return {}
    alone, together = (_said(target, code, [0] * events) for events in (1, 2))
    gaps: dict[int, int] = {}
    for minutes in _MINUTES:
        between = _said(target, code, [0, minutes])[len(alone) : len(alone) - len(together)]
        if len(between) == 1:
            gaps.setdefault(between[0], minutes)
    return gaps


def _said(target: HasTokens, code: str, minutes: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens of a record of one code, stated so many minutes after its begin, without EOS."""
    events = (Event(_BEGIN + dt.timedelta(minutes=after), code, None) for after in minutes)
    tokens = target.tokenize(Patient(0, tuple(events)))
    return tokens[:-1] if tokens[-1] == target.eos else tokens


def path_of(code: str) -> tuple[str, ...]:
    """Return the way from the root of all codes to this one: what two codes share of it, they have in common.

    Where a code begins with that of its class (ICD, ATC, NDC), a character is a step: `ICD10CM//B20` and
    `ICD10CM//B20.1` share four. Other vocabularies number their codes without meaning, and a code is one step
    below its vocabulary. What is of no known vocabulary goes by its parts between slashes.
    """
    meaning = read(code)
    if not isinstance(meaning, Coded):
        return tuple(part.strip() for part in re.split(r"/+", code))
    steps = meaning.value if meaning.system in BY_PREFIX else (meaning.value,)
    return meaning.system, *steps
