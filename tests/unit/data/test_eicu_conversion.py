"""eICU's tables become events: some by hand, and many as another implementation made them."""

import gzip
import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from oathbound.core.errors import Unavailable
from oathbound.data import eicu
from oathbound.data.meds import open_meds

SHARED = Path(__file__).resolve().parents[3] / "../shared/data/eicu_demo"

PATIENT = (
    "patientunitstayid,patienthealthsystemstayid,gender,age,ethnicity,hospitalid,apacheadmissiondx,admissionheight,"
    "hospitaladmitoffset,hospitaladmitsource,hospitaldischargeyear,hospitaldischargeoffset,"
    "hospitaldischargelocation,hospitaldischargestatus,unittype,admissionweight,unitdischargeoffset,"
    "unitdischargelocation,uniquepid"
)
HEADS = {
    "admissionDx": "patientunitstayid,admitdxenteredoffset,admitdxpath",
    "allergy": "patientunitstayid,allergyoffset,allergyname",
    "apacheApsVar": "patientunitstayid," + ",".join(eicu._APACHE),
    "diagnosis": "patientunitstayid,diagnosisoffset,diagnosisstring,icd9code",
    "hospital": "hospitalid,region",
    "infusiondrug": "patientunitstayid,infusionoffset,drugname,drugrate",
    "lab": "patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem",
    "medication": "patientunitstayid,drugstartoffset,drugordercancelled,drugname,drughiclseqno",
    "microLab": "patientunitstayid,culturetakenoffset,culturesite,organism",
    "pastHistory": "patientunitstayid,pasthistoryoffset,pasthistorypath",
    "patient": PATIENT,
    "treatment": "patientunitstayid,treatmentoffset,treatmentstring",
    "vitalAperiodic": "patientunitstayid,observationoffset,noninvasivesystolic,noninvasivediastolic",
}


def write(folder: Path, rows: dict[str, list[str]]) -> None:
    for table in eicu.TABLES:
        text = "\n".join([HEADS[table], *rows.get(table, [])]) + "\n"
        (folder / f"{table}.csv.gz").write_bytes(gzip.compress(text.encode()))


def stay(
    unit: int, hospital: int, *, person: str = "p", year: int = 2014, at: int = 1, **other: object
) -> str:
    """Return a row of `patient`: one hour in hospital, then a unit for two, then one hour more."""
    row: dict[str, object] = dict.fromkeys(PATIENT.split(","), "") | {
        "patientunitstayid": unit,
        "patienthealthsystemstayid": hospital,
        "uniquepid": person,
        "hospitaldischargeyear": year,
        "hospitalid": at,
        "hospitaladmitoffset": -60,
        "unitdischargeoffset": 120,
        "hospitaldischargeoffset": 180,
        "hospitaldischargestatus": "Alive",
    }
    return ",".join(f'"{value}"' for value in (row | other).values())


def events(folder: Path, rows: dict[str, list[str]], region: str = "south") -> list[tuple]:
    tables, into = folder / "tables", folder / "meds"
    tables.mkdir()
    write(tables, {"hospital": ["1,South", "2,"]} | rows)
    eicu.convert(tables, into)
    frame = pl.read_parquet(into / region / "data" / "0.parquet")
    return frame.rows()


def test_a_stay_by_hand(tmp_path: Path):
    rows = {
        "patient": [
            stay(7, 70, gender="Female", age="> 89", unittype="SICU", hospitaldischargelocation="Home")
        ],
        "vitalAperiodic": ["7,5,120,", "7,59,100,", "7,20,130,", "7,60,90,50"],
        "lab": ["7,30,potassium,4.5,mmol/L", "7,31,pH,,", "7,32,pH,7.25,"],
        "diagnosis": ['7,1,a|b,"401.9, I10"', "7,2,c|d,", '7,3,e|f,"E87.1, 276.1"', "7,4,g,V62.84"],
        "medication": ["7,-10,No,KCL  20 ML,1", "7,9,No,,77", "7,9,Yes,GONE,1", "7,9,No,,"],
        "apacheApsVar": ["7,-1,2.5" + ",-1" * 15],
        "infusiondrug": ["7,8,Propofol (ml/hr),OFF"],
        "treatment": ["7,11,x|y", "7,11,x|y", "7,1700,too late"],
        "pastHistory": ["7,12,notes/Progress Notes/Past History/Organ/CHF"],
        "admissionDx": ["7,13,admission diagnosis|Elective|Yes"],
        "allergy": ["7,14,IODINE"],
        "microLab": ["7,15,Blood,E. coli"],
    }

    def at(hour: int, minute: int, day: int = 1) -> datetime:
        return datetime(2014, 1, day, hour, minute)  # noqa: DTZ001 - MEDS has no zones

    assert events(tmp_path, rows) == [
        (1, None, "GENDER//Female", None),
        (1, None, "ETHNICITY//UNK", None),
        (1, datetime(1924, 1, 1), "MEDS_BIRTH", None),  # noqa: DTZ001 - as above
        (1, at(0, 0), "HOSPITAL_ADMISSION//UNK", None),
        (1, at(0, 50), "MEDICATION//kcl 20 ml", None),
        (1, at(1, 0), "ICU_ADMISSION//SICU", None),
        (1, at(1, 1), "DIAGNOSIS//ICD9CM//401.9", None),
        (1, at(1, 2), "DIAGNOSIS//EICU//c|d", None),
        (1, at(1, 3), "DIAGNOSIS//EICU//e|f", None),
        (1, at(1, 4), "DIAGNOSIS//ICD9CM//V62.84", None),
        (1, at(1, 8), "INFUSION//Propofol (ml/hr)", None),
        (1, at(1, 9), "MEDICATION//HICL//77", None),
        (1, at(1, 9), "MEDICATION//UNK", None),
        (1, at(1, 11), "TREATMENT//x|y", None),
        (1, at(1, 12), "PAST_HISTORY//Organ/CHF", None),
        (1, at(1, 13), "ADMISSION_DX//Elective|Yes", None),
        (1, at(1, 14), "ALLERGY//IODINE", None),
        (1, at(1, 15), "MICRO//Blood//E. coli", None),
        (1, at(1, 30), "LAB//potassium//mmol/L", 4.5),
        (1, at(1, 31), "LAB//pH//UNK", None),
        (1, at(1, 32), "LAB//pH//UNK", 7.25),
        (1, at(1, 59), "VITAL//noninvasivesystolic//mmHg", 120.0),
        (1, at(2, 0), "VITAL//noninvasivesystolic//mmHg", 90.0),
        (1, at(2, 0), "VITAL//noninvasivediastolic//mmHg", 50.0),
        (1, at(3, 0), "APACHE24H//bilirubin", 2.5),
        (1, at(3, 0), "ICU_DISCHARGE//UNK", None),
        (1, at(4, 0), "HOSPITAL_DISCHARGE//Home", None),
    ]


def test_the_clock_of_several_stays(tmp_path: Path):
    day = 24 * 60
    rows = {
        "patient": [
            stay(1, 31, year=2014, hospitaldischargestatus="Expired"),
            stay(2, 32, year=2014, hospitaldischargeoffset=50 * day),
            stay(3, 33, year=2014),
            stay(4, 33, year=2014, hospitaladmitoffset=-120, hospitaldischargeoffset=120),
            stay(5, 10, year=2015, hospitaldischargestatus="Expired"),
            stay(6, 99, person="q", year=2015),
        ]
    }
    admitted = [
        (subject, time.date().isoformat())
        for subject, time, code, _ in events(tmp_path, rows)
        if code.startswith("HOSPITAL_ADMISSION")
    ]
    # The stay of 50 days comes first, by its number; then 33, a week after it; then the fatal one of 2014.
    assert admitted == [
        (1, "2014-01-01"),
        (1, "2014-02-28"),
        (1, "2014-04-14"),
        (1, "2015-01-01"),
        (2, "2015-01-01"),
    ]


def test_nobody_dies_twice(tmp_path: Path):
    dead = {"hospitaldischargestatus": "Expired"}
    found = events(tmp_path, {"patient": [stay(1, 1, **dead), stay(2, 2, **dead)]})
    assert [time.month for _, time, code, _ in found if code == "MEDS_DEATH"] == [2]


def test_a_patient_is_in_one_region_that_of_the_first_stay(tmp_path: Path):
    rows = {"patient": [stay(1, 1, at=2), stay(2, 2, at=1), stay(3, 3, at=1, person="q")]}
    assert {subject for subject, *_ in events(tmp_path, rows, "unknown")} == {1}
    south = pl.read_parquet(tmp_path / "meds" / "south" / "data" / "0.parquet")
    assert south["subject_id"].unique().to_list() == [2]


def test_what_cannot_be_written_is_said(tmp_path: Path):
    write(tmp_path, {"patient": [stay(1, 1)], "hospital": ["1,South"]})
    (tmp_path / "meds").write_text("a file")
    with pytest.raises(Unavailable):
        eicu.convert(tmp_path, tmp_path / "meds")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data set is not here: {SHARED.name}")
def test_it_equals_the_events_that_another_implementation_made(tmp_path: Path):
    (tables := tmp_path / "tables").mkdir()
    write(tables, {})
    for table in ("patient", "hospital", "vitalAperiodic", "apacheApsVar"):
        shutil.copyfile(SHARED / "csv" / f"{table.lower()}.csv.gz", tables / f"{table}.csv.gz")
    eicu.convert(tables, tmp_path / "meds")
    ours = pl.read_parquet(tmp_path / "meds/*/data/0.parquet")
    theirs = pl.read_parquet(SHARED / "data/*.parquet").filter(
        ~pl.col("code").str.contains(
            "^(ADMISSION_DX|ALLERGY|DIAGNOSIS|INFUSION|LAB|MEDICATION|MICRO|PAST_HISTORY|TREATMENT)//"
        )
    )
    # Ids are ranks: theirs among all patients of the demo, ours among those of these tables.
    theirs = theirs.with_columns(pl.col("subject_id").rank("dense").cast(pl.Int64))
    columns = ("subject_id", "time", "code", "numeric_value")
    assert ours.height == theirs.height > 200_000
    assert ours.sort(columns).equals(theirs.select(columns).sort(columns))
    for region, people in {
        "midwest": 485,
        "northeast": 99,
        "south": 437,
        "unknown": 139,
        "west": 314,
    }.items():
        assert len(open_meds({"path": region}, tmp_path / "meds").subjects()) == people
