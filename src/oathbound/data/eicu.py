"""The eICU Collaborative Research Database Demo 2.0.1, as one MEDS folder for each region of the USA.

eICU publishes no calendar dates: a time is an offset in minutes from the admission to a unit, and of the date
only the year of discharge is known. So the clock of a patient is made up: a hospital stay begins on 1 January
of its year, or 45 days after the stay before it began, or a week after that one's last day, whichever is
latest; a fatal stay is the last of its year. Intervals inside one hospital stay are real, those between stays
are not.

A patient belongs to the region of the first stay's hospital. Left out are cancelled drug orders, repeated
events, and events stamped more than a day after the discharge from hospital. Of the bedside blood pressures,
hourly medians are kept, stamped at the last reading of the hour. No other table of the demo is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from oathbound.core.errors import Unavailable

TABLES: Final = (
    "admissionDx",
    "allergy",
    "apacheApsVar",
    "diagnosis",
    "hospital",
    "infusiondrug",
    "lab",
    "medication",
    "microLab",
    "pastHistory",
    "patient",
    "treatment",
    "vitalAperiodic",
)
"""The tables that are read, each from `<table>.csv.gz` as published."""

REGIONS: Final = ("midwest", "northeast", "south", "unknown", "west")

_APACHE: Final = (
    "albumin",
    "bilirubin",
    "bun",
    "creatinine",
    "fio2",
    "glucose",
    "heartrate",
    "hematocrit",
    "meanbp",
    "pao2",
    "pco2",
    "ph",
    "respiratoryrate",
    "sodium",
    "temperature",
    "urine",
    "wbc",
)
_DAY: Final = 24 * 60
_UNIT: Final = "patientunitstayid"
_HOSPITAL_STAY: Final = "patienthealthsystemstayid"
_EVENT: Final = ("subject_id", "time", "code", "numeric_value")


def convert(tables: Path, into: Path) -> None:
    """Write `into/<region>/data/0.parquet` for every region, from the tables in the folder `tables`.

    Neither checks the tables nor bounds them: give it only files whose digests were found right. Raises
    `Unavailable` when a folder cannot be written.
    """
    stays = _stays(_table(tables, "patient"), _table(tables, "hospital"))
    events = _events(tables, stays)
    for region in REGIONS:
        folder = into / region / "data"
        here = events.filter(pl.col("region") == region).select(_EVENT)
        try:
            folder.mkdir(parents=True)
            here.write_parquet(folder / "0.parquet")
        except (pl.exceptions.ComputeError, OSError):  # polars says so when a disk is full
            raise Unavailable(f"{folder} cannot be written", hint="is the disk full?") from None


def _table(folder: Path, name: str) -> pl.DataFrame:
    """Return a table, every column as text, null where it is empty."""
    text = pl.col(pl.String)
    return pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False).with_columns(
        pl.when(text.str.strip_chars() != "").then(text)
    )


def _stays(patient: pl.DataFrame, hospital: pl.DataFrame) -> pl.DataFrame:
    """Return the stays in units: `patient`, with the subject, the region, and times on the made-up clock.

    `admitted` and `discharged` are the hospital's times; `origin` is the unit's admission, from which offsets
    count.
    """
    stays = patient.join(hospital.select("hospitalid", "region"), on="hospitalid", how="left").with_columns(
        subject_id=pl.col("uniquepid").rank("dense").cast(pl.Int64),
        stay=_number(_HOSPITAL_STAY),
        year=_number("hospitaldischargeyear"),
        fatal=pl.col("hospitaldischargestatus").eq_missing("Expired"),
        length=_number("hospitaldischargeoffset") - _number("hospitaladmitoffset"),
    )
    order = ("subject_id", "year", "fatal", "stay")
    gap = pl.max_horizontal(45, pl.col("length") // _DAY + 8).shift(fill_value=0)
    # A stay begins at max(1 January, the one before + gap): less the gaps so far, a running maximum.
    gaps = pl.duration(days=gap.cum_sum().over("subject_id"))
    begins = (pl.datetime(pl.col("year"), 1, 1) - gaps).cum_max().over("subject_id") + gaps
    hospital_stays = stays.select(*order, "length").unique().sort(order).select("stay", admitted=begins)
    first = pl.col("region").sort_by("origin", _number(_UNIT)).first().over("subject_id")
    return (
        stays.join(hospital_stays, on="stay")
        .with_columns(
            origin=pl.col("admitted") - _minutes("hospitaladmitoffset"),
            discharged=pl.col("admitted") + pl.duration(minutes="length"),
        )
        .with_columns(region=first.fill_null("unknown").str.to_lowercase())
        .sort("subject_id", "origin", _number(_UNIT))
    )


def _events(tables: Path, stays: pl.DataFrame) -> pl.DataFrame:
    """Return the events of all patients, sorted by subject and time, with the subject's region."""
    known = stays.select(_UNIT, "subject_id", "region", "origin", "discharged", "unitdischargeoffset")

    def read(name: str) -> pl.DataFrame:
        return _table(tables, name).join(known, on=_UNIT)

    once = stays.unique("stay", keep="first", maintain_order=True)
    people = stays.unique("subject_id", keep="first", maintain_order=True)
    dead = stays.filter("fatal").unique("subject_id", keep="last", maintain_order=True)
    age = pl.col("age").replace("> 89", "90").cast(pl.Int64)
    # The order of these settles the order of events at one time.
    events = pl.concat(
        [
            _event(people, pl.lit(None), _code("GENDER", "gender")),
            _event(people, pl.lit(None), _code("ETHNICITY", "ethnicity")),
            _event(
                people.filter(age.is_not_null()),
                pl.datetime(pl.col("year") - age, 1, 1),
                pl.lit("MEDS_BIRTH"),
            ),
            _event(once, pl.col("admitted"), _code("HOSPITAL_ADMISSION", "hospitaladmitsource")),
            _event(stays, pl.col("origin"), _code("ICU_ADMISSION", "unittype")),
            _event(
                stays.drop_nulls("apacheadmissiondx"),
                pl.col("origin"),
                _code("APACHE_DX", "apacheadmissiondx"),
            ),
            _measured(stays, pl.col("origin"), "VITAL//admissionheight//cm", "admissionheight"),
            _measured(stays, pl.col("origin"), "VITAL//admissionweight//kg", "admissionweight"),
            *_bedside(read("vitalAperiodic")),
            _laboratory(read("lab")),
            *_apache(read("apacheApsVar")),
            _diagnoses(read("diagnosis")),
            _event(read("treatment"), _at("treatmentoffset"), _code("TREATMENT", "treatmentstring")),
            _medication(read("medication")),
            _infusions(read("infusiondrug")),
            _event(
                read("admissionDx"),
                _at("admitdxenteredoffset"),
                _path("ADMISSION_DX", "admitdxpath", "admission diagnosis|"),
            ),
            _event(
                read("pastHistory"),
                _at("pasthistoryoffset"),
                _path("PAST_HISTORY", "pasthistorypath", "notes/Progress Notes/Past History/"),
            ),
            _event(read("allergy"), _at("allergyoffset"), _code("ALLERGY", "allergyname")),
            _event(
                read("microLab"),
                _at("culturetakenoffset"),
                pl.concat_str(_code("MICRO", "culturesite"), pl.lit("//"), "organism"),
            ),
            _event(stays, _at("unitdischargeoffset"), _code("ICU_DISCHARGE", "unitdischargelocation")),
            _event(once, pl.col("discharged"), _code("HOSPITAL_DISCHARGE", "hospitaldischargelocation")),
            _event(dead, pl.col("discharged"), pl.lit("MEDS_DEATH")),
        ]
    )
    return (
        events.filter((pl.col("time") <= pl.col("discharged") + pl.duration(days=1)).fill_null(value=True))
        .unique(_EVENT, keep="first", maintain_order=True)
        .sort("subject_id", "time", nulls_last=False, maintain_order=True)
    )


def _bedside(vital: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the hourly medians of the blood pressures, each stamped at the last reading of its hour."""
    for column in ("noninvasivesystolic", "noninvasivediastolic"):
        hourly = (
            vital.with_columns(value=_value(column), minute=_number("observationoffset"))
            .drop_nulls("value")
            .group_by(_UNIT, "subject_id", "region", "origin", "discharged", hour=pl.col("minute") // 60)
            .agg(pl.col("value").median(), pl.col("minute").max())
            .sort(_UNIT, "minute")
        )
        yield _event(
            hourly,
            pl.col("origin") + pl.duration(minutes="minute"),
            pl.lit(f"VITAL//{column}//mmHg"),
            pl.col("value"),
        )


def _laboratory(lab: pl.DataFrame) -> pl.DataFrame:
    timed = lab.drop_nulls("labresultoffset")
    code = pl.format("{}//{}", _code("LAB", "labname"), pl.col("labmeasurenamesystem").fill_null("UNK"))
    return _event(timed, _at("labresultoffset"), code, _value("labresult"))


def _apache(worst: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the worst values of the first day, stamped at its end, or at the unit's discharge if earlier."""
    end = pl.min_horizontal(pl.lit(_DAY), _number("unitdischargeoffset"))
    time = pl.col("origin") + pl.duration(minutes=end)
    for column in _APACHE:
        # -1 says that none was taken.
        taken = worst.filter(_value(column) != -1)
        yield _measured(taken, time, f"APACHE24H//{column}", column)


def _diagnoses(diagnosis: pl.DataFrame) -> pl.DataFrame:
    icd9 = pl.col("icd9code").str.extract(r"^((?:\d{3}|V\d{2}|E\d{3})(?:\.\d+)?)(?:,|$)")
    code = pl.coalesce(
        pl.lit("DIAGNOSIS//ICD9CM//") + icd9, pl.lit("DIAGNOSIS//EICU//") + pl.col("diagnosisstring")
    )
    return _event(diagnosis, _at("diagnosisoffset"), code)


def _medication(medication: pl.DataFrame) -> pl.DataFrame:
    given = medication.filter(pl.col("drugordercancelled").ne_missing("Yes"))
    code = pl.coalesce(
        pl.lit("MEDICATION//") + pl.col("drugname").str.to_lowercase().str.strip_chars(),
        pl.lit("MEDICATION//HICL//") + pl.col("drughiclseqno"),
        pl.lit("MEDICATION//UNK"),
    )
    return _event(given, _at("drugstartoffset"), code)


def _infusions(infusion: pl.DataFrame) -> pl.DataFrame:
    return _event(
        infusion,
        _at("infusionoffset"),
        _code("INFUSION", "drugname"),
        _value("drugrate"),
    )


def _measured(table: pl.DataFrame, time: pl.Expr, code: str, column: str) -> pl.DataFrame:
    return _event(table.drop_nulls(column), time, pl.lit(code), _value(column))


def _event(table: pl.DataFrame, time: pl.Expr, code: pl.Expr, value: pl.Expr | None = None) -> pl.DataFrame:
    number = pl.lit(None) if value is None else value
    return table.select(
        "subject_id",
        "region",
        "discharged",
        time=time.cast(pl.Datetime("us")),
        code=code.str.replace_all(r"\s+", " ").str.strip_chars(),
        numeric_value=number.cast(pl.Float32),
    )


def _code(family: str, column: str) -> pl.Expr:
    return pl.lit(f"{family}//") + pl.col(column).fill_null("UNK")


def _path(family: str, column: str, root: str) -> pl.Expr:
    return pl.lit(f"{family}//") + pl.col(column).str.strip_prefix(root)


def _at(offset: str) -> pl.Expr:
    return pl.col("origin") + _minutes(offset)


def _minutes(offset: str) -> pl.Expr:
    return pl.duration(minutes=_number(offset))


def _value(column: str) -> pl.Expr:
    """Return the numbers of a column of text; null for a word, such as a rate that is "OFF"."""
    return pl.col(column).cast(pl.Float64, strict=False)


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64)
