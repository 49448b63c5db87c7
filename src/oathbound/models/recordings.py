"""Turn a patient's recordings into one array, by public rules alone: what a model of scans or signals sees.

A row of the array is one recording: its values, (x - centre) / scale cut at +-8, and last the number of its
class, NaN where its code is none of the classes. A patient with fewer than `most` recordings has rows of
zeros after them, whose class is NaN; of more, `most` are taken, evenly spaced in the record's order. Half
precision holds a cut value to within 1/256, and is half the memory.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.core.shape import Recordings

CUT: Final = 8.0

_AT_ONCE: Final = 2**22
"""Numbers that are standardised together, in single precision."""


class RecordingEncoder:
    """The arrays of one set of recordings: float16 (most, numbers of a recording + 1) a patient."""

    def __init__(self, recordings: Recordings) -> None:
        self.seen = recordings
        self.size = recordings.most * recordings.width
        self._classes = {code: float(place) for place, code in enumerate(recordings.classes)}

    def encode_all(self, patients: Sequence[Patient]) -> NDArray[np.float16]:
        """Return the arrays of all patients: float16 (patients, most, numbers + 1)."""
        events = [event for patient in patients for event in patient.events]
        frames = [event.frame for event in events if event.frame is not None]
        if len(frames) < len(events):
            raise _without()
        self._check({frame.shape for frame in frames})
        counts = np.array([len(patient.events) for patient in patients], dtype=np.int64)
        numbers = np.array([self._classes.get(event.code, np.nan) for event in events])
        return self._rows(counts, numbers, lambda places: np.stack([frames[place] for place in places]))

    def encode_columns(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Return the ids of the patients, ascending, and what `encode_all` gives them.

        Raises `WrongInput` where events have no recordings, or of another shape than the policy's.
        """
        frames = self.checked(columns)
        subjects, counts = np.unique(columns.subject, return_counts=True)
        numbers = np.array([self._classes.get(code, np.nan) for code in columns.codes])[columns.code]
        return subjects, self._rows(counts, numbers, lambda places: frames[places])

    def checked(self, columns: Columns) -> NDArray[np.generic]:
        """Return the recordings of the events; `WrongInput` where there are none, or of another shape."""
        if columns.frames is None:
            raise _without()
        self._check({columns.frames.shape[1:]})
        return columns.frames

    def _rows(
        self,
        counts: NDArray[np.int64],
        numbers: NDArray[np.float64],
        frames_at: Callable[[NDArray[np.int64]], NDArray[np.generic]],
    ) -> NDArray[np.float16]:
        """Lay out so many recordings of each patient, one patient's after the other's.

        Of `most` equal parts of a patient's recordings, the one in the middle of each is taken.
        """
        rows = np.zeros((len(counts), self.seen.most, self.seen.width + 1), dtype=np.float16)
        rows[..., -1] = np.nan
        taken = np.minimum(counts, self.seen.most)
        patient = np.repeat(np.arange(len(counts)), taken)
        place = np.arange(len(patient)) - (np.cumsum(taken) - taken)[patient]
        within = (2 * place + 1) * counts[patient] // (2 * taken[patient])
        event = (np.cumsum(counts) - counts)[patient] + within
        step = max(_AT_ONCE // self.seen.width, 1)
        for some in (slice(start, start + step) for start in range(0, len(event), step)):
            rows[patient[some], place[some], :-1] = self._standard(frames_at(event[some]))
        rows[patient, place, -1] = numbers[event]
        return rows

    def _check(self, shapes: set[tuple[int, ...]]) -> None:
        other = next((shape for shape in shapes if shape != self.seen.shape), None)
        if other is not None:
            found, planned = (" x ".join(map(str, shape)) for shape in (other, self.seen.shape))
            raise WrongInput(
                f"the source's recordings are of {found} values, and the policy's of {planned}",
                hint="set the source's options so that its recordings have the policy's shape",
            )

    def _standard(self, frames: NDArray[np.generic]) -> NDArray[np.float16]:
        """Return the standardised values of recordings, (recordings, numbers)."""
        values = frames.reshape(len(frames), -1).astype(np.float32)
        values -= np.float32(self.seen.centre)
        values /= np.float32(self.seen.scale)
        if np.isnan(values).any():
            raise WrongInput("a recording holds what is no number", hint="leave it out of the source")
        return np.clip(values, -CUT, CUT, out=values).astype(np.float16)


def count_unlabelled(recordings: Recordings, records: Iterable[Columns]) -> int:
    """Return how many patients have no recording of a class, and so nothing to learn from."""
    count = 0
    for columns in records:
        count += len(np.unique(columns.subject)) - len(with_a_class(recordings, columns))
    return count


def with_a_class(recordings: Recordings, columns: Columns) -> NDArray[np.int64]:
    """Return the ids, ascending, of the patients who have a recording of a class."""
    listed = np.array([code in recordings.classes for code in columns.codes], dtype=bool)[columns.code]
    return np.unique(columns.subject[listed])


def _without() -> WrongInput:
    return WrongInput(
        "the records hold events without recordings, and the model sees nothing else",
        hint="name a source of scans or signals, or a model of [policy.vocabulary] or [policy.features]",
    )
