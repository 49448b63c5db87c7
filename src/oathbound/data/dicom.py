"""DICOM files: one frame of grey values, and what the header says about text and faces in it.

Read are the pixels and the dozen attributes named here; nothing else of a header leaves this module. Values
are in modality units: stored values by rescale slope and intercept (of a CT, Hounsfield units). The window is
not applied. MONOCHROME1 is turned round within the range of its bits, so that more is brighter everywhere.
RGB and YBR_FULL become grey by ITU-R BT.601 luma.

A file of several frames is refused, since which frame shows the finding is for a physician to say: write one
file a frame. So is a compressed one, except RLE: unpacking JPEG takes plugins that nobody bounds.
"""

import io
import logging
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset

from oathbound.data.burnt_in import shows_text
from oathbound.data.files import UNREADABLE, Unusable
from oathbound.data.pixels import MAX_PIXELS

FACE_SLICES: Final = 10
"""From as many slices of a series on, a head's surface may be rendered."""

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG_ENDIAN, _RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
_SYNTAXES: Final = frozenset({_IMPLICIT, _EXPLICIT, _BIG_ENDIAN, _RLE})
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
"""Also the stem of its multi-frame classes."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)

_WITH_TEXT: Final = frozenset(
    {"US", "IVUS", "SC", "OT", "XC", "ES", "GM", "DOC", "HC", "RF", "XA", "ECG", "BDUS"}
)
"""Modalities whose devices write into pixels: text is suspected where BurnedInAnnotation is missing."""

_SLICED: Final = frozenset({"MR", "CT", "PT", "NM"})
_OTHERS: Final = frozenset({"CR", "DX", "MG", "IO", "PX", "OP", "OPT", "SM"})

_NEAR_A_FACE: Final = frozenset(
    {
        *("BRAIN", "CSPINE", "EAR", "EYE", "FACE", "FACIAL", "HEAD", "HEADNECK", "IAC", "JAW", "MANDIBLE"),
        *("MAXILLA", "MAXILLOFACIAL", "NECK", "NOSE", "ORBIT", "ORBITS", "PARANASAL", "PARANASALSINUS"),
        *("PITUITARY", "SELLA", "SINUS", "SINUSES", "SKULL", "TEETH", "TMJ", "TONGUE", "WHOLEBODY"),
    }
)
"""BodyPartExamined, without spaces and marks, of series whose field of view may hold a face (PS3.16, L)."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One frame. `series` is the UID of a series that may show a face, or "" where it cannot.

    `says_text`: the header names text, or leaves it open; `may_hold_text`: that, or letters were seen.
    """

    pixels: NDArray[np.float32] = field(repr=False)
    unit: str
    says_text: bool
    may_hold_text: bool
    series: str = field(repr=False)


@dataclass(slots=True)
class Heads:
    """Counts the slices of each series of one patient that may show a face."""

    slices: Counter[str] = field(default_factory=Counter)

    def add(self, scan: Scan) -> None:
        """Count a scan."""
        if scan.series:
            self.slices[scan.series] += 1

    def may_show_a_face(self) -> bool:
        """Say whether a series has enough slices for a surface."""
        return max(self.slices.values(), default=0) >= FACE_SLICES


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what pydicom warns of: values that are not as the standard has them, with the values."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def read(data: bytes, *, look: bool = True) -> Scan:
    """Return the frame of a DICOM file; `Unusable` for one that is damaged, packed or not of one frame.

    Unless `look`, whether it may hold text is what the header says alone.
    """
    try:
        with quiet():
            _check_syntax(data)
            return _scan(dcmread(io.BytesIO(data)), look=look)
    # pydicom reads an element when it is asked for, and raises any of these for a damaged one
    except (
        InvalidDicomError,
        BytesLengthException,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        OSError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ):
        raise Unusable(UNREADABLE) from None


def _check_syntax(data: bytes) -> None:
    """Refuse a packed file before any of it is unpacked: a deflated one may hold any number of bytes.

    The file's meta information, group 2, is never packed (PS3.10, 7.1).
    """
    if data[128:132] != b"DICM":
        raise Unusable(UNREADABLE)
    meta = read_dataset(
        io.BytesIO(data[132:]),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != 2,  # noqa: PLR2004 - the group's number
    )
    if str(meta.TransferSyntaxUID) not in _SYNTAXES:
        raise Unusable("a DICOM file is compressed")


def _scan(dataset: Dataset, *, look: bool) -> Scan:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= MAX_PIXELS or min(rows, columns) < 1:
        raise Unusable("a scan is empty or too large")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise Unusable("a file has several frames")
    if "PixelData" not in dataset or "ModalityLUTSequence" in dataset or dataset.BitsAllocated not in {8, 16}:
        raise Unusable("a DICOM file has pixels of a kind that is not read")
    modality = str(dataset.get("Modality") or "")
    pixels, says_text = _grey(dataset), _says_text(dataset, modality)
    return Scan(
        pixels,
        f"DICOM {modality}" if modality in _WITH_TEXT | _SLICED | _OTHERS else "DICOM",
        says_text=says_text,
        may_hold_text=says_text or (look and _drawn_on(dataset, modality) and shows_text(pixels)),
        series=str(dataset.get("SeriesInstanceUID") or "none") if _near_a_face(dataset, modality) else "",
    )


def _grey(dataset: Dataset) -> NDArray[np.float32]:
    """Return modality units, (rows, columns)."""
    interpretation, samples = str(dataset.PhotometricInterpretation), int(dataset.get("SamplesPerPixel", 1))
    stored = dataset.pixel_array
    match interpretation, samples:
        case (("MONOCHROME1" | "MONOCHROME2"), 1):
            grey = _within_bits(stored, dataset)
        case (("RGB" | "YBR_FULL"), 3):  # pydicom makes RGB of the latter
            grey = stored.astype(np.float32) @ _LUMA
        case _:
            raise Unusable("a DICOM file has pixels of a kind that is not read")
    if grey.shape != (dataset.Rows, dataset.Columns):
        raise Unusable(UNREADABLE)
    slope, intercept = (
        float(dataset.get(name, default) if dataset.get(name) is not None else default)
        for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    with np.errstate(over="ignore"):
        units = (grey * slope + intercept).astype(np.float32)
    if not np.isfinite(units).all() or not slope:
        raise Unusable("a scan holds values that are no numbers")
    return units


def _within_bits(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return the stored values as float64 without what lies in the bits beside them; MONOCHROME1 turned."""
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    if not 0 < bits <= dataset.BitsAllocated or int(dataset.HighBit) != bits - 1:
        raise Unusable("a DICOM file has pixels of a kind that is not read")
    values = stored.astype(np.int64) & ((1 << bits) - 1)
    if signed:
        values = (values ^ (1 << (bits - 1))) - (1 << (bits - 1))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (-1 if signed else (1 << bits) - 1) - values
    return values.astype(np.float64)


def _says_text(dataset: Dataset, modality: str) -> bool:
    """Say whether the header names text, or leaves it open for a device that writes text."""
    annotated = str(dataset.get("BurnedInAnnotation") or "").upper()
    writes = modality in _WITH_TEXT or not modality or _captured(dataset)
    return annotated == "YES" or (annotated != "NO" and writes)


def _drawn_on(dataset: Dataset, modality: str) -> bool:
    """Say whether anything could have been drawn: not on what a scanner reconstructed."""
    return modality not in _SLICED or _captured(dataset)


def _captured(dataset: Dataset) -> bool:
    return str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)


def _near_a_face(dataset: Dataset, modality: str) -> bool:
    """Say whether the header leaves open that a face is seen. A body part that is not named does."""
    recognizable = str(dataset.get("RecognizableVisualFeatures") or "").upper()
    if recognizable in {"YES", "NO"}:
        return recognizable == "YES"
    part = "".join(filter(str.isalpha, str(dataset.get("BodyPartExamined") or "").upper()))
    return modality in _SLICED and (not part or part in _NEAR_A_FACE)
