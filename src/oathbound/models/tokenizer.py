"""Turn a patient's record into tokens, by public rules alone.

One token per code, or one per code and value bin where the vocabulary has edges for the code; one per age
band; one per band of time between events. A bin holds its lower edge and not its upper one. Values are
compared in single precision, because MEDS stores them so: a stored 1.3 lies on the edge "1.3". Times are
compared exactly, in whole microseconds.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil, isnan
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns, Event, Patient
from oathbound.core.shape import Vocabulary

BIRTH: Final = "MEDS_BIRTH"
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_YEAR: Final = timedelta(days=365.25)


class Tokenizer:
    """The tokens of one vocabulary: PAD, BOS, EOS and UNK, age bands, gap bands, then codes in their order.

    `names[token]` says what a token stands for; `size` is the number of tokens.
    """

    pad: Final = 0
    bos: Final = 1
    eos: Final = 2
    unk: Final = 3

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.codes = vocabulary.codes
        names = ["PAD", "BOS", "EOS", "UNK"]
        self._ages = _Bands(vocabulary.ages, _microseconds(vocabulary.ages, _YEAR), first=len(names))
        names += [f"AGE//{band}" for band in self._ages.names]
        self._gaps = _Bands(vocabulary.gaps, _microseconds(vocabulary.gaps, _DAY), first=len(names))
        names += [f"GAP//{band}" for band in self._gaps.names]
        self._plain: dict[str, int] = {}
        self._binned: dict[str, _Bands] = {}
        self._order = {code: position for position, code in enumerate(vocabulary.codes)}
        for code in vocabulary.codes:
            if code in vocabulary.edges:
                edges = vocabulary.edges[code]
                bands = self._binned[code] = _Bands(edges, list(map(_single, edges)), first=len(names))
                names += [f"{code}//{band}" for band in bands.names]
                names.append(f"{code}//no value")
            else:
                self._plain[code] = len(names)
                names.append(code)
        self.names = tuple(names)
        self.size = len(names)
        self._bins = _Bins.of(tuple(self._binned.values()))

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return every token that states `code`; `WrongInput` if the vocabulary does not list it."""
        if code in self._binned:
            bands = self._binned[code]
            return frozenset(range(bands.first, bands.end + 1))
        if code in self._plain:
            return frozenset({self._plain[code]})
        raise WrongInput(f"the vocabulary has no code {code}", hint="list it in [policy.vocabulary] codes")

    def encode(self, patient: Patient, length: int) -> tuple[int, ...]:
        """Return at most `length` tokens: BOS, static codes, age band, then each event after its gap; EOS.

        Static codes stand in the vocabulary's order. The age is the one at the first dated event; a record
        without MEDS_BIRTH has no age token. A gap token stands before an event that is later than the one
        before it. EOS is there only if the whole record, and EOS, fit in `length`.
        """
        static = [event for event in patient.events if event.time is None]
        dated = [(event.time, event) for event in patient.events if event.time is not None]
        births = [time for time, event in dated if event.code == BIRTH]
        dated = [(time, event) for time, event in dated if event.code != BIRTH]

        tokens = [self.bos]
        tokens += map(
            self._token, sorted(static, key=lambda event: self._order.get(event.code, len(self._order)))
        )
        if births and dated:
            tokens.append(self._ages.token((dated[0][0] - births[0]) // _MICROSECOND))
        before: datetime | None = None
        for time, event in dated:
            if len(tokens) >= length:
                break
            if before is not None and time > before:
                tokens.append(self._gaps.token((time - before) // _MICROSECOND))
            tokens.append(self._token(event))
            before = time
        tokens.append(self.eos)
        return tuple(tokens[:length])

    def encode_columns(self, columns: Columns, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of the patients, ascending, and what `encode` gives each, padded with PAD.

        int64, shapes (patients,) and (patients, length).
        """
        subjects, starts = np.unique(columns.subject, return_index=True)
        patients = len(subjects)
        row = np.repeat(np.arange(patients), np.diff(starts, append=len(columns.subject)))
        table = self._table(columns.codes)
        static = np.isnat(columns.time)
        birth = table.birth[columns.code] & ~static
        tokens = np.full((patients, length), self.pad, dtype=np.int64)

        def put(rows: NDArray[np.int64], places: NDArray[np.int64], given: NDArray[np.int64]) -> None:
            fits = places < length
            tokens[rows[fits], places[fits]] = given[fits]

        tokens[:, :1] = self.bos
        facts = np.flatnonzero(static)
        facts = facts[np.lexsort((table.order[columns.code[facts]], row[facts]))]
        places, taken = _laid(row[facts], np.ones(len(facts), np.int64), patients)
        put(row[facts], 1 + places, self._tokens(table, columns.code[facts], columns.value[facts]))
        taken += 1

        dated = np.flatnonzero(~static & ~birth)
        ranks, _ = _laid(row[dated], np.ones(len(dated), np.int64), patients)
        dated = dated[ranks < length]  # later ones cannot fit: each takes a token at least
        rows, time = row[dated], columns.time[dated].astype(np.int64)
        aged, age = _ages(row[birth], columns.time[birth].astype(np.int64), rows, time)
        put(aged, taken[aged], self._ages.tokens(age))
        taken[aged] += 1

        later = np.flatnonzero((np.diff(rows) == 0) & (np.diff(time) > 0)) + 1
        widths = np.ones(len(dated), np.int64)
        widths[later] += 1
        places, more = _laid(rows, widths, patients)
        places += taken[rows]
        put(rows, places, self._tokens(table, columns.code[dated], columns.value[dated]))
        put(rows[later], places[later] - 1, self._gaps.tokens(time[later] - time[later - 1]))
        put(np.arange(patients), taken + more, np.full(patients, self.eos))
        return subjects, tokens

    def _token(self, event: Event) -> int:
        bands = self._binned.get(event.code)
        if bands is None:
            return self._plain.get(event.code, self.unk)
        if event.value is None or isnan(event.value):
            return bands.end
        return bands.token(_single(event.value))

    def _table(self, codes: Sequence[str]) -> "_CodeTable":
        binned = {code: place for place, code in enumerate(self._binned)}
        last = len(self._order)
        tokens = (self._plain.get(code, self.unk) for code in codes)
        return _CodeTable(
            birth=np.array([code == BIRTH for code in codes], dtype=bool),
            order=np.array([self._order.get(code, last) for code in codes], dtype=np.int64),
            plain=np.array(list(tokens), dtype=np.int64),
            binned=np.array([binned.get(code, -1) for code in codes], dtype=np.int64),
        )

    def _tokens(
        self, table: "_CodeTable", code: NDArray[np.unsignedinteger], value: NDArray[np.floating]
    ) -> NDArray[np.int64]:
        """Return what `_token` gives each event."""
        tokens: NDArray[np.int64] = table.plain[code]
        binned = table.binned[code]
        events = np.flatnonzero(binned >= 0)
        tokens[events] = self._bins.tokens(binned[events], value[events])
        return tokens


class _Bands:
    """Half-open bands between edges, one token each from `first` to before `end`, open at both ends.

    `edges` name the bands; `bounds` are the same edges as numbers of the kind that is compared with them.
    """

    def __init__(self, edges: Sequence[Decimal], bounds: Sequence[float], *, first: int) -> None:
        self.bounds = bounds
        self.first = first
        self.end = first + len(edges) + 1
        inner = [f"{low}..{high}" for low, high in pairwise(edges)]
        self.names = ["any"] if not edges else [f"<{edges[0]}", *inner, f">={edges[-1]}"]

    def token(self, value: float) -> int:
        return self.first + bisect_right(self.bounds, value)

    def tokens(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        bounds = np.array(self.bounds, dtype=np.int64)
        return self.first + np.searchsorted(bounds, values, side="right").astype(np.int64)


@dataclass(frozen=True, slots=True)
class _CodeTable:
    """What the vocabulary says of each code of a table: its token, or the place of its bands (-1: none)."""

    birth: NDArray[np.bool_]
    order: NDArray[np.int64]
    plain: NDArray[np.int64]
    binned: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Bins:
    """The bands of all codes that have them, in one ascending array: one search places any code's value.

    An edge is the complex number (place of the bands, bound): numpy orders complex numbers by the real part,
    then by the imaginary one. Both fit in single precision, since a vocabulary has at most 100,000 codes.
    """

    edges: NDArray[np.complex64]
    shift: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def of(cls, bands: Sequence["_Bands"]) -> Self:
        edges = [complex(place, bound) for place, each in enumerate(bands) for bound in each.bounds]
        before = np.cumsum([0, *(len(each.bounds) for each in bands)])[:-1]
        shift = np.array([each.first for each in bands], dtype=np.int64) - before
        end = np.array([each.end for each in bands], dtype=np.int64)
        return cls(np.array(edges, dtype=np.complex64), shift, end)

    def tokens(self, places: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.int64]:
        keys = np.empty(len(places), dtype=np.complex64)
        keys.real = places
        with np.errstate(over="ignore"):
            keys.imag = values
        tokens = self.shift[places] + np.searchsorted(self.edges, keys, side="right")
        return np.where(np.isnan(values), self.end[places], tokens)


def _ages(
    born_rows: NDArray[np.int64],
    born: NDArray[np.int64],
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that have a birth and a dated event, and the time from the first one to the other."""
    with_birth, births = np.unique(born_rows, return_index=True)
    with_event, events = np.unique(rows, return_index=True)
    aged, i, j = np.intersect1d(with_birth, with_event, assume_unique=True, return_indices=True)
    return aged, times[events[j]] - born[births[i]]


def _single(value: float | Decimal) -> float:
    """Return the number of single precision that is nearest; an infinity beyond its range."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _microseconds(edges: Sequence[Decimal], unit: timedelta) -> list[int]:
    """Return the first whole microsecond at or after each edge; beyond 2^62 no difference of times lies."""
    exact = (ceil(Fraction(edge) * (unit // _MICROSECOND)) for edge in edges)
    return [min(max(bound, -(2**62)), 2**62) for bound in exact]


def _laid(
    rows: NDArray[np.int64], widths: NDArray[np.int64], patients: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay things of these widths out in ascending `rows`: the last place of each, and the width of a row."""
    taken = np.bincount(rows, widths, patients).astype(np.int64)
    return np.cumsum(widths) - 1 - (np.cumsum(taken) - taken)[rows], taken
