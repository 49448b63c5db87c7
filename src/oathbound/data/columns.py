"""Records as arrays: to and from patients, and the search for copies."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from math import isnan
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns, Event, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.source import ColumnSource, Source

MOST_EVENTS: Final = 2**20
"""`pieces` ends a piece with the patient that reaches this many events: arrays then stay small."""

MOST_FRAME_BYTES: Final = 2**26
"""And with the patient whose recordings reach so many bytes."""

_PATIENTS: Final = 1000
"""Patients of a source without columns that are turned into columns at once."""

_CHANGED: Final = "the records changed while they were read"
_RECORD: Final = np.dtype([("time", "<i8"), ("code", "<u8"), ("value", "<u8")])


@contextmanager
def reading(name: str, what: str, *, hint: str) -> Iterator[None]:
    """Turn what polars raises about a file that is not `what` it should be into `WrongInput`."""
    # A damaged file makes polars panic now and then; its panic is not an `Exception`.
    try:
        yield
    except PermissionError:
        raise WrongInput(f"{name} cannot be read: permission denied") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise WrongInput(f"{name} is not {what} that can be read", hint=hint) from None


def of_frame(frame: pl.DataFrame, codes: Sequence[str]) -> Columns:
    """Return the columns of a frame of `subject_id`, `time` (microseconds), `code` and `numeric_value`.

    Sorts by id, then static facts first, then by time, else as they come. Numbers that are not finite are
    absent. Raises `WrongInput` for a code that is null or that `codes` does not list.
    """
    try:
        places = frame["code"].cast(pl.Enum(codes)).to_physical()
    except pl.exceptions.InvalidOperationError:
        raise WrongInput(_CHANGED) from None
    if places.has_nulls():
        raise WrongInput(_CHANGED)
    value = frame["numeric_value"].to_numpy()
    columns = Columns(
        subject=frame["subject_id"].to_numpy(),
        time=frame["time"].to_numpy(),
        code=places.to_numpy(),
        value=np.where(np.isfinite(value), value, np.array(np.nan, value.dtype)),
        codes=tuple(codes),
    )
    moment = columns.time.view(np.int64)  # NaT is the least of all
    same, after = (step(columns.subject[1:], columns.subject[:-1]) for step in (np.equal, np.greater))
    if np.all(after | same & (moment[1:] >= moment[:-1])):
        return columns
    return _taken(columns, np.lexsort((moment, columns.subject)))


def of_patients(patients: Iterable[Patient]) -> Columns:
    """Return the columns of patients who come by id."""
    events = [(patient.subject_id, event) for patient in patients for event in patient.events]
    frames = [event.frame for _, event in events if event.frame is not None]
    if frames and (len(frames) < len(events) or len({(frame.shape, frame.dtype) for frame in frames}) > 1):
        raise WrongInput("events carry recordings of one shape and type, or none does")
    codes = {code: place for place, code in enumerate(sorted({event.code for _, event in events}))}
    return Columns(
        subject=np.array([subject for subject, _ in events], dtype=np.int64),
        time=np.array([event.time for _, event in events], dtype="datetime64[us]"),
        code=np.array([codes[event.code] for _, event in events], dtype=np.uint32),
        value=np.array(
            [np.nan if event.value is None else event.value for _, event in events], dtype=np.float64
        ),
        codes=tuple(codes),
        frames=np.stack(frames) if frames else None,
    )


def patients_of(columns: Columns) -> Iterator[Patient]:
    """Yield the patients."""
    subjects, bounds = _bounds(columns)
    for subject, (start, end) in zip(subjects.tolist(), pairwise(bounds), strict=True):
        rows = slice(start, end)
        times, values = columns.time[rows].tolist(), columns.value[rows].tolist()
        codes = (columns.codes[place] for place in columns.code[rows].tolist())
        frames = [None] * len(times) if columns.frames is None else columns.frames[rows]
        events = zip(times, codes, values, frames, strict=True)
        yield Patient(
            subject,
            tuple(
                Event(time, code, None if isnan(value) else value, frame)
                for time, code, value, frame in events
            ),
        )


def columns_of(source: Source, cohort: Cohort) -> Iterator[Columns]:
    """Yield the records of the cohort as columns, from a source of any kind."""
    if isinstance(source, ColumnSource):
        yield from source.columns(cohort)
    else:
        patients = source.patients(cohort)
        while some := list(islice(patients, _PATIENTS)):
            yield of_patients(some)


def of_subjects(columns: Columns, subjects: frozenset[int]) -> Columns:
    """Return the records of `subjects` alone."""
    return _taken(columns, np.isin(columns.subject, sorted(subjects)))


def pieces(columns: Columns) -> Iterator[Columns]:
    """Yield the same patients, a piece at a time: views, not copies."""
    _, bounds = _bounds(columns)
    start, most = 0, MOST_EVENTS
    if columns.frames is not None:
        most = min(most, max(MOST_FRAME_BYTES // max(columns.frames[:1].nbytes, 1), 1))
    while start < bounds[-1]:
        end = bounds[np.searchsorted(bounds, min(start + most, bounds[-1]))]
        yield _taken(columns, slice(start, end))
        start = end


def joined(columns: Sequence[Columns]) -> Columns:
    """Return columns that have frames, and one table of codes, as one."""

    def whole(name: str) -> np.ndarray:
        return np.concatenate([getattr(each, name) for each in columns])

    names = ("subject", "time", "code", "value", "frames")
    return Columns(**{name: whole(name) for name in names}, codes=columns[0].codes)


def copies(read: Callable[[frozenset[int]], Iterable[Columns]], subjects: frozenset[int]) -> frozenset[int]:
    """Return those of `subjects` whose events, in any order, equal those of one with a smaller id.

    Events with frames are equal where their frames are, too. `read` gives their columns, whose places of
    codes must be those of one table. Sums of 64-bit hashes propose; the SHA-256 of the whole record, its
    events sorted, decides. Keeps 16 bytes a patient.
    """
    proposed = [(_bounds(columns)[0], _sums(columns)) for columns in read(subjects)]
    if not proposed:
        return frozenset()
    ids, sums = (np.concatenate(parts) for parts in zip(*proposed, strict=True))
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    alike = frozenset(ids[counts[inverse] > 1].tolist())
    first: dict[bytes, int] = {}
    repeated: set[int] = set()
    for columns in read(alike) if alike else ():
        for subject, record in _digests(columns):
            other = first.setdefault(record, subject)
            if other != subject:
                repeated.add(max(other, subject))
                first[record] = min(other, subject)
    return frozenset(repeated)


def _taken(columns: Columns, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Columns:
    return Columns(
        subject=columns.subject[rows],
        time=columns.time[rows],
        code=columns.code[rows],
        value=columns.value[rows],
        codes=columns.codes,
        frames=None if columns.frames is None else columns.frames[rows],
    )


def _bounds(columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids, and where each one's events begin; one number more, where the last one's end."""
    subjects, starts = np.unique(columns.subject, return_index=True)
    return subjects, np.append(starts, len(columns.subject))


def _bits(value: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Return 64 bits that are equal for equal numbers: both zeros are one, and all NaN."""
    return np.where(np.isnan(value), np.nan, value.astype(np.float64) + 0.0).view(np.uint64)


def _sums(columns: Columns) -> NDArray[np.uint64]:
    """Return a sum of 64-bit hashes of each patient's events: equal for equal events in any order.

    Three odd multipliers, then the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    mixed = columns.time.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= columns.code.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
    mixed += _bits(columns.value) * np.uint64(0x8CB92BA72F3D8DD7)
    if columns.frames is not None:
        mixed ^= _prints(columns)[:, 0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.add.reduceat(mixed, _bounds(columns)[1][:-1])


def _digests(columns: Columns) -> Iterator[tuple[int, bytes]]:
    """Yield each patient's id and the SHA-256 of the record with its events sorted."""
    records = np.empty(len(columns.subject), dtype=_RECORD)
    records["time"] = columns.time.view(np.int64)
    records["code"] = columns.code
    records["value"] = _bits(columns.value)
    prints = _prints(columns)
    order = np.lexsort((*prints.T, records["value"], records["code"], records["time"], columns.subject))
    records, prints = records[order], prints[order]
    subjects, bounds = _bounds(columns)
    for subject, (start, end) in zip(subjects.tolist(), pairwise(bounds), strict=True):
        record = hashlib.sha256(records[start:end].tobytes())
        record.update(prints[start:end].tobytes())
        yield subject, record.digest()


def _prints(columns: Columns) -> NDArray[np.uint64]:
    """Return the SHA-256 of each event's frame as four numbers; none each, where there are no frames."""
    if columns.frames is None:
        return np.zeros((len(columns.subject), 0), dtype=np.uint64)
    # adding zero makes the two zeros of floats one
    prints = b"".join(hashlib.sha256((frame + 0).tobytes()).digest() for frame in columns.frames)
    return np.frombuffer(prints, dtype=np.uint64).reshape(-1, 4)
