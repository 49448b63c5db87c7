"""Pixels of PNG and npz files, and the resampling that gives all scans of a source one shape.

What a file may hold is bounded by its header, before anything is unpacked.
"""

import io
import re
import struct
import warnings
import zipfile
import zlib
from functools import lru_cache
from math import prod
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oathbound.data.files import UNREADABLE, Unusable

MAX_PIXELS: Final = 2**25
"""Of one scan: 5,792 x 5,792. A mammogram has about half as many."""

_TOO_LARGE: Final = "a scan is too large"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_IHDR_END: Final = 26
_NPY: Final = re.compile(
    r"\{'descr': '([<|>][bfiu][1248])', 'fortran_order': (False|True), "
    r"'shape': \((\d{1,9}), (\d{1,9})\), \}\s*"
)


def png(data: bytes) -> tuple[NDArray[np.float32], str]:
    """Return the grey values of a PNG, (rows, columns), and their unit: 0 to 255, or to 65,535 of 16 bits.

    Colours become grey by ITU-R BT.601 luma; what is transparent keeps its colour.
    """
    if data[:8] != _PNG or data[12:16] != b"IHDR" or len(data) < _IHDR_END:
        raise Unusable(UNREADABLE)
    columns, rows, depth, colours = struct.unpack(">IIBB", data[16:_IHDR_END])
    _check_size((rows, columns))
    if depth == 16 and colours:  # noqa: PLR2004 - bits
        raise Unusable("a PNG has colours of 16 bits")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                if image.size != (columns, rows):  # a second header
                    raise Unusable(UNREADABLE)
                if getattr(image, "is_animated", False):
                    raise Unusable("a file has several frames")
                grey = image if image.mode.startswith("I") else image.convert("L")
                return np.array(grey, dtype=np.float32), f"PNG of {max(depth, 8)} bits"
    # pillow's PNG reader raises any of these for damaged chunks
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        KeyError,
        IndexError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
        Warning,
    ):
        raise Unusable(UNREADABLE) from None


def npz(data: bytes) -> NDArray[np.float32]:
    """Return the one array, of finite numbers and (rows, columns), of an npz file as numpy writes it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (member,) = archive.infolist()
            if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise Unusable(UNREADABLE)
            with archive.open(member) as file:
                dtype, order, shape = _npy_header(file.read(10), file)
                _check_size(shape)
                cells = file.read(prod(shape) * dtype.itemsize)
                if len(cells) != prod(shape) * dtype.itemsize or file.read(1):
                    raise Unusable(UNREADABLE)
    # zipfile raises NotImplementedError for a version or a compression that it lacks
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, struct.error, NotImplementedError):
        raise Unusable(UNREADABLE) from None
    with np.errstate(over="ignore"):
        pixels = np.frombuffer(cells, dtype).reshape(*shape, order=order).astype(np.float32)
    if not np.isfinite(pixels).all():
        raise Unusable("a scan holds values that are no numbers")
    return np.ascontiguousarray(pixels)


def resampled(pixels: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the scan as (rows, columns): each axis averaged by area where it shrinks, else bilinear.

    The two axes are scaled by themselves: the proportions of a scan are not kept.
    """
    if pixels.shape == shape:
        return pixels
    rows, columns = (_weights(old, new) for old, new in zip(pixels.shape, shape, strict=True))
    return (rows @ pixels @ columns.T).astype(np.float32)


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that resamples an axis; every row sums to 1."""
    if new < old:
        edges = np.arange(new + 1) * (old / new)
        left, right = edges[:-1, None], edges[1:, None]
        cells = np.arange(old)
        covered = np.clip(np.minimum(right, cells + 1) - np.maximum(left, cells), 0, None)
        return np.asarray(covered / covered.sum(axis=1, keepdims=True))
    centres = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    return np.asarray(np.clip(1 - np.abs(centres[:, None] - np.arange(old)), 0, None))


def _npy_header(start: bytes, file: IO[bytes]) -> tuple[np.dtype[Any], Literal["C", "F"], tuple[int, int]]:
    """Return type, order and shape; `Unusable` for a header that numpy does not write so."""
    if start[:8] != b"\x93NUMPY\x01\x00" or len(start) != 10:  # noqa: PLR2004 - a magic, a version, a length
        raise Unusable("an npz file does not hold one array of rows and columns")
    header = file.read(int.from_bytes(start[8:], "little")).decode("latin-1")
    match = _NPY.fullmatch(header)
    if not match:
        raise Unusable("an npz file does not hold one array of rows and columns")
    kind, fortran, rows, columns = match.groups()
    try:
        dtype = np.dtype(kind)
    except TypeError:
        raise Unusable(UNREADABLE) from None
    return dtype, "F" if fortran == "True" else "C", (int(rows), int(columns))


def _check_size(shape: tuple[int, int]) -> None:
    if not prod(shape):
        raise Unusable("a scan is empty")
    if prod(shape) > MAX_PIXELS:
        raise Unusable(_TOO_LARGE)
