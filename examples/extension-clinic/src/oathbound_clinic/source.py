"""Records in one CSV file, an event a line: `subject_id,time,code,value`; `time` and `value` may be empty."""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.disclosure import rounded, spoken

KIND: Final = "csv-events"
COLUMNS: Final = ["subject_id", "time", "code", "value"]
MOST_BYTES: Final = 2**30

_SUBJECT: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class CsvEvents:
    """The records of everybody who can be read, and the ids of those who cannot."""

    records: Mapping[int, tuple[Event, ...]] = field(repr=False)
    quarantined: frozenset[int] = field(repr=False)
    description: SourceDescription

    def describe(self) -> SourceDescription:
        """Return the description."""
        return self.description

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending, those who cannot be read as well."""
        return tuple(sorted({*self.records, *self.quarantined}))

    def unreadable(self) -> frozenset[int]:
        """Return those who have a line that cannot be read."""
        return self.quarantined

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events, in any order, equal those of one with a smaller id."""
        met: set[frozenset[tuple[Event, int]]] = set()
        repeated = set()
        for subject in sorted(subjects & self.records.keys()):
            events = frozenset(Counter(self.records[subject]).items())
            if events in met:
                repeated.add(subject)
            met.add(events)
        return frozenset(repeated)

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, by id. Raises `WrongInput` for one the file lacks."""
        missing = cohort.subjects - self.records.keys()
        if missing:
            # Never which, and never how few: a count of patients is spoken as it may be shown.
            raise WrongInput(f"records of {spoken(len(missing))} admitted patients are gone")
        return (Patient(subject, self.records[subject]) for subject in sorted(cohort.subjects))


def open_csv(options: Mapping[str, str], base: Path) -> CsvEvents:
    """Open the file `options["path"]`, relative to `base`: the entry point of the source.

    Raises `WrongInput` for a file that is missing or not of this form, and `NothingExamined` where it names
    nobody. A line without a subject is nobody's; a line that is wrong takes its patient out, whole.
    """
    if set(options) != {"path"}:
        raise WrongInput(f"a {KIND} source has one option: path", hint='path = "events.csv" in site.toml')
    path = base / options["path"]
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WrongInput(f"{path.name} is larger than {MOST_BYTES} bytes")
        with path.open(newline="", encoding="utf-8") as file:
            return _read(csv.reader(file, strict=True), path.name)
    except OSError as error:
        raise WrongInput(f"{path.name} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise WrongInput(f"{path.name} is not CSV in UTF-8", hint="write it again") from None


def _read(lines: Iterator[list[str]], name: str) -> CsvEvents:
    if next(lines, None) != COLUMNS:
        raise WrongInput(f"{name} does not begin with the line {','.join(COLUMNS)}")
    events: dict[int, list[Event]] = {}
    quarantined: set[int] = set()
    unowned = not_finite = 0
    for line in lines:
        if not line or not _SUBJECT.fullmatch(line[0]):
            unowned += 1
            continue
        try:
            event = _event(line)
        except ValueError:
            quarantined.add(int(line[0]))
            continue
        if event.value is not None and not math.isfinite(event.value):
            event = Event(event.time, event.code, None)
            not_finite += 1
        events.setdefault(int(line[0]), []).append(event)
    if not events:
        raise NothingExamined(f"{name} holds no events of anybody who can be read")
    return CsvEvents(
        {subject: _in_order(record) for subject, record in events.items() if subject not in quarantined},
        frozenset(quarantined),
        SourceDescription(
            kind=KIND,
            schema=digest_of({"columns": COLUMNS}),
            simulated=None,
            dropped=Dropped(
                rows=rounded(unowned), patients=rounded(len(quarantined)), numbers=rounded(not_finite)
            ),
        ),
    )


def _event(line: list[str]) -> Event:
    """Return the event of a line, or raise `ValueError`."""
    _, time, code, value = line
    when = datetime.fromisoformat(time) if time else None
    if not code or (when is not None and when.tzinfo is not None):
        raise ValueError("an event has a code, and a time without a zone")
    return Event(when, code, float(value) if value else None)


def _in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return static facts first, then by time, else as they come."""
    return tuple(sorted(events, key=lambda event: event.time or datetime.min))  # noqa: DTZ901 - times have no zone
