"""Heart beats from WFDB records: a window of one lead around every annotated beat, in millivolts.

An event's code is the beat's class by ANSI/AAMI EC57, `beat//N`, `S`, `V`, `F` or `Q`. Records with a paced
beat are left out, as EC57 asks. A record is of the person whose number it is named by, or whom the table
`subjects` gives; MIT-BIH's 201 and 202, of one man, are both 201. Options:

path      the folder of the records (.hea, .dat, .atr)
lead      the lead's name, such as MLII; if left out, each record's first
rate      samples a second after resampling; 125 if left out
before    samples of a window before the beat, and `after` from it on; 62 and 125 if left out
records   which records, separated by commas; all, if left out
subjects  a table in the folder, .csv or .parquet: `record`, `subject_id`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Columns
from oathbound.data import table
from oathbound.data.columns import joined
from oathbound.data.files import MOST_BYTES, InFiles, Unusable
from oathbound.data.source import check_options
from oathbound.data.waveforms import Header, annotations, header, millivolts

CLASSES: Final = ("F", "N", "Q", "S", "V")
CODES: Final = tuple(f"beat//{name}" for name in CLASSES)

AAMI: Final[Mapping[int, str]] = MappingProxyType(
    {
        **dict.fromkeys((1, 2, 3, 11, 25, 34, 35), "N"),
        **dict.fromkeys((4, 7, 8, 9), "S"),
        **dict.fromkeys((5, 10, 41), "V"),
        6: "F",
        **dict.fromkeys((12, 13, 30, 38), "Q"),
    }
)
"""The class of each of annot(5)'s codes of beats, escape beats as de Chazal et al. (2004) have them: N.

N: N L R j B e n; S: a J A S; V: V E r; F: F; Q: / Q ? f. Codes that are not here are of no beat.
"""

_PACED: Final = 12
_ONE_MAN: Final = ("202", 201, 360.0, 650_000)
"""MIT-BIH's record 202 is of the tape of 201. Known by its name, rate and length, which no other set has."""

_LOBES: Final = 8
_AT_ONCE: Final = 2**22
"""Samples of windows that are resampled together."""

_MOST_TAPS: Final = 2**24
MOST_SAMPLES: Final = 1024
_OPTIONS: Final = ("path", "lead", "rate", "before", "after", "records", "subjects")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a source of beats; an empty text is a lead, or a table, that is not named."""

    path: str
    lead: str
    rate: int
    before: int
    after: int
    records: tuple[str, ...]
    subjects: str

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Return the options; `WrongInput` for one that is unknown or wrong."""
        check_options("wfdb", options, _OPTIONS)
        return cls(
            path=options["path"],
            lead=options.get("lead", ""),
            rate=_whole(options, "rate", 125, 1),
            before=_whole(options, "before", 62, 0),
            after=_whole(options, "after", 125, 1),
            records=tuple(dict.fromkeys(filter(None, map(str.strip, options.get("records", "").split(","))))),
            subjects=options.get("subjects", ""),
        )


def open_wfdb(options: Mapping[str, str], base: Path) -> InFiles:
    """Open the folder, whose path starts at `base`, and read every record once; nothing of them is kept.

    A person with a record that cannot be read is quarantined whole. Raises `WrongInput` for an option, a
    folder or a table that is wrong, and for a record that is of nobody.
    """
    asked = Options.parse(options)
    folder = base / asked.path
    found = {path.stem: path for path in sorted(folder.glob("*.hea"))}
    absent = sorted(set(asked.records) - set(found))
    if absent:
        raise WrongInput(
            f"the wfdb source lacks {len(absent)} of the records it is asked for",
            hint="records = names of .hea files, without the ending",
        )
    names = asked.records or tuple(found)
    if not names:
        raise NothingExamined("the wfdb source holds no .hea file", hint="is path the folder of the records?")
    people = _people(names, asked, folder)
    return InFiles.open("wfdb", people, _Reader(asked, folder, people), shape=(asked.before + asked.after,))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the beats of one person."""

    asked: Options
    folder: Path
    people: Mapping[int, list[str]] = field(repr=False)

    def __call__(self, subject: int) -> Columns:
        """Return the person's columns; `Unusable` for one with a record that cannot be used."""
        records = [self._beats(subject, name) for name in self.people[subject]]
        some = [columns for columns in records if columns is not None]
        if not some:
            raise Unusable("all records have paced beats")
        whole = joined(some)
        if not len(whole.subject):
            raise Unusable("no beat is annotated")
        order = np.argsort(whole.time.view(np.int64), kind="stable")
        return Columns(
            whole.subject,
            whole.time[order],
            whole.code[order],
            whole.value,
            whole.codes,
            None if whole.frames is None else whole.frames[order],
        )

    def _beats(self, subject: int, name: str) -> Columns | None:
        """Return the beats of a record, or None where the record is paced."""
        found = header(self.folder / f"{name}.hea")
        marks = annotations(self.folder / f"{name}.atr", found.samples)
        if (marks.code == _PACED).any():
            return None
        signal = millivolts(found, _place(found, self.asked.lead), self.folder)
        beats = np.isin(marks.code, list(AAMI))
        at = marks.sample[beats]
        if 4 * len(at) * (self.asked.before + self.asked.after) > MOST_BYTES:
            raise Unusable("a record has too many beats")
        frames = windows(signal, at, found.rate, self.asked)
        if not np.isfinite(frames).all():
            raise Unusable("samples are missing where a beat is")
        return Columns(
            subject=np.full(len(at), subject, np.int64),
            time=_times(found, at),
            code=np.array([CLASSES.index(AAMI[code]) for code in marks.code[beats].tolist()], np.uint32),
            value=np.full(len(at), np.nan, np.float32),
            codes=CODES,
            frames=frames,
        )


def windows(
    signal: NDArray[np.float32], at: NDArray[np.int64], rate: float, asked: Options
) -> NDArray[np.float32]:
    """Return the windows around the samples `at`, (beats, before + after), resampled from `rate`.

    Beyond the ends of the record its first, or last, sample goes on.
    """
    taps, first = _resampling(rate, asked.rate, asked.before, asked.after)
    span = np.arange(first, first + len(taps))
    frames = np.empty((len(at), asked.before + asked.after), np.float32)
    step = max(1, _AT_ONCE // len(span))
    for start in range(0, len(at), step):
        some = slice(start, start + step)
        frames[some] = signal[np.clip(at[some, None] + span, 0, len(signal) - 1)] @ taps
    return frames


@lru_cache(maxsize=8)
def _resampling(old: float, new: int, before: int, after: int) -> tuple[NDArray[np.float32], int]:
    """Return the matrix (taps, samples of a window), and where its first tap lies from the beat.

    Interpolation by a sinc under a Lanczos window of 8 lobes (Duchon, 1979), which where the rate falls is
    stretched, so that it cuts what is above half of the new rate.
    """
    times = np.arange(-before, after) * (old / new)
    stretch = max(1.0, old / new)
    reach = int(np.ceil(_LOBES * stretch))
    first, end = int(np.floor(times[0])) - reach, int(np.ceil(times[-1])) + reach + 1
    if (end - first) * len(times) > _MOST_TAPS:
        raise Unusable("a record's rate is too far above the one asked for")
    steps = (np.arange(first, end)[:, None] - times) / stretch
    taps = np.where(np.abs(steps) < _LOBES, np.sinc(steps) * np.sinc(steps / _LOBES), 0.0)
    return (taps / taps.sum(axis=0)).astype(np.float32), first


def _people(names: tuple[str, ...], asked: Options, folder: Path) -> dict[int, list[str]]:
    """Return the records of each person."""
    if asked.subjects:
        listed = table.Options(asked.subjects, "subject_id", "", "all", "", ("record",))
        rows, _ = table.rows_of(listed, folder)
        if rows["record"].n_unique() != rows.height:
            raise WrongInput(
                f"{Path(asked.subjects).name} lists a record twice", hint="a record is of one person"
            )
        owner = dict(zip(rows["record"].to_list(), rows[table.SUBJECT].to_list(), strict=True))
    else:
        owner = {name: int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 19}  # noqa: PLR2004 - 63 bits
    people: dict[int, list[str]] = {}
    for name in names:
        if name not in owner:
            raise WrongInput(
                "a record is of nobody: its name is no number, or the table of subjects lacks it",
                hint="subjects = a table of record, subject_id",
            )
        subject = owner[name]
        if not asked.subjects and _of_one_man(folder, name):
            subject = _ONE_MAN[1]
        people.setdefault(subject, []).append(name)
    return people


def _of_one_man(folder: Path, name: str) -> bool:
    if name != _ONE_MAN[0]:
        return False
    try:
        found = header(folder / f"{name}.hea")
    except Unusable:
        return False
    return (found.rate, found.samples) == _ONE_MAN[2:]


def _place(found: Header, lead: str) -> int:
    """Return the place of the lead, or of the first signal where none is named."""
    if not lead:
        return 0
    places = [place for place, signal in enumerate(found.signals) if signal.lead == lead]
    if len(places) != 1:
        raise Unusable("a record lacks the lead, or has it twice")
    return places[0]


def _times(found: Header, at: NDArray[np.int64]) -> NDArray[np.datetime64]:
    if found.start is None:
        return np.full(len(at), "NaT", "datetime64[us]")
    seconds = (at / found.rate).tolist()
    try:
        return np.array([found.start + timedelta(seconds=each) for each in seconds], "datetime64[us]")
    except OverflowError:
        raise Unusable("a beat lies beyond the year 9999") from None


def _whole(options: Mapping[str, str], key: str, default: int, least: int) -> int:
    text = options.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= MOST_SAMPLES):  # noqa: PLR2004
        raise WrongInput(
            f"{key} is no whole number from {least} to {MOST_SAMPLES}", hint=f'such as {key} = "{default}"'
        )
    return int(text)
