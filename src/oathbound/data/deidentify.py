"""A DICOM header without whom it is of: the Basic Application Level Confidentiality Profile of DICOM PS3.15.

For whoever exports scans; a source reads no header out (`data/dicom.py`). The actions are those of Table
E.1-1, in `confidentiality.tsv`: D a dummy value, Z an empty one, X gone, U another UID. Where the table
leaves the choice to what the object's definition requires (X/Z, X/Z/D, ...), the last is taken: it keeps the
object valid whatever it is of, and holds no more of the patient. No option of the profile is applied: pixels
are as they were, and text burnt into them, or a face, stays; so does what stands in attributes that the table
does not list.
"""

import hmac
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException

from oathbound.core.errors import WrongInput
from oathbound.data.dicom import quiet

LEAST_KEY: Final = 16
"""Bytes of a key; whoever knows it can find a UID's replacement."""

_META: Final = frozenset({0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012})
"""What stays of the file's meta information: version, class, instance, syntax and who wrote it."""

_METHOD: Final = ("113100", "DCM", "Basic Application Confidentiality Profile")
_WORD: Final = "ANONYMIZED"
_DUMMIES: Final[Mapping[str, object]] = MappingProxyType(
    {
        **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), _WORD),
        **dict.fromkeys(("DS", "IS"), "0"),
        **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
        **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), bytes(8)),
        "AS": "000Y",
        "AT": 0,
        "DA": "19000101",
        "DT": "19000101000000",
        "TM": "000000",
    }
)
"""Values that say nothing, by value representation (PS3.5, 6.2)."""


def deidentified(dataset: FileDataset, key: bytes) -> FileDataset:
    """Return a copy that is de-identified by the profile; `dataset` itself is left as it is.

    UIDs are replaced by ones that HMAC-SHA256 under `key` gives, so the files of one study, and two exports
    under one key, still refer to each other. Private attributes and the file's preamble go.
    Raises `WrongInput` for a short key, or a file that cannot be read to its end.
    """
    if len(key) < LEAST_KEY:
        raise WrongInput(f"the key has fewer than {LEAST_KEY} bytes", hint="secrets.token_bytes(32)")
    clean = deepcopy(dataset)
    clean.preamble = bytes(128)
    for tag in set(clean.file_meta.keys()) - _META:
        del clean.file_meta[tag]
    try:
        with quiet():
            for part in (clean.file_meta, clean):
                _clean(part, key, dummies=False)
    # as in data/dicom.py: pydicom reads an element when it is asked for
    except (
        BytesLengthException,
        AttributeError,
        LookupError,
        NotImplementedError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        raise WrongInput("the DICOM file cannot be read to its end") from None
    _state(clean)
    return clean


@cache
def actions() -> Mapping[str, str]:
    """Return Table E.1-1: each attribute's action, by the eight digits of its tag, an x for any digit."""
    text = (files("oathbound.data") / "confidentiality.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return MappingProxyType({tag: action for tag, action, _ in rows})


def action_of(tag: int) -> str:
    """Return what the profile does to an attribute: D, Z, X, U, or K where the table does not list it."""
    if (tag >> 16) % 2:
        return "X"
    digits = f"{tag:08x}"
    # curves and overlays have a group each: 50xx and 60xx
    listed = (digits, f"{digits[:2]}xx{digits[4:]}", f"{digits[:2]}xxxxxx")
    action = next((actions()[form] for form in listed if form in actions()), "K")
    return action.rstrip("*").rpartition("/")[2]


def _clean(dataset: Dataset, key: bytes, *, dummies: bool) -> None:
    """Apply the profile to a data set and what is nested in it; with `dummies`, no value at all stays."""
    for tag in list(dataset.keys()):
        action = action_of(tag)
        if action == "X":
            del dataset[tag]
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            if action == "Z":
                element.value = []
            # a dummy sequence keeps its items, in which only dummies stand: empty ones would not be valid
            for item in element.value:
                _clean(item, key, dummies=dummies or action == "D")
        elif action == "U" or (element.VR == "UI" and (dummies or action != "K")):
            element.value = _replaced(element, key)
        elif action == "Z":
            element.value = None
        elif action == "D" or dummies:
            element.value = _DUMMIES[element.VR]


def _replaced(element: DataElement, key: bytes) -> object:
    """Return the UID, or UIDs, that stand for those of the element."""
    if not element.value:
        return element.value
    if isinstance(element.value, str):
        return uid(element.value, key)
    return [uid(each, key) for each in element.value]


def uid(original: str, key: bytes) -> str:
    """Return the UID that stands for `original`: of a UUID, as PS3.5 B.2 derives one."""
    return f"2.25.{int.from_bytes(hmac.digest(key, original.encode(), 'sha256')[:16], 'big')}"


def _state(clean: FileDataset) -> None:
    """Say in the data set what was done to it (PS3.15, E.1.1; PS3.3, C.7.1.1 and C.12.1)."""
    method = Dataset()
    method.CodeValue, method.CodingSchemeDesignator, method.CodeMeaning = _METHOD
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = "DICOM PS3.15 2026c Table E.1-1, Basic Profile"
    clean.DeidentificationMethodCodeSequence = [method]
    clean.LongitudinalTemporalInformationModified = "REMOVED"
