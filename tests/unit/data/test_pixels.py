import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL", reason="scans are an extra")
from PIL import Image

from oathbound.data import pixels
from oathbound.data.files import Unusable
from oathbound.data.pixels import npz, png, resampled


def as_png(image, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG", **options)
    return file.getvalue()


def as_npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def test_grey_values_of_8_and_16_bits_are_those_of_the_file():
    for kind, unit in ((np.uint8, "PNG of 8 bits"), (np.uint16, "PNG of 16 bits")):
        values = np.array([[0, 1, 200], [7, 255, np.iinfo(kind).max]], kind)
        read, said = png(as_png(values))
        assert (read == values).all()
        assert read.dtype == np.float32
        assert said == unit


def test_colours_become_luma_and_bits_black_and_white():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert png(as_png(colours))[0].tolist() == [[76, 150, 29]]
    assert png(as_png(Image.fromarray(colours).convert("P")))[0].shape == (1, 3)
    assert png(as_png(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")))[0].tolist() == [[0, 255]]


def test_a_bomb_is_refused_by_its_header():
    whole = as_png(np.zeros((4, 4), np.uint8))
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    with pytest.raises(Unusable, match="too large"):
        png(bomb)
    for side in (7000, 60_000):  # a second header, which decoders heed
        other = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        again = struct.pack(">I", 13) + other + struct.pack(">I", zlib.crc32(other))
        with pytest.raises(Unusable):
            png(whole[:33] + again + whole[33:])
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as archive:
        line = "{'descr': '<f8', 'fortran_order': False, 'shape': (90000, 90000), }".ljust(117) + "\n"
        archive.writestr(
            "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + line.encode() + bytes(10**6)
        )
    with pytest.raises(Unusable, match="too large"):
        npz(huge.getvalue())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", "<f8", "?"])
def test_the_one_array_of_an_npz_is_read(kind, order):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(kind, order=order)
    assert (npz(as_npz(scan=values)) == values.astype(np.float32)).all()


def test_other_npz_files_are_not_read():
    wrong = [
        as_npz(a=np.zeros((2, 2)), b=np.zeros((2, 2))),
        as_npz(a=np.zeros(4)),
        as_npz(a=np.zeros((2, 2, 2))),
        as_npz(a=np.zeros((0, 2))),
        as_npz(a=np.array([[1.0, np.nan]])),
        as_npz(a=np.array([[1e300]])),
        as_npz(a=np.array([[1j]])),
        as_npz(a=np.array([["text"]])),
        as_npz(a=np.array([[1, None]], object)),  # a pickle
        as_npz(a=np.zeros((2, 2)))[:-30],
        b"",
    ]
    for data in wrong:
        with pytest.raises(Unusable):
            npz(data)


def test_several_frames_and_other_formats_are_no_png():
    still = Image.fromarray(np.zeros((4, 4), np.uint8))
    moving = as_png(still, save_all=True, append_images=[Image.fromarray(np.full((4, 4), 9, np.uint8))])
    with pytest.raises(Unusable, match="several frames"):
        png(moving)
    jpeg = io.BytesIO()
    still.save(jpeg, "JPEG")
    for data in (b"", jpeg.getvalue(), as_png(np.zeros((4, 4), np.uint8))[:40]):
        with pytest.raises(Unusable):
            png(data)
    with pytest.raises(Unusable, match="16 bits"):
        png(as_png(np.zeros((4, 4), np.uint8))[:24] + b"\x10\x02" + bytes(40))


def test_a_scan_shrinks_by_area():
    scan = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    assert resampled(scan, (1, 1)).tolist() == [[3.5]]
    halves = np.array([[4 / 3, 8 / 3], [13 / 3, 17 / 3]])
    assert resampled(scan, (2, 2)) == pytest.approx(halves)
    assert resampled(scan, (2, 3)) is scan


def test_a_scan_grows_between_the_centres_of_its_pixels():
    scan = np.array([[0, 4]], np.float32)
    assert resampled(scan, (1, 4)).tolist() == [[0, 1, 3, 4]]
    assert resampled(scan, (3, 4)).tolist() == [[0, 1, 3, 4]] * 3


def test_every_scan_keeps_its_mean_when_it_shrinks():
    scan = np.random.default_rng(1).random((37, 53), np.float32)
    assert resampled(scan, (5, 7)).mean() == pytest.approx(scan.mean(), rel=1e-6)


def test_the_most_pixels_bound_what_is_read(monkeypatch):
    monkeypatch.setattr(pixels, "MAX_PIXELS", 15)
    for read, data in ((png, as_png(np.zeros((4, 4), np.uint8))), (npz, as_npz(a=np.zeros((4, 4))))):
        with pytest.raises(Unusable, match="too large"):
            read(data)
