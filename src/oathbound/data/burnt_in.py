"""Whether letters may be burnt into a scan: a simple detector, which says "perhaps" rather than "no".

Drawn letters are thin bright strokes, many close together on a line. A stroke, in a row, is 1 to 3 pixels
that are bright (at least 0.7 of the scan's range, from its 1st to its 99.9th percentile) and at least 0.2 of
the range above the pixels on both sides, and it goes on in the row above or below. Text is suspected where 16
strokes of rows lie in a window of 12 rows and 36 columns, at full size, half or a quarter. What it finds and
misses was measured: docs/guides/scans-and-signals.md.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LEAST: Final = 16
_WINDOW: Final = (12, 36)
_WIDEST: Final = 3
_BRIGHT: Final = 0.7
_ABOVE: Final = 0.2
_SIZES: Final = 3
_SAMPLE: Final = 2**20
"""Pixels, at least half as many, that the range is taken from."""


def shows_text(pixels: NDArray[np.float32]) -> bool:
    """Say whether a scan, (rows, columns), may show text."""
    sample = pixels.ravel()[:: max(1, pixels.size // _SAMPLE)]
    low, high = np.percentile(sample, (1, 99.9))
    if not high > low:
        return False
    scan = ((pixels - np.float32(low)) / np.float32(high - low)).astype(np.float32)
    for _ in range(_SIZES):
        if min(scan.shape) < max(_WINDOW) // 2:
            return False
        if _most_in_a_window(_strokes(scan)) >= _LEAST:
            return True
        scan = _halved(scan)
    return False


def _strokes(scan: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the pixels that strokes begin at."""
    begun = np.zeros(scan.shape, np.bool_)
    least = np.full(scan.shape, np.inf, np.float32)
    for width in range(1, _WIDEST + 1):
        places = scan.shape[1] - width - 1
        # column c of `least` is the darkest of the pixels c+1 to c+width
        least = np.minimum(least[:, :places], scan[:, width : width + places])
        beside = np.maximum(scan[:, :places], scan[:, width + 1 :])
        begun[:, 1 : 1 + places] |= (least >= _BRIGHT) & (least - beside >= _ABOVE)
    near = np.zeros_like(begun)
    near[1:] |= begun[:-1]
    near[:-1] |= begun[1:]
    return begun & near


def _most_in_a_window(marked: NDArray[np.bool_]) -> int:
    rows, columns = (min(wanted, there) for wanted, there in zip(_WINDOW, marked.shape, strict=True))
    sums = np.zeros((marked.shape[0] + 1, marked.shape[1] + 1), np.int32)
    sums[1:, 1:] = marked.cumsum(0, dtype=np.int32).cumsum(1)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    return int(inside.max())


def _halved(scan: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (side // 2 for side in scan.shape)
    whole = scan[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(whole.mean((1, 3), dtype=np.float32))
