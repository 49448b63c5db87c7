"""Scans: a table of `subject_id`, `path`, `label` and perhaps `time`, beside PNG, npz or DICOM files.

A row is an event with the code `scan//<label>`, or `scan` where there is no label, whose frame is the scan,
resampled to `rows` x `columns`, as float32: grey values of PNG, numbers as npz has them, and what DICOM calls
modality units (`data/dicom.py`). Options: `path`, the table, a .csv or .parquet file; `rows`, `columns`;
`time`, the column of the date; `burnt_in` and `faces`, each "refuse" (the default) or "admit": what becomes
of a patient with a scan that may show text or a face. Paths are relative to the table, in whose folder they
stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns
from oathbound.data import dicom, table
from oathbound.data.burnt_in import shows_text
from oathbound.data.disclosure import spoken
from oathbound.data.files import MOST_BYTES, InFiles, Unusable, content
from oathbound.data.pixels import npz, png, resampled
from oathbound.data.source import check_options

MOST_PIXELS: Final = 1024
"""Along an axis of what a source gives out."""

OPEN: Final = "a header does not say NO to burnt-in text (BurnedInAnnotation; see the option burnt_in)"
LETTERS: Final = "letters were seen on a scan (see the option burnt_in)"

_OPTIONS: Final = ("path", "rows", "columns", "time", "burnt_in", "faces")
_DOES: Final = ("refuse", "admit")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a source of scans."""

    path: str
    shape: tuple[int, int]
    time: str
    admit_text: bool
    admit_faces: bool

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Return the options; `WrongInput` for one that is unknown, missing or wrong."""
        check_options("scans", options, _OPTIONS)
        if options.get("time") in {"subject_id", "path", "label"}:
            raise WrongInput(f"the column {options['time']} cannot be the time as well")
        does = {key: options.get(key, "refuse") for key in ("burnt_in", "faces")}
        for key, value in does.items():
            if value not in _DOES:
                raise WrongInput(f"{key} is none of {', '.join(_DOES)}", hint=f'such as {key} = "refuse"')
        return cls(
            path=options["path"],
            shape=(_side(options, "rows"), _side(options, "columns")),
            time=options.get("time", ""),
            admit_text=does["burnt_in"] == "admit",
            admit_faces=does["faces"] == "admit",
        )


def open_scans(options: Mapping[str, str], base: Path) -> InFiles:
    """Open the table, whose path starts at `base`, and read every scan once; nothing of them is kept.

    A patient with a scan that cannot be used is quarantined whole, and counted by the reason. Raises
    `WrongInput` for a table or an option that is wrong, and for scans in several units.
    """
    asked = Options.parse(options)
    columns = table.Options(asked.path, "subject_id", "", "all", asked.time, ("path", "label"))
    rows, without = table.rows_of(columns, base)
    rows = rows.with_columns(pl.col("label").replace(dict.fromkeys(table.ABSENT)))
    folder = (base / asked.path).parent.resolve()
    scans, refused = _scans(rows, folder, asked)
    labels = rows["label"].drop_nulls().unique().to_list()
    reader = _Reader(asked, scans, tuple(sorted({"scan", *(f"scan//{label}" for label in labels)})))
    source = InFiles.open(
        "scans", scans, reader, shape=asked.shape, refused=refused.items(), without_subject=without
    )
    if len(reader.units) > 1:
        raise WrongInput(
            f"the scans are in several units: {', '.join(sorted(reader.units))}",
            hint="convert them to one, or make a table of each",
        )
    return source


@dataclass(frozen=True, slots=True)
class _Scan:
    path: Path
    code: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the scans of one patient, and collects in which units they are."""

    asked: Options
    scans: Mapping[int, list[_Scan]] = field(repr=False)
    codes: tuple[str, ...] = field(repr=False)
    units: set[str] = field(default_factory=set)

    def __call__(self, subject: int) -> Columns:
        """Return the patient's columns; `Unusable` for one with a scan that cannot be used."""
        scans = self.scans[subject]
        frames = np.empty((len(scans), *self.asked.shape), np.float32)
        heads = dicom.Heads()
        for place, scan in enumerate(scans):
            frames[place] = self._frame(scan.path, heads)
        if heads.may_show_a_face() and not self.asked.admit_faces:
            raise Unusable("a series of a head may show a face")
        places = {code: place for place, code in enumerate(self.codes)}
        return Columns(
            subject=np.full(len(scans), subject, np.int64),
            time=np.array([scan.time for scan in scans], "datetime64[us]"),
            code=np.array([places[scan.code] for scan in scans], np.uint32),
            value=np.full(len(scans), np.nan, np.float32),
            codes=self.codes,
            frames=frames,
        )

    def _frame(self, path: Path, heads: dicom.Heads) -> np.ndarray:
        data, look, says_text = content(path), not self.asked.admit_text, False
        if path.suffix.lower() in {".png", ".npz"}:
            pixels, unit = png(data) if path.suffix.lower() == ".png" else (npz(data), "numbers of npz")
            may_hold_text = look and shows_text(pixels)
        else:
            scan = dicom.read(data, look=look)
            pixels, unit, may_hold_text = scan.pixels, scan.unit, scan.may_hold_text
            says_text = scan.says_text
            heads.add(scan)
        if look and may_hold_text:
            raise Unusable(OPEN if says_text else LETTERS)
        self.units.add(unit)
        return resampled(pixels, self.asked.shape)


def _scans(rows: pl.DataFrame, folder: Path, asked: Options) -> tuple[dict[int, list[_Scan]], dict[int, str]]:
    """Return the readable patients' scans, each one's by time; and why the other patients are refused."""
    dateless = rows.filter(pl.col(table.TIME).is_null())[table.SUBJECT] if asked.time else ()
    refused = dict.fromkeys(dateless, "a row has no date of the years 1 to 9999")
    scans: dict[int, list[_Scan]] = {}
    ordered = rows.sort([table.SUBJECT, *([table.TIME] if asked.time else [])], maintain_order=True)
    times = ordered[table.TIME].to_list() if asked.time else [None] * ordered.height
    outside = 0
    for subject, name, label, time in zip(
        ordered[table.SUBJECT].to_list(),
        ordered["path"].to_list(),
        ordered["label"].to_list(),
        times,
        strict=True,
    ):
        path = _below(folder, name)
        outside += path is None and name is not None
        if path is None:
            refused.setdefault(subject, "a row has no path")
        else:
            code = "scan" if label is None else f"scan//{label}"
            scans.setdefault(subject, []).append(_Scan(path, code, time))
    if outside:
        raise WrongInput(
            f"{Path(asked.path).name}: the paths of {spoken(outside)} rows leave the table's folder",
            hint="a path is relative to the table; links that lead elsewhere count as well",
        )
    most = MOST_BYTES // (4 * prod(asked.shape))
    refused |= {subject: "too many scans" for subject, each in scans.items() if len(each) > most}
    return {subject: each for subject, each in scans.items() if subject not in refused}, refused


def _below(folder: Path, name: str | None) -> Path | None:
    """Return the file of this name below the folder, links followed; None where it lies elsewhere."""
    if name is None:
        return None
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):  # a loop of links, or a zero byte: read as a missing file
        return folder / "\0"
    return path if path.is_relative_to(folder) else None


def _side(options: Mapping[str, str], key: str) -> int:
    text = options.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_PIXELS))):
        raise WrongInput(f"a scans source needs {key}, a whole number", hint=f'such as {key} = "64"')
    if not 0 < int(text) <= MOST_PIXELS:
        raise WrongInput(f"{key} is not between 1 and {MOST_PIXELS}")
    return int(text)
