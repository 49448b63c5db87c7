"""The table is checked against actions that the standard asks for, and the code against the table."""

import io

import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
import pydicom
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_description, dictionary_has_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from oathbound.core.errors import WrongInput
from oathbound.data.deidentify import action_of, actions, deidentified, uid

KEY = bytes(range(32))
WHO = "Secret^Name"

STANDARD = {
    "AccessionNumber": "Z",
    "AcquisitionDateTime": "X/Z/D",
    "ContentSequence": "D",
    "DeviceSerialNumber": "X/Z/D",
    "FrameOfReferenceUID": "U",
    "InstitutionName": "X/Z/D",
    "MediaStorageSOPInstanceUID": "U",
    "OperatorsName": "X/Z/D",
    "OtherPatientIDs": "X",
    "EthnicGroupCodeSequence": "X",
    "PatientAge": "X",
    "PatientBirthDate": "Z",
    "PatientComments": "X",
    "PatientID": "Z/D",
    "PatientName": "Z",
    "PatientSex": "Z",
    "PatientWeight": "X",
    "ReferencedImageSequence": "X/Z/U*",
    "ReferringPhysicianName": "Z",
    "SOPInstanceUID": "U",
    "SeriesDate": "X/D",
    "SeriesDescription": "X",
    "SeriesInstanceUID": "U",
    "SoftwareVersions": None,
    "StudyDate": "Z",
    "StudyDescription": "X",
    "StudyID": "Z",
    "StudyInstanceUID": "U",
    "StudyTime": "Z",
    "VerifyingObserverSequence": "D",
}
"""Table E.1-1 of PS3.15, column Basic Prof., as read there; None: not listed."""


@pytest.mark.parametrize(("keyword", "action"), STANDARD.items())
def test_the_table_holds_the_actions_of_the_standard(keyword, action):
    assert actions().get(f"{tag_for_keyword(keyword):08x}") == action


def test_the_table_is_whole():
    assert len(actions()) == 655
    known = {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    assert set(actions().values()) <= known
    named = [tag for tag in actions() if "x" not in tag and dictionary_has_tag(int(tag, 16))]
    assert len(named) > 610
    assert dictionary_description(int(named[50], 16))
    assert [action_of(tag) for tag in (0x50100010, 0x60023000, 0x60024000, 0x60020010)] == [
        "X",
        "X",
        "X",
        "K",
    ]
    assert action_of(0x00091001) == "X"
    assert action_of(0x00080060) == "K"  # Modality


def item(**attributes):
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def scan():
    made = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    made.preamble = b"II*\0 secret" + bytes(117)
    made.file_meta.SourceApplicationEntityTitle = "SECRETPLACE"
    made.PatientName = WHO
    made.OperatorsName = [WHO, WHO]
    made.InstitutionName = WHO
    made.PatientComments = WHO
    made.AcquisitionDateTime = "20200102030405"
    made.SeriesDate = "20200102"
    made.DeviceSerialNumber = "SECRET7"
    made.ReferencedImageSequence = [
        item(ReferencedSOPInstanceUID="1.2.3.9", ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    ]
    made.RequestAttributesSequence = [item(RequestedProcedureDescription=WHO)]
    made.ProcedureCodeSequence = [item(CodeValue="X", CodeMeaning="kept", PatientComments=WHO)]
    made.ContentSequence = [
        item(TextValue=WHO, NumericValue="5", ConceptNameCodeSequence=[item(CodeMeaning=WHO)])
    ]
    made.add_new(0x60003000, "OW", b"secret  ")
    made.private_block(0x0011, "SECRETMAKER", create=True).add_new(1, "LO", WHO)
    return made


def test_nothing_that_identifies_is_left(scan):
    before = scan.to_json()
    clean = deidentified(scan, KEY)
    assert scan.to_json() == before
    file = io.BytesIO()
    clean.save_as(file, enforce_file_format=True)
    assert b"secret" not in file.getvalue().lower()
    again = pydicom.dcmread(io.BytesIO(file.getvalue()))
    assert (again.PatientName, again.PatientBirthDate, again.StudyDate) == ("", "", "")
    assert again.PatientID == again.InstitutionName == again.OperatorsName == "ANONYMIZED"
    assert again.AcquisitionDateTime == "19000101000000"
    assert again.SeriesDate == "19000101"
    assert "PatientComments" not in again
    assert not [element for element in again.iterall() if element.tag.is_private]
    assert again.ProcedureCodeSequence[0].CodeMeaning == "kept"
    assert again.ContentSequence[0].TextValue == "ANONYMIZED"
    assert again.PixelData == scan.PixelData
    assert again.preamble == bytes(128)


def test_it_says_what_was_done(scan):
    clean = deidentified(scan, KEY)
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    (method,) = clean.DeidentificationMethodCodeSequence
    assert (method.CodeValue, method.CodingSchemeDesignator) == ("113100", "DCM")


def test_uids_stay_consistent_under_one_key(scan):
    first, second = deidentified(scan, KEY), deidentified(scan, KEY)
    assert first.StudyInstanceUID == second.StudyInstanceUID != scan.StudyInstanceUID
    assert first.StudyInstanceUID != deidentified(scan, KEY[::-1]).StudyInstanceUID
    assert first.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID == uid(scan.SOPInstanceUID, KEY)
    assert first.SOPClassUID == scan.SOPClassUID
    (reference,) = first.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == uid("1.2.3.9", KEY)
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert pydicom.uid.UID(first.SOPInstanceUID).is_valid
    assert len(uid("1.2", KEY)) <= 64


def test_a_short_key_and_a_damaged_file_are_refused(scan):
    with pytest.raises(WrongInput, match="key"):
        deidentified(scan, b"short")
    scan[0x00280010] = RawDataElement(Tag(0x00280010), "US", 1, b"1", 0, False, True)
    with pytest.raises(WrongInput, match="to its end"):
        deidentified(scan, KEY)
