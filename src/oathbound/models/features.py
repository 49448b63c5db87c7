"""Turn a patient's record into one row of numbers, by public rules alone: what a classifier sees.

First, for each code of `present`, 1 if it occurs; then, for each of `numbers`, the standardised value, cut at
+-4, and 1 if there is one, else 0 and 0; last the label, NaN where there is none. Values are compared in
single precision, because MEDS stores them so.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.patient import Columns, Patient
from oathbound.core.shape import Features, Number

CUT: Final = 4.0


class FeatureEncoder:
    """The rows of one set of features: float32, `size` features and the label."""

    def __init__(self, features: Features) -> None:
        self.seen = features
        self.size = features.width

    def encode(self, patient: Patient) -> NDArray[np.float32]:
        """Return the patient's row: float32 (size + 1,)."""
        features = self.seen
        codes = {event.code for event in patient.events}
        row = [float(code in codes) for code in features.present]
        for number in features.numbers:
            value = self._last(patient, number.code, tuple(map(_single, number.missing)))
            row += [0.0, 0.0] if value is None else [_standard(np.array([value]), number)[0], 1.0]
        row.append(self._label(patient, codes))
        return np.array(row, dtype=np.float32)

    def encode_all(self, patients: Sequence[Patient]) -> NDArray[np.float32]:
        """Return the rows of all patients, float32 (patients, size + 1)."""
        rows = np.zeros((len(patients), self.size + 1), dtype=np.float32)
        for row, patient in zip(rows, patients, strict=True):
            row[:] = self.encode(patient)
        return rows

    def encode_columns(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids of the patients, ascending, and what `encode` gives each.

        float32 (patients, size + 1).
        """
        features = self.seen
        subjects, row = np.unique(columns.subject, return_inverse=True)
        rows = np.zeros((len(subjects), self.size + 1), dtype=np.float32)
        for place, code in enumerate(features.present):
            rows[row[_stating(columns, code)], place] = 1
        for place, number in enumerate(features.numbers):
            column = len(features.present) + 2 * place
            events = _measured(columns, number.code)
            events = events[~np.isin(columns.value[events].astype(np.float32), _singles(number.missing))]
            # where a patient has several, the last is written last
            rows[row[events], column] = _standard(columns.value[events], number)
            rows[row[events], column + 1] = 1
        label = features.label
        if label.at_least is None:
            rows[row[_stating(columns, label.code)], -1] = 1
        else:
            rows[:, -1] = np.nan
            events = _measured(columns, label.code)
            rows[row[events], -1] = columns.value[events].astype(np.float32) >= _single(label.at_least)
        return subjects, rows

    def _label(self, patient: Patient, codes: set[str]) -> float:
        label = self.seen.label
        if label.at_least is None:
            return float(label.code in codes)
        value = self._last(patient, label.code, ())
        return float("nan") if value is None else float(value >= _single(label.at_least))

    @staticmethod
    def _last(patient: Patient, code: str, missing: tuple[float, ...]) -> float | None:
        for event in reversed(patient.events):
            if event.code == code and event.value is not None and not np.isnan(event.value):
                value = _single(event.value)
                if value not in missing:
                    return value
        return None


def count_missing(features: Features, records: Iterable[Columns]) -> Counter[tuple[str, Decimal | None]]:
    """Return how many patients have a value that means "not measured", by its code and what it is coded as.

    With None in place of a value: how many patients have no label, and so nothing to learn from.
    """
    counts: Counter[tuple[str, Decimal | None]] = Counter()
    coded = [(number.code, missing) for number in features.numbers for missing in number.missing]
    label = features.label
    for columns in records:
        for code, missing in coded:
            places = _measured(columns, code)
            coded_so = columns.value[places].astype(np.float32) == _single(missing)
            counts[code, missing] += len(np.unique(columns.subject[places[coded_so]]))
        if label.at_least is not None:
            labelled = with_a_label(features, columns)
            counts[label.code, None] += len(np.unique(columns.subject)) - len(labelled)
    return counts


def with_a_label(features: Features, columns: Columns) -> NDArray[np.int64]:
    """Return the ids, ascending, of the patients who have a label; that a code is absent is one as well."""
    if features.label.at_least is None:
        return np.unique(columns.subject)
    return np.unique(columns.subject[_measured(columns, features.label.code)])


def _stating(columns: Columns, code: str) -> NDArray[np.int64]:
    """Return the places of the events of that code, in order."""
    if code not in columns.codes:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(columns.code == columns.codes.index(code))


def _measured(columns: Columns, code: str) -> NDArray[np.int64]:
    """Return the places of the events of that code that carry a number, in order."""
    events = _stating(columns, code)
    measured: NDArray[np.int64] = events[~np.isnan(columns.value[events])]
    return measured


def _standard(values: NDArray[np.floating], number: Number) -> NDArray[np.float64]:
    distance = values.astype(np.float32).astype(np.float64) - float(number.centre)
    return np.clip(distance / float(number.scale), -CUT, CUT)


def _single(value: float | Decimal) -> float:
    """Return the number of single precision that is nearest; an infinity beyond its range."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _singles(values: Iterable[Decimal]) -> NDArray[np.float32]:
    return np.array([_single(value) for value in values], dtype=np.float32)
