"""Scans and ECG records for the fuzzer: files of one person, opened as a source of one, and compared."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from oathbound.data.files import InFiles
from oathbound.data.scans import open_scans
from oathbound.data.signals import open_wfdb

SHADES = np.arange(64, dtype=np.uint8).reshape(8, 8)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    """Return what `save` writes."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def png() -> list[bytes]:
    """Return images of several kinds."""
    grey = Image.fromarray(SHADES)
    deep = Image.fromarray(SHADES.astype(np.uint16) * 999)
    kinds = (grey, deep, grey.convert("1"), grey.convert("P"), grey.convert("RGBA"), grey.convert("LA"))
    return [saved(lambda file, image=image: image.save(file, "PNG")) for image in kinds]


def npz() -> list[bytes]:
    """Return arrays of several kinds, packed and not."""
    kinds = (SHADES, SHADES.astype(">f4"), np.asfortranarray(SHADES.astype("<i2")), SHADES > 7)
    packed = [saved(lambda file, array=array: np.savez_compressed(file, scan=array)) for array in kinds]
    return [*packed, saved(lambda file: np.savez(file, scan=SHADES))]


def dicom() -> list[bytes]:
    """Return a small scan of several transfer syntaxes, with every header of a real one."""
    made = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    made.Rows = made.Columns = 8
    made.PixelData = bytes(range(128))
    del made[0xFFFCFFFC]
    plain = saved(lambda file: made.save_as(file, enforce_file_format=True))
    made.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    implicit = saved(lambda file: made.save_as(file, implicit_vr=True, enforce_file_format=True))
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.compress(pydicom.uid.RLELossless)
    return [plain, implicit, saved(lambda file: made.save_as(file, enforce_file_format=True))]


def record() -> list[dict[str, bytes]]:
    """Return a record of each format of samples."""
    header = b"# note\n7 1 360/1(0) 4 10:00:00 01/02/2000\n7.dat %s 200(0)/mV 12 0 1 10 0 MLII\n"
    marks = np.array(
        [28 << 10 | 1, 63 << 10 | 3, 0, 0, 1 << 10 | 1, 59 << 10, 0, 1, 5 << 10, 0], "<u2"
    ).tobytes()
    samples = {b"16": np.array([1, 2, 3, 4], "<i2").tobytes(), b"212": bytes([1, 0, 2, 3, 0, 4])}
    return [{"7.hea": header % form, "7.dat": values, "7.atr": marks} for form, values in samples.items()]


def scan(ending: str, data: bytes, folder: Path) -> object:
    """Open a table of one scan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"a.{ending}").write_bytes(data)
    (folder / "scans.csv").write_text(f"subject_id,path,label\n7,a.{ending},x\n")
    return used(open_scans({"path": "scans.csv", "rows": "4", "columns": "12"}, folder))


def beats(folder: Path) -> object:
    """Open a folder of records."""
    return used(open_wfdb({"path": ".", "rate": "250", "before": "3", "after": "4"}, folder))


def used(source: InFiles) -> object:
    """Read everything that can be."""
    return source.duplicates(frozenset(source.subjects()) - source.unreadable())
