"""WFDB files, as MIT-BIH has them: header, signals of formats 212 and 16, annotations of the MIT format.

Read here rather than with the package `wfdb`, which brings 30 others, among them a plotting library, an HTTP
client and a codec of sound. A file that is not as its header says raises `Unusable`: the header's checksum is
compared with the samples. Formats: header(5), signal(5) and annot(5) of the WFDB Applications Guide.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.data.files import Unusable, content

DAMAGED: Final = "a file of a record is missing, damaged or not of its header"
UNKNOWN: Final = "a record is of a format that is not read"

MAX_HEADER_BYTES: Final = 2**16
MAX_ANNOTATION_BYTES: Final = 2**24
MAX_SIGNALS: Final = 64
MAX_SAMPLES: Final = 2**28
MAX_RATE: Final = 100_000
MAX_GAIN: Final = 10**9
MAX_ZERO: Final = 2**31

_FEWEST_FIELDS: Final = 4
_INVALID: Final = {"212": -2048, "16": -32768}
"""The sample that stands for one that is missing, by format."""

_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _AUX = range(59, 64)


@dataclass(frozen=True, slots=True)
class Signal:
    """One lead: its file, and how a sample becomes millivolts, (sample - baseline) / gain."""

    file: str
    format: str
    gain: float
    baseline: int
    checksum: int | None
    lead: str


@dataclass(frozen=True, slots=True)
class Header:
    """`rate` in Hz, `samples` of each signal, and when the first was taken, if it is said."""

    rate: float
    samples: int
    start: datetime | None
    signals: tuple[Signal, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Annotations:
    """Where each annotation is, in samples, ascending, and its code of annot(5)."""

    sample: NDArray[np.int64] = field(repr=False)
    code: NDArray[np.uint8] = field(repr=False)


def header(path: Path) -> Header:
    """Read a .hea file."""
    data = content(path)
    if len(data) > MAX_HEADER_BYTES:
        raise Unusable(UNKNOWN)
    try:
        text = data.decode("utf-8")
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        (name, signals, rate, samples), when = lines[0][:4], lines[0][4:6]
        if "/" in name:
            raise Unusable("a record is of several segments")
        found = Header(
            rate=_number(rate.split("/")[0].split("(")[0]),
            samples=int(samples),
            start=_moment(when),
            signals=tuple(_signal(line) for line in lines[1:]),
        )
        if len(found.signals) != int(signals):
            raise Unusable(DAMAGED)
    except (ValueError, IndexError, OverflowError):
        raise Unusable(DAMAGED) from None
    if not (1 <= found.rate <= MAX_RATE and 0 < found.samples <= MAX_SAMPLES):
        raise Unusable(DAMAGED)
    if not 0 < len(found.signals) <= MAX_SIGNALS:
        raise Unusable(DAMAGED)
    return found


def millivolts(found: Header, place: int, folder: Path) -> NDArray[np.float32]:
    """Return all samples of the signal at `place`; NaN where one is missing."""
    signal = found.signals[place]
    together = [number for number, each in enumerate(found.signals) if each.file == signal.file]
    if {found.signals[number].format for number in together} != {signal.format}:
        raise Unusable(UNKNOWN)
    raw = content(folder / signal.file)
    every = _samples(raw, signal.format, found.samples * len(together))
    stored = every[together.index(place) :: len(together)]
    if signal.checksum is not None and (int(stored.sum(dtype=np.int64)) - signal.checksum) % 2**16:
        raise Unusable(DAMAGED)
    volts = ((stored.astype(np.float32) - np.float32(signal.baseline)) / np.float32(signal.gain)).astype(
        np.float32
    )
    volts[stored == _INVALID[signal.format]] = np.nan
    return volts


def annotations(path: Path, samples: int) -> Annotations:
    """Read an annotation file, which must end as the format says, inside a signal of so many samples."""
    data = content(path)
    if len(data) > MAX_ANNOTATION_BYTES:
        raise Unusable(UNKNOWN)
    words = np.frombuffer(data[: len(data) // 2 * 2], "<u2").tolist()
    found: list[tuple[int, int]] = []
    time, place, ended = 0, 0, False
    while place < len(words):
        code, interval = words[place] >> 10, words[place] & 0x3FF
        place += 1
        if code == 0 and interval == 0:
            ended = True
            break
        if code == _SKIP:
            if place + 2 > len(words):
                break
            skipped = words[place] << 16 | words[place + 1]
            time += skipped - 2**32 if skipped >= 2**31 else skipped
            place += 2
        elif code == _AUX:
            place += (interval + 1) // 2
        elif code not in {_NUMBER, _SUBTYPE, _CHANNEL}:
            time += interval
            found.append((time, code))
    sample = np.array([when for when, _ in found], np.int64)
    if not ended or ((sample < 0) | (sample >= samples)).any() or (np.diff(sample) < 0).any():
        raise Unusable("annotations do not end, or lie beyond the signal")
    return Annotations(sample, np.array([code for _, code in found], np.uint8))


def _samples(raw: bytes, form: str, count: int) -> NDArray[np.int16]:
    """Return the samples of a file, the signals' in turn."""
    if form == "16":
        if len(raw) != 2 * count:
            raise Unusable(DAMAGED)
        return np.frombuffer(raw, "<i2")
    if len(raw) != (3 * count + 1) // 2:
        raise Unusable(DAMAGED)
    # two samples in three bytes: the low 8 bits of each in one of its own, the high 4 of both in the second
    triples = np.zeros(-(-count // 2) * 3, np.uint8)
    triples[: len(raw)] = np.frombuffer(raw, np.uint8)
    first, high, second = (triples[start::3].astype(np.int16) for start in range(3))
    pairs = np.stack([first | (high & 0x0F) << 8, second | (high & 0xF0) << 4], axis=1)
    return np.asarray(((pairs ^ 0x800) - 0x800).reshape(-1)[:count])


def _signal(fields: list[str]) -> Signal:
    """Read a signal's line: file, format, gain(baseline)/units, bits, zero, first sample, checksum, ..."""
    file, form, gain, *others = fields
    if form not in _INVALID or Path(file).name != file or file in {".", ".."} or len(fields) < _FEWEST_FIELDS:
        raise Unusable(UNKNOWN)
    per_unit, _, units = gain.partition("/")
    number, _, baseline = per_unit.partition("(")
    zero = others[1] if len(others) > 1 else "0"
    scale = {"": 1.0, "mV": 1.0, "uV": 1000.0, "V": 0.001}.get(units)
    if scale is None or not 1 / MAX_GAIN < _number(number) < MAX_GAIN:
        raise Unusable("a lead has no gain in volts")
    level = int(baseline.rstrip(")")) if baseline else int(zero)
    if abs(level) > MAX_ZERO:
        raise Unusable(DAMAGED)
    return Signal(
        file,
        form,
        _number(number) * scale,
        level,
        int(others[3]) if len(others) > 3 else None,  # noqa: PLR2004 - its place on the line
        " ".join(others[5:]),
    )


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise Unusable(DAMAGED)
    return number


def _moment(fields: list[str]) -> datetime | None:
    """Return the time and date of a record's line, as a MEDS time; None where either is missing."""
    if len(fields) < 2:  # noqa: PLR2004 - a time and a date
        return None
    whole = fields[0].partition(".")[0]
    found = datetime.strptime(f"{whole} {fields[1]}", "%H:%M:%S %d/%m/%Y").replace(tzinfo=UTC)
    return found.replace(tzinfo=None)
