"""Turn a patient's record into tokens, by public rules alone.

One token per code, or one per code and value bin where the vocabulary has edges for the code; one per age
band; one per band of time between events. A bin holds its lower edge and not its upper one. Values are
compared in single precision, because MEDS stores them so: a stored 1.3 lies on the edge "1.3".
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.study import Vocabulary

BIRTH: Final = "MEDS_BIRTH"
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
        names = ["PAD", "BOS", "EOS", "UNK"]
        self._ages = _Bands(vocabulary.ages, first=len(names))
        names += [f"AGE//{band}" for band in self._ages.names]
        self._gaps = _Bands(vocabulary.gaps, first=len(names))
        names += [f"GAP//{band}" for band in self._gaps.names]
        self._plain: dict[str, int] = {}
        self._binned: dict[str, _Bands] = {}
        self._order = {code: position for position, code in enumerate(vocabulary.codes)}
        for code in vocabulary.codes:
            if code in vocabulary.edges:
                bands = self._binned[code] = _Bands(vocabulary.edges[code], first=len(names))
                names += [f"{code}//{band}" for band in bands.names]
                names.append(f"{code}//no value")
            else:
                self._plain[code] = len(names)
                names.append(code)
        self.names = tuple(names)
        self.size = len(names)

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
            tokens.append(self._ages.token((dated[0][0] - births[0]) / _YEAR))
        before: datetime | None = None
        for time, event in dated:
            if len(tokens) >= length:
                break
            if before is not None and time > before:
                tokens.append(self._gaps.token((time - before) / _DAY))
            tokens.append(self._token(event))
            before = time
        tokens.append(self.eos)
        return tuple(tokens[:length])

    def encode_all(self, patients: Iterable[Patient], length: int) -> NDArray[np.int64]:
        """Return the tokens of every patient, padded at the end with PAD: int64, shape (patients, length)."""
        rows = [self.encode(patient, length) for patient in patients]
        padded = np.full((len(rows), length), self.pad, dtype=np.int64)
        for row, tokens in zip(padded, rows, strict=True):
            row[: len(tokens)] = tokens
        return padded

    def _token(self, event: Event) -> int:
        bands = self._binned.get(event.code)
        if bands is None:
            return self._plain.get(event.code, self.unk)
        if event.value is None or isnan(event.value):
            return bands.end
        return bands.token(event.value)


class _Bands:
    """Half-open bands between edges, one token each from `first` to before `end`, open at both ends."""

    def __init__(self, edges: Sequence[Decimal], *, first: int) -> None:
        self._edges = [float(np.float32(edge)) for edge in edges]
        self.first = first
        self.end = first + len(edges) + 1
        inner = [f"{low}..{high}" for low, high in pairwise(edges)]
        self.names = ["any"] if not edges else [f"<{edges[0]}", *inner, f">={edges[-1]}"]

    def token(self, value: float) -> int:
        return self.first + bisect_right(self._edges, float(np.float32(value)))
