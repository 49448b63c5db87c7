"""Invented patients in the MEDS layout, for examples and tests: nobody's records."""

import json
import random  # makes people up; nothing that must be secret comes from it
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

NOTICE: Final = "simulated: invented patients"

_FIRST: Final = datetime(2015, 1, 1)  # noqa: DTZ001 - MEDS times carry no zone
_DIAGNOSES: Final = {
    "DIAGNOSIS//hypertension": 0.35,
    "DIAGNOSIS//diabetes": 0.2,
    "DIAGNOSIS//depression": 0.3,
}
_TESTED, _DIAGNOSED = 0.6, 0.3
"""The chance, at a visit, of a blood test, and that an illness is written down."""

_TREATED_WITH: Final = {
    "DIAGNOSIS//hypertension": "MEDICATION//ramipril",
    "DIAGNOSIS//diabetes": "MEDICATION//metformin",
    "DIAGNOSIS//depression": "MEDICATION//sertraline",
}


def invent_records(folder: Path, *, patients: int, seed: int) -> None:
    """Write a MEDS folder of invented patients: the same for the same seed, other people for another."""
    draw = random.Random(seed)  # noqa: S311 - nothing here is secret: it is made up
    rows = [row for number in range(patients) for row in _patient(seed * 1_000_000 + number, draw)]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "data" / "0.parquet")
    about = {"dataset_name": "invented patients", "meds_version": "0.4.1", "simulated": NOTICE}
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about))


def _patient(subject: int, draw: random.Random) -> list[tuple[Any, ...]]:
    age = draw.randint(25, 85)
    when = _FIRST + timedelta(days=draw.randint(0, 700))
    dated: list[tuple[datetime, str, float | None]] = []
    pressure = draw.gauss(115 + age / 4, 15)
    glucose = draw.gauss(95, 12)
    ill = {code for code, share in _DIAGNOSES.items() if draw.random() < share}
    told: set[str] = set()
    for _ in range(draw.randint(3, 9)):
        high = 25 if "DIAGNOSIS//hypertension" in ill else 0
        sweet = 60 if "DIAGNOSIS//diabetes" in ill else 0
        dated.append((when, "VITAL//sbp//mmHg", round(draw.gauss(pressure + high, 8))))
        if draw.random() < _TESTED:
            dated.append((when, "LAB//glucose//mg/dL", round(draw.gauss(glucose + sweet, 10))))
        for code in sorted(ill - told):
            if draw.random() < _DIAGNOSED:
                told.add(code)
                dated += [(when, code, None), (when, _TREATED_WITH[code], None)]
        when += timedelta(days=draw.choice((3, 14, 60, 120, 400)))
    born = _FIRST - timedelta(days=round(age * 365.25))
    gender = draw.choice(("GENDER//F", "GENDER//M"))
    return [(subject, None, gender, None), (subject, born, "MEDS_BIRTH", None)] + [
        (subject, *event) for event in dated
    ]
