"""Patients on disk, taken down a few at a time: an audit's memory does not grow with their number.

They lie in a file without a name, which goes when the process does. In memory are 24 bytes a patient.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, overload

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.data.columns import patients_of

_EVENT: Final = [("time", "<i8"), ("code", "<u4"), ("value", "<f8")]
_AT_ONCE: Final = 256
"""Patients that a walk along the shelf takes down together."""


class _File:
    """An open file, closed when nobody refers to it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)


@dataclass(frozen=True, slots=True, eq=False)
class Shelf(Sequence[Patient]):
    """Patients by ascending id. `start` and `events`: where each one's events begin in the file, how many.

    `kind` is what an event is there: with the frame that was recorded at it, in a source of these.
    """

    ids: NDArray[np.int64]
    start: NDArray[np.int64] = field(repr=False)
    events: NDArray[np.int64] = field(repr=False)
    codes: tuple[str, ...] = field(repr=False)
    kind: np.dtype[np.void] = field(repr=False)
    file: _File = field(repr=False)

    @classmethod
    def of(cls, pieces: Iterable[Columns], folder: Path) -> Self:
        """Put patients on a shelf in `folder`; `Unavailable` where there is no room for them.

        Raises `WrongInput` where two of them have one id, or recordings are not all of one shape.
        """
        ids, events = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        codes: dict[str, int] = {}
        kind = None
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for columns in pieces:
                    if kind is None:
                        kind = _kind(columns)
                    if kind != _kind(columns):
                        raise WrongInput("the source's recordings are not all of one shape")
                    places = [codes.setdefault(code, len(codes)) for code in columns.codes]
                    rows = np.empty(len(columns.subject), dtype=kind)
                    rows["time"] = columns.time.view(np.int64)
                    rows["code"] = np.array(places, dtype=np.uint32)[columns.code]
                    rows["value"] = columns.value
                    if columns.frames is not None:
                        rows["frame"] = columns.frames
                    file.write(rows.tobytes())
                    subjects, counts = np.unique(columns.subject, return_counts=True)
                    ids.append(subjects)
                    events.append(counts)
                file.flush()
                kept = _File(os.dup(file.fileno()))
        except OSError as error:
            raise Unavailable(
                f"records cannot be laid out in {folder}: {error.strerror}",
                hint="write to a folder of yours, with room for the records",
            ) from None
        subject, count = np.concatenate(ids), np.concatenate(events)
        order = np.argsort(subject, kind="stable")
        if (np.diff(subject[order]) == 0).any():
            raise WrongInput("two records have one subject_id", hint="a patient's events are in one file")
        start = np.cumsum(count) - count
        return cls(subject[order], start[order], count[order], tuple(codes), kind or np.dtype(_EVENT), kept)

    def part(self, kept: NDArray[np.bool_]) -> Self:
        """Return the patients at the places where `kept`, shape (patients,), is true; the file is shared."""
        return type(self)(
            self.ids[kept], self.start[kept], self.events[kept], self.codes, self.kind, self.file
        )

    def those(self, ids: Iterable[int]) -> Self:
        """Return the patients of these ids, as far as they are here."""
        return self.part(np.isin(self.ids, np.fromiter(ids, np.int64)))

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Patient: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Patient]: ...
    def __getitem__(self, index: int | slice) -> Patient | Sequence[Patient]:
        places = range(len(self))[index]
        if isinstance(places, int):
            (patient,) = self._taken([places])
            return patient
        return tuple(self._taken(places))

    def __iter__(self) -> Iterator[Patient]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self[first : first + _AT_ONCE]

    def _taken(self, places: Sequence[int]) -> Iterator[Patient]:
        size = self.kind.itemsize
        for place in places:
            count = int(self.events[place])
            data = os.pread(self.file.descriptor, count * size, int(self.start[place]) * size)
            rows = np.frombuffer(data, dtype=self.kind)
            yield from patients_of(
                Columns(
                    subject=np.full(count, self.ids[place]),
                    time=rows["time"].view("datetime64[us]"),
                    code=rows["code"],
                    value=rows["value"],
                    codes=self.codes,
                    frames=rows["frame"] if "frame" in (self.kind.names or ()) else None,
                )
            )


def _kind(columns: Columns) -> np.dtype[np.void]:
    """Return what an event is in the file."""
    if columns.frames is None:
        return np.dtype(_EVENT)
    return np.dtype([*_EVENT, ("frame", columns.frames.dtype.newbyteorder("<"), columns.frames.shape[1:])])
