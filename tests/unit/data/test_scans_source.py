import csv
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("PIL", reason="scans are an extra")
from PIL import Image

from oathbound.core.errors import NothingExamined, OathboundError, WrongInput
from oathbound.data import columns, scans
from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source

ULTRASOUND = Path(__file__).resolve().parents[3] / "../shared/data/busi_breast_ultrasound"
TUMOURS = ULTRASOUND.parent / "brain_tumor_mri" / "images_64.npz"
SIZE = {"rows": "2", "columns": "2"}


def scan(path, value=0):
    path.parent.mkdir(exist_ok=True, parents=True)
    pixels = np.full((4, 4), value)
    pixels[:2, :2] += 4
    if path.suffix == ".npz":
        np.savez(path, scan=pixels.astype(np.float32))
    else:
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def written(folder, rows, header="subject_id,path,label"):
    (folder / "scans.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def opened(folder, **options):
    return open_source("scans", {"path": "scans.csv", **SIZE, **options}, folder)


def people(source):
    return {
        subject: piece
        for subject in sorted(set(source.subjects()) - source.unreadable())
        for piece in source.read(frozenset([subject]))
    }


def test_a_row_is_an_event_with_its_scan(tmp_path):
    for name, value in (("a", 10), ("b", 20), ("c", 30)):
        scan(tmp_path / "png" / f"{name}.png", value)
    source = opened(written(tmp_path, ["7,png/b.png,benign", "3,png/a.png,malignant", "7,png/c.png,"]))
    assert source.subjects() == (3, 7)
    found = people(source)
    assert [found[7].codes[place] for place in found[7].code] == ["scan//benign", "scan"]
    assert found[3].frames.tolist() == [[[14, 10], [10, 10]]]
    assert found[7].frames.dtype == np.float32
    assert np.isnat(found[7].time).all()
    assert np.isnan(found[7].value).all()
    (both,) = source.read(frozenset([3, 7]))
    assert both.subject.tolist() == [3, 7, 7]
    assert source.describe().dropped.patients == 0


def test_scans_of_a_patient_come_by_time(tmp_path):
    for name, value in (("a", 10), ("b", 20)):
        scan(tmp_path / f"{name}.npz", value)
    rows = ["1,a.npz,x,2001-02-03", "1,b.npz,y,2000-02-03", "2,a.npz,x,never", "2,b.npz,x,2001-01-01"]
    source = opened(written(tmp_path, rows, "subject_id,path,label,taken"), time="taken")
    assert source.unreadable() == {2}
    piece = people(source)[1]
    assert piece.time.astype("M8[D]").astype(str).tolist() == ["2000-02-03", "2001-02-03"]
    assert piece.frames[:, 1, 1].tolist() == [20, 10]


def test_a_bad_file_takes_its_patient_whole_and_nobody_else(tmp_path):
    rows = []
    for subject in range(1, 31):
        for turn in "ab":
            scan(tmp_path / f"{subject}{turn}.png", subject)
            rows.append(f"{subject},{subject}{turn}.png,x")
    for subject in range(1, 13):
        (tmp_path / f"{subject}b.png").write_bytes(b"\x89PNG cut")
    (tmp_path / "13a.png").unlink()
    (tmp_path / "14a.png").unlink()
    (tmp_path / "14a.png").mkdir()
    (tmp_path / "15a.png").unlink()
    os.mkfifo(tmp_path / "15a.png")
    rows[30] = "16,,x"
    source = opened(written(tmp_path, rows))
    assert source.unreadable() == set(range(1, 17))
    assert sorted(people(source)) == list(range(17, 31))
    assert source.describe().dropped.patients == 15
    assert dict(source.describe().dropped.why) == {
        "a file is missing, damaged or of another format": 15,
        "a row has no path": None,
    }


def test_a_scan_that_changes_after_opening_is_an_error(tmp_path):
    for name in "ab":
        scan(tmp_path / f"{name}.png")
    source = opened(written(tmp_path, ["1,a.png,x", "2,b.png,x"]))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(WrongInput, match="changed"):
        list(source.read(frozenset([1, 2])))
    with pytest.raises(WrongInput, match="gone"):
        source.columns(restored("study", "sha256:0", {"members": [1], "held_out": [9]}))


def test_paths_stay_below_the_table(tmp_path):
    folder = tmp_path / "set"
    scan(tmp_path / "secret.png")
    scan(folder / "a.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        with pytest.raises(WrongInput, match="leave the table's folder"):
            opened(written(folder, ["1,a.png,x", f"2,{path},x"]))
    (folder / "loop").symlink_to("loop")
    assert opened(written(folder, ["1,a.png,x", "2,loop,x", "3,a\0b.png,x"])).unreadable() == {2, 3}


def test_scans_of_two_units_are_refused(tmp_path):
    scan(tmp_path / "a.png")
    scan(tmp_path / "b.npz")
    with pytest.raises(WrongInput, match=r"several units: PNG of 8 bits, numbers of npz"):
        opened(written(tmp_path, ["1,a.png,x", "2,b.npz,x"]))


def test_equal_labels_with_other_pixels_are_no_copies(tmp_path):
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        scan(tmp_path / f"{name}.png", value)
    source = opened(written(tmp_path, ["1,a.png,x", "2,b.png,x", "3,c.png,x", "4,a.png,y"]))
    assert source.duplicates(frozenset([1, 2, 3, 4])) == {2}


def test_real_copies_are_found_among_real_scans(tmp_path):
    """That set holds exact duplicates, which its publishers did not know of."""
    if not TUMOURS.is_file():
        pytest.skip("the shared MRI slices are not here")
    with np.load(TUMOURS) as file:
        groups, images = file["dup_group"], file["images"]
    found, counts = np.unique(groups, return_counts=True)
    places = np.flatnonzero(np.isin(groups, [*found[counts > 1][:20], *found[counts == 1][:60]]))
    for place in places:
        np.savez(tmp_path / f"{place}.npz", scan=images[place])
    folder = written(tmp_path, [f"{place},{place}.npz,x" for place in places])
    source = opened(folder, rows="64", columns="64", burnt_in="admit")
    later = {int(place) for place in places if (groups[:place] == groups[place]).any()}
    assert source.duplicates(frozenset(source.subjects())) == later
    assert len(later) >= 20


def test_a_piece_ends_with_the_patient_who_fills_it(tmp_path, monkeypatch):
    rows = []
    for subject in range(1, 8):
        scan(tmp_path / f"{subject}.png", subject)
        rows += [f"{subject},{subject}.png,x"] * 2
    source = opened(written(tmp_path, rows))
    monkeypatch.setattr(columns, "MOST_FRAME_BYTES", 50)
    assert [sorted(set(piece.subject.tolist())) for piece in source.read(frozenset(range(8)) - {0})] == [
        [1, 2],
        [3, 4],
        [5, 6],
        [7],
    ]


def test_a_patient_with_too_many_scans_is_refused(tmp_path, monkeypatch):
    scan(tmp_path / "a.png")
    folder = written(tmp_path, ["1,a.png,x", "2,a.png,x", "2,a.png,x", "2,a.png,y"])
    monkeypatch.setattr(scans, "MOST_BYTES", 2 * 4 * 4)
    assert opened(folder).unreadable() == {2}


@pytest.mark.parametrize(
    "options",
    [
        {"rows": ""}, {"rows": "0"}, {"columns": "2.5"}, {"columns": "5000"}, {"faces": "blur"}, {"x": "y"},
        {"burnt_in": ""}, {"time": "label"}, {"time": "when"}, {"path": ""}, {"path": "none.csv"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options(tmp_path, options):
    scan(tmp_path / "a.png")
    with pytest.raises(OathboundError):
        opened(written(tmp_path, ["1,a.png,x"]), **options)


def test_wrong_tables(tmp_path):
    for header in ("subject_id,path", "path,label", "subject_id,label"):
        with pytest.raises(WrongInput, match="has no column"):
            opened(written(tmp_path, [",".join("1" for _ in header.split(","))], header))
    with pytest.raises(NothingExamined, match="no recording that can be used"):
        opened(written(tmp_path, ["1,a.png,x"]))


def test_real_ultrasound_is_read_and_what_shows_text_is_refused(tmp_path):
    if not ULTRASOUND.is_dir():
        pytest.skip("the shared ultrasound images are not here")
    with (ULTRASOUND / "labels.csv").open() as file:
        listed = [row for row in csv.DictReader(file) if row["label_name"] == "benign"][:140]
    with zipfile.ZipFile(ULTRASOUND / "images_128.zip") as archive:
        archive.extractall(tmp_path, [row["file"] for row in listed])
    folder = written(
        tmp_path, [f"{row['near_dup_group']},{row['file']},{row['label_name']}" for row in listed]
    )
    admitted = opened(folder, rows="64", columns="64", burnt_in="admit")
    assert not admitted.unreadable()
    # benign_052 and benign_134 show "LEFT BREAST"
    labelled = {
        int(row["near_dup_group"]) for row in listed if row["image_id"] in {"benign_052", "benign_134"}
    }
    refused = opened(folder, rows="64", columns="64").unreadable()
    assert labelled <= refused
    assert len(refused) < 6
    (piece,) = admitted.read(frozenset([int(listed[0]["near_dup_group"])]))
    with Image.open(tmp_path / listed[0]["file"]) as image:
        whole = np.asarray(image, np.float32)
    assert piece.frames[0] == pytest.approx(whole.reshape(64, 2, 64, 2).mean((1, 3)), abs=1e-4)
