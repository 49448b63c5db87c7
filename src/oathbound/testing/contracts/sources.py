"""What a source of records must keep."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Final

import numpy as np

from oathbound.core.errors import OathboundError, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.record import Digest, Name, Record
from oathbound.data.cohort import Cohort, restored
from oathbound.data.columns import columns_of, patients_of
from oathbound.data.kinds import Opener
from oathbound.data.source import ColumnSource, Source
from oathbound.testing.contracts.rule import expect, refuses

LEAST = 5
"""The patients that the suite's records must hold."""


_FRAMES: Final = {"float32", "uint16", "uint8"}


class _Described(Record):
    kind: Name
    schema_digest: Digest


class SourceContract(ABC):
    """Inherit it as `class TestMine(SourceContract)`; pytest then runs every rule on your source.

    Its records: at least five people who can be read, two of them with equal events, one with several; the
    better if one has a static fact as well.
    """

    @abstractmethod
    def opener(self) -> Opener:
        """Return what the entry point names."""

    @abstractmethod
    def options(self, folder: Path) -> Mapping[str, str]:
        """Write the records below an empty folder, and return the options that open them from there."""

    def _opened(self, folder: Path) -> Source:
        return self.opener()(self.options(folder), folder)

    def test_subjects_ascend_and_are_unique(self, tmp_path: Path) -> None:
        """Also those who cannot be read are subjects; a second reading gives the same."""
        source = self._opened(tmp_path)
        subjects = source.subjects()
        expect(list(subjects) == sorted(set(subjects)), "subjects ascend, and are unique")
        expect(all(type(subject) is int for subject in subjects), "subjects are Python integers")
        expect(source.unreadable() <= set(subjects), "who cannot be read is a subject too")
        expect(source.subjects() == subjects, "subjects are the same when asked again")

    def test_the_description_is_stable(self, tmp_path: Path) -> None:
        """It goes into a signed statement: two openings of the same records agree."""
        options = self.options(tmp_path)
        first, second = (self.opener()(options, tmp_path).describe() for _ in range(2))
        expect(first == second, "two openings of the same records are described alike")
        _Described.parse({"kind": first.kind, "schema_digest": first.schema}, what="description")

    def test_patients_are_the_cohort_each_once_and_whole(self, tmp_path: Path) -> None:
        """Nobody else is read out, and each alone is the same as among others."""
        source = self._opened(tmp_path)
        everybody = _readable(source)
        for cohort in (_cohort(everybody[::2]), _cohort(everybody)):
            given = list(source.patients(cohort))
            expect(
                sorted(patient.subject_id for patient in given) == sorted(cohort.subjects),
                "patients of a cohort are its subjects, each once",
            )
        whole = {patient.subject_id: patient for patient in given}
        pair = _cohort(everybody[:2])
        expect(all(whole[p.subject_id] == p for p in source.patients(pair)), "a record is always the same")

    def test_events_are_static_first_then_by_time(self, tmp_path: Path) -> None:
        """And every event has a code, a time without a zone or none, and a finite value or none."""
        source = self._opened(tmp_path)
        patients = list(source.patients(_cohort(_readable(source))))
        for patient in patients:
            times = [event.time for event in patient.events]
            dated = [time for time in times if time is not None]
            expect(bool(patient.events), "a patient has an event")
            expect(times == [None] * (len(times) - len(dated)) + sorted(dated), "static first, then by time")
            expect(all(time.tzinfo is None for time in dated), "times have no zone")
            expect(all(map(_is_event, patient.events)), "events have a code, and a finite value or None")
        expect(any(len(p.events) > 1 for p in patients), "the suite's records hold somebody with two events")

    def test_a_missing_record_is_refused(self, tmp_path: Path) -> None:
        """A record that is gone since the admission is an error, and no shorter answer."""
        source = self._opened(tmp_path)
        everybody = _readable(source)
        absent = _cohort((*everybody[:2], max(source.subjects()) + 1))
        refuses(WrongInput, lambda: list(source.patients(absent)), "a patient who is not there is refused")

    def test_duplicates_are_who_has_the_events_of_a_smaller_id(self, tmp_path: Path) -> None:
        """Among those asked about alone, and in any order of events."""
        source = self._opened(tmp_path)
        everybody = _readable(source)
        events = _records(source, _cohort(everybody))

        def alike(asked: frozenset[int]) -> set[int]:
            return {s for s in asked if any(other < s and events[other] == events[s] for other in asked)}

        copies = alike(frozenset(everybody))
        expect(bool(copies), "the suite's records hold two people who are alike")
        for asked in (frozenset(everybody), frozenset(everybody) - copies, frozenset(everybody[1:])):
            expect(source.duplicates(asked) == alike(asked), "duplicates are those asked about, no others")

    def test_columns_hold_the_same_as_patients(self, tmp_path: Path) -> None:
        """A source that gives arrays gives the same records in them."""
        source = self._opened(tmp_path)
        if isinstance(source, ColumnSource):
            cohort = _cohort(_readable(source))
            given = [patient for columns in source.columns(cohort) for patient in patients_of(columns)]
            expect(_by_id(given) == _by_id(list(source.patients(cohort))), "columns hold what patients do")

    def test_frames_are_of_one_shape_and_finite(self, tmp_path: Path) -> None:
        """What was recorded at the events, if the source has it: one frame each, of numbers."""
        source = self._opened(tmp_path)
        if not isinstance(source, ColumnSource):
            return
        pieces = list(source.columns(_cohort(_readable(source))))
        framed = [piece.frames for piece in pieces if piece.frames is not None]
        expect(len(framed) in {0, len(pieces)}, "all pieces have frames, or none")
        kinds = {(frames.shape[1:], frames.dtype.name) for frames in framed}
        expect(len(kinds) < 2, "frames are of one shape and type")  # noqa: PLR2004 - one
        expect(
            {name for _, name in kinds} <= _FRAMES, f"frames are of a type of {', '.join(sorted(_FRAMES))}"
        )
        for piece in pieces:
            if piece.frames is not None:
                expect(len(piece.frames) == len(piece.subject), "every event has a frame")
                expect(bool(np.isfinite(piece.frames).all()), "frames are finite")

    def test_wrong_options_are_refused(self, tmp_path: Path) -> None:
        """With an error of oathbound: an option that it does not know, and data that are not there."""
        options = self.options(tmp_path)
        wrong = [{**options, "no-such-option": "x"}]
        wrong += [{**options, key: "no-such-thing"} for key in options]
        for each in wrong:
            refuses(OathboundError, lambda each=each: self.opener()(each, tmp_path), f"refused: {each}")  # type: ignore[misc]

    def test_its_text_shows_no_patient(self, tmp_path: Path) -> None:
        """What lands in a log by accident holds no identifier."""
        source = self._opened(tmp_path)
        expect(repr(max(source.subjects())) not in repr(source), "repr(source) names no patient")


def _readable(source: Source) -> tuple[int, ...]:
    everybody = tuple(sorted(set(source.subjects()) - source.unreadable()))
    expect(len(everybody) >= LEAST, f"the suite's records hold {LEAST} people who can be read")
    return everybody


def _cohort(subjects: tuple[int, ...]) -> Cohort:
    return restored("contract", "sha256:" + 64 * "0", {"members": subjects[:1], "held_out": subjects[1:]})


def _is_event(event: Event) -> bool:
    return bool(event.code) and (event.value is None or isfinite(event.value))


def _records(source: Source, cohort: Cohort) -> dict[int, Counter[tuple[Event, bytes]]]:
    """Return what each patient's record holds, whatever the order: events, with their frames."""
    records: dict[int, Counter[tuple[Event, bytes]]] = {}
    for columns in columns_of(source, cohort):
        nothing = [b""] * len(columns.subject)
        frames = nothing if columns.frames is None else [frame.tobytes() for frame in columns.frames]
        start = 0
        for patient in patients_of(columns):
            end = start + len(patient.events)
            records[patient.subject_id] = Counter(zip(patient.events, frames[start:end], strict=True))
            start = end
    return records


def _by_id(patients: list[Patient]) -> list[Patient]:
    return sorted(patients, key=lambda patient: patient.subject_id)
