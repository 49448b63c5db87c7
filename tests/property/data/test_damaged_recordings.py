"""Whatever is done to a file, it is read or it is unusable: never another error."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("PIL", reason="scans are an extra")
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from oathbound.data import dicom
from oathbound.data.files import Unusable
from oathbound.data.pixels import npz, png
from oathbound.data.waveforms import annotations, header, millivolts


def saved(save):
    file = io.BytesIO()
    save(file)
    return file.getvalue()


SHADES = np.arange(64, dtype=np.uint8).reshape(8, 8)
PNG = saved(lambda file: Image.fromarray(SHADES).save(file, "PNG"))
NPZ = saved(lambda file: np.savez_compressed(file, scan=SHADES))
HEADER = b"a 1 360/1 4 10:00:00 01/02/2000\na.dat 16 200(0)/mV 11 0 1 10 0 MLII\n"
ANNOTATIONS = np.array([1 << 10 | 1, 59 << 10, 0, 1, 63 << 10 | 1, 0, 5 << 10 | 1, 0], "<u2").tobytes()


def shrunk():
    """Return a small file with every header of a real one: names, sequences, private attributes."""
    made = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    made.Rows = made.Columns = 8
    made.PixelData = bytes(128)
    del made[0xFFFCFFFC]
    return saved(lambda file: made.save_as(file, enforce_file_format=True))


DICOM = shrunk()
damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "put"]), st.floats(0, 1, exclude_max=True), st.integers(0, 255)
    ),
    min_size=1,
    max_size=3,
)


def damaged(whole, done):
    data = bytearray(whole)
    for how, where, value in done:
        place = int(where * len(data))
        if how == "flip":
            data[place : place + 1] = bytes([value])
        elif how == "cut":
            del data[place : place + value % 16]
        else:
            data[place:place] = bytes([value, value])
    return bytes(data)


@pytest.mark.parametrize(
    ("read", "whole"), [(png, PNG), (npz, NPZ), (dicom.read, DICOM)], ids=["png", "npz", "dicom"]
)
@settings(deadline=None)  # the first of them imports a decoder
@given(done=damages)
def test_a_scan_is_read_or_unusable(read, whole, done):
    read(whole)
    with contextlib.suppress(Unusable):
        read(damaged(whole, done))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("record")


@settings(deadline=None)  # it writes files, and other tests use the disk too
@given(done=damages, which=st.sampled_from(["hea", "dat", "atr"]))
def test_a_record_is_read_or_unusable(folder, done, which):
    files = {"hea": HEADER, "dat": np.array([1, 2, 3, 4], "<i2").tobytes(), "atr": ANNOTATIONS}

    def read():
        for ending, content in files.items():
            (folder / f"a.{ending}").write_bytes(content)
        found = header(folder / "a.hea")
        annotations(folder / "a.atr", 100_000)
        return millivolts(found, 0, folder)

    assert read().tolist() == pytest.approx([0.005, 0.01, 0.015, 0.02])
    files[which] = damaged(files[which], done)
    with contextlib.suppress(Unusable):
        read()
