import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("PIL", reason="scans are an extra")
import pydicom
from PIL import Image, ImageDraw
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from oathbound.data.dicom import FACE_SLICES, read
from oathbound.data.files import Unusable
from oathbound.data.kinds import open_source
from oathbound.data.pixels import png

HEAD = Path(__file__).resolve().parents[3] / "../shared/data/mri_face/ch2_colin27_head.nii.gz"
ULTRASOUND = HEAD.parents[1] / "busi_breast_ultrasound" / "images_128.zip"
MR = "1.2.840.10008.5.1.4.1.1.4"


def dataset(pixels, **attributes):
    """Return a file of one MR slice of a knee; `attributes` change it, None takes one away."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = MR
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    pixels = np.asarray(pixels)
    bits = 8 * pixels.dtype.itemsize
    facts = {
        "SOPClassUID": MR,
        "SOPInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3",
        "Modality": "MR",
        "BodyPartExamined": "KNEE",
        "PatientName": "Doe^Jane",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if pixels.ndim == 3:
        facts["PlanarConfiguration"] = 0
    for name, value in (facts | attributes).items():
        if value is not None:
            setattr(made, name, value)
    data = pixels.tobytes()
    made.add_new("PixelData", "OW" if bits == 16 else "OB", data + b"\0" * (len(data) % 2))
    return made


def saved(made, syntax=None):
    file = io.BytesIO()
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_values_are_modality_units_and_no_window_is_applied():
    stored = np.array([[0, 1, 24], [1000, 2000, 4095]], np.uint16)
    made = dataset(
        stored,
        Modality="CT",
        RescaleSlope="2",
        RescaleIntercept="-1024",
        WindowCenter="40",
        WindowWidth="400",
    )
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        scan = read(saved(made, syntax))
        assert (scan.pixels == stored * 2.0 - 1024).all()
        assert scan.unit == "DICOM CT"
        assert scan.pixels.dtype == np.float32


def test_signed_values_bits_beside_the_stored_ones_and_big_endian():
    assert read(saved(dataset(np.array([[-5, 7]], np.int16)))).pixels.tolist() == [[-5, 7]]
    # an overlay of old lies in the four bits above
    old = dataset(np.array([[0xF003, 0x0FFF]], np.uint16), BitsStored=12, HighBit=11)
    assert read(saved(old)).pixels.tolist() == [[3, 4095]]
    signed = dataset(np.array([[0x0FFF, 1]], np.int16), BitsStored=12, HighBit=11)
    assert read(saved(signed)).pixels.tolist() == [[-1, 1]]
    big = dataset(np.array([[3, 258]], ">u2"))
    big.set_original_encoding(is_implicit_vr=False, is_little_endian=False)
    file = io.BytesIO()
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.save_as(file, implicit_vr=False, little_endian=False)
    assert read(file.getvalue()).pixels.tolist() == [[3, 258]]


def test_a_real_ultrasound_is_the_same_as_png_and_as_dicom():
    if not ULTRASOUND.is_file():
        pytest.skip("the shared ultrasound images are not here")
    with zipfile.ZipFile(ULTRASOUND) as archive:
        image = archive.read("benign/benign_001.png")
    pixels, _ = png(image)
    made = dataset(pixels.astype(np.uint8), Modality="US", BurnedInAnnotation="NO", BodyPartExamined="BREAST")
    scan = read(saved(made))
    assert (scan.pixels == pixels).all()
    assert not scan.may_hold_text


def test_monochrome1_is_turned_and_colours_become_luma():
    made = dataset(np.array([[0, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    assert read(saved(made)).pixels.tolist() == [[255, 0]]
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert read(saved(dataset(colours))).pixels[0] == pytest.approx([76.245, 149.685, 29.07, 9])
    luma = dataset(colours, PhotometricInterpretation="YBR_FULL")
    luma.PixelData = bytes([200, 128, 128] * 4)
    assert read(saved(luma)).pixels[0] == pytest.approx([200] * 4)


def test_run_lengths_are_unpacked_and_nothing_else():
    made = dataset(np.arange(64, dtype=np.uint16).reshape(8, 8))
    plain = saved(made)
    made.compress(RLELossless)
    assert (read(saved(made)).pixels == read(plain).pixels).all()
    with pytest.raises(Unusable, match="compressed"):
        read(saved(dataset(np.zeros((400, 400), np.uint8)), DeflatedExplicitVRLittleEndian))
    packed = dataset(np.zeros((2, 2), np.uint8))
    packed.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no jpeg"])
    packed["PixelData"].is_undefined_length = True
    with pytest.raises(Unusable, match="compressed"):
        read(saved(packed, JPEGBaseline8Bit))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"NumberOfFrames": "2"}, "several frames"),
        ({"Rows": 60_000, "Columns": 60_000}, "too large"),
        ({"Rows": 0}, "empty"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not read"),
        ({"HighBit": 14}, "not read"),
        ({"BitsStored": 0}, "damaged"),
        ({"RescaleSlope": "0"}, "no numbers"),
        ({"RescaleSlope": "1e39"}, "no numbers"),
        ({"Rows": None}, "damaged"),
        ({"Rows": 3}, "damaged"),
        ({"PhotometricInterpretation": None}, "damaged"),
    ],
    ids=str,
)
def test_what_is_not_one_frame_of_grey_values(attributes, reason):
    with pytest.raises(Unusable, match=reason):
        read(saved(dataset(np.ones((2, 2), np.uint16), **attributes)))


def test_no_value_is_logged(caplog, recwarn, capfd):
    """Pydicom warns of a UID that is none, and shows it."""
    data = saved(dataset(np.ones((2, 2), np.uint16), BodyPartExamined=None)).replace(b"1.2.3\0", b"1.D.3\0")
    assert read(data).series == "1.D.3"
    assert not caplog.records
    assert not list(recwarn)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_dicom_file():
    whole = saved(dataset(np.ones((2, 2), np.uint16)))
    for data in (b"", bytes(200), whole[:120], whole[:300], whole[:-4], b"\x89PNG" + bytes(300)):
        with pytest.raises(Unusable):
            read(data)


@pytest.mark.parametrize(
    ("attributes", "suspected"),
    [
        ({"Modality": "US"}, True),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, False),
        ({"Modality": "US", "BurnedInAnnotation": "YES"}, True),
        ({"Modality": "OT"}, True),
        ({"Modality": "CR"}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({}, False),
        ({"Modality": None}, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, False),
    ],
    ids=str,
)
def test_text_is_suspected_by_the_header(attributes, suspected):
    scan = np.arange(64, dtype=np.uint8) + np.arange(64, dtype=np.uint8)[:, None]
    assert read(saved(dataset(scan, **attributes))).may_hold_text == suspected


def test_text_is_looked_for_where_the_header_says_there_is_none():
    image = Image.fromarray(np.random.default_rng(1).integers(0, 60, (128, 256)).astype(np.uint8))
    ImageDraw.Draw(image).text((20, 40), "DOE JANE 1961-02-03", fill=255, font_size=14)
    for modality, suspected in (("US", True), ("DX", True), ("MR", False)):
        made = dataset(np.asarray(image), Modality=modality, BurnedInAnnotation="NO")
        assert read(saved(made)).may_hold_text == suspected


def test_what_the_header_leaves_open_and_what_was_seen_are_two_reasons(tmp_path):
    shade = np.arange(128, dtype=np.uint8)[:, None] // 4 + np.zeros(256, np.uint8)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 60, (128, 256)).astype(np.uint8))
    ImageDraw.Draw(image).text((20, 40), "DOE JANE 1961-02-03", fill=255, font_size=14)
    made = {
        1: dataset(shade, Modality="US"),
        2: dataset(np.asarray(image), Modality="US", BurnedInAnnotation="NO"),
        3: dataset(shade, Modality="US", BurnedInAnnotation="NO"),
    }
    for subject, each in made.items():
        (tmp_path / f"{subject}.dcm").write_bytes(saved(each))
    table = "subject_id,path,label\n" + "".join(f"{subject},{subject}.dcm,x\n" for subject in made)
    (tmp_path / "scans.csv").write_text(table)
    source = open_source("scans", {"path": "scans.csv", "rows": "8", "columns": "8"}, tmp_path)
    assert source.unreadable() == {1, 2}
    reasons = [reason for reason, _ in source.describe().dropped.why]
    assert [("BurnedInAnnotation" in each, "letters were seen" in each) for each in reasons] == [
        (True, False),
        (False, True),
    ]
    assert all("option burnt_in" in each for each in reasons)


@pytest.mark.parametrize(
    ("attributes", "near"),
    [
        ({"BodyPartExamined": "HEAD"}, True),
        ({"BodyPartExamined": "HEAD_NECK", "Modality": "CT"}, True),
        ({"BodyPartExamined": None}, True),
        ({"BodyPartExamined": "KNEE"}, False),
        ({"BodyPartExamined": "HEAD", "Modality": "DX"}, False),
        ({"BodyPartExamined": "HEAD", "RecognizableVisualFeatures": "NO"}, False),
        ({"BodyPartExamined": "HEAD", "RecognizableVisualFeatures": "YES"}, True),
        ({"BodyPartExamined": "KNEE", "RecognizableVisualFeatures": "YES"}, True),
    ],
    ids=str,
)
def test_a_face_is_suspected_by_the_header(attributes, near):
    assert bool(read(saved(dataset(np.ones((4, 4), np.uint8), **attributes))).series) == near


@pytest.fixture(scope="module")
def head():
    if not HEAD.is_file():
        pytest.skip("the shared head is not here")
    volume = gzip.decompress(HEAD.read_bytes())
    # NIfTI-1: a header of 352 bytes, then voxels whose first axis runs fastest
    return np.frombuffer(volume, np.uint8, offset=352).reshape(181, 217, 181)


def test_a_head_from_which_a_face_may_be_rendered_is_refused(tmp_path, head):
    """Slices of one real head, as different patients' series."""
    series = {
        1: (FACE_SLICES, {"BodyPartExamined": "HEAD"}),
        2: (FACE_SLICES - 1, {"BodyPartExamined": "HEAD"}),
        3: (FACE_SLICES, {"BodyPartExamined": "HEAD", "RecognizableVisualFeatures": "NO"}),
        4: (FACE_SLICES, {"BodyPartExamined": None}),
        5: (FACE_SLICES, {"BodyPartExamined": "KNEE"}),
    }
    rows = ["subject_id,path,label"]
    for subject, (slices, attributes) in series.items():
        for place in range(slices):
            name = f"{subject}-{place}.dcm"
            (tmp_path / name).write_bytes(saved(dataset(head[20 + 10 * place], **attributes)))
            rows.append(f"{subject},{name},x")
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    options = {"path": "scans.csv", "rows": "32", "columns": "32"}
    assert open_source("scans", options, tmp_path).unreadable() == {1, 4}
    admitted = open_source("scans", {**options, "faces": "admit"}, tmp_path)
    assert not admitted.unreadable()
    (piece,) = admitted.read(frozenset([2]))
    assert piece.frames.shape == (FACE_SLICES - 1, 32, 32)
    assert piece.frames.mean() == pytest.approx(head[20:110:10].mean(), rel=1e-4)
