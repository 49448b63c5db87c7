"""The detector of burnt-in text on real ultrasound images: what it finds of drawn text, and what it mistakes.

Drawn at a fixed seed, so the test decides the same every time. The bounds stand a little below the lower, or
above the upper, end of the 95 % intervals in docs/guides/scans-and-signals.md. That it can reject: the same
bounds refuse a detector that never, or always, sees text.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="scans are an extra")
from PIL import Image, ImageDraw

from oathbound.data.burnt_in import shows_text

ARCHIVE = Path(__file__).resolve().parents[3] / "../shared/data/busi_breast_ultrasound/images_128.zip"
WORDS = ("SMITH^JANE", "DOE JOHN", "MRN 00482913", "1987-03-14", "Garcia, M", "ID:7731902", "12/05/1961")
SHOW_TEXT = {"benign_052", "benign_134", "benign_207"}
"""Three images show "LEFT BREAST" or "LT AXILLA", large enough to be found."""

pytestmark = pytest.mark.statistical


@pytest.fixture(scope="module")
def images():
    """Return every third of the images by whose like no number of the detector was chosen."""
    if not ARCHIVE.is_file():
        pytest.skip("the shared ultrasound images are not here")
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        kept = [name for place, name in enumerate(names) if place % 4 == 1]
        return [
            Image.open(io.BytesIO(archive.read(name))) for name in kept if Path(name).stem not in SHOW_TEXT
        ]


def drawn(image, draw, size, grey):
    image = image.copy()
    pen, words = ImageDraw.Draw(image), str(draw.choice(WORDS))
    width, height = pen.textbbox((0, 0), words, font_size=size)[2:]
    place = [
        int(draw.integers(0, max(1, side - used)))
        for side, used in zip(image.size, (width, height), strict=True)
    ]
    pen.text(place, words, fill=grey, font_size=size)
    return image


def share(detector, images):
    return np.mean([detector(np.asarray(image, np.float32)) for image in images])


def finds(detector, images, size, grey):
    draw = np.random.default_rng(11)
    return share(detector, [drawn(image, draw, size, grey) for image in images])


@pytest.mark.parametrize(
    ("size", "grey", "least"), [(8, 255, 0.83), (12, 255, 0.96), (18, 255, 0.96), (12, 200, 0.8)]
)
def test_drawn_text_is_found(images, size, grey, least):
    assert finds(shows_text, images, size, grey) >= least
    assert not finds(lambda _: False, images, size, grey) >= least


def test_images_without_text_are_hardly_ever_suspected(images):
    assert share(shows_text, images) <= 0.015
    assert not share(lambda _: True, images) <= 0.015
