"""1,335 real patients of 135 hospitals, in four regions: admitted and trained on by four sites.

The consents are simulated; nothing else is.
"""

from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.data.store import SiteStore
from oathbound.models.family import encoder_of
from oathbound.workflow.admit import admit_site
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.init import write_simulated_consents, write_study
from oathbound.workflow.join import join
from oathbound.workflow.oath import swear
from oathbound.workflow.records import rows_of, source_of
from oathbound.workflow.train import train

EICU = Path(__file__).resolve().parents[4] / "shared" / "data" / "eicu_demo"
REGIONS = ("Midwest", "South", "West", "Northeast")
NOW = 1_800_000_000
DAMAGED = 20

pytestmark = pytest.mark.skipif(not EICU.is_dir(), reason="the folder shared/ is not beside the repository")

CODES = """codes = [
    "GENDER//Male", "GENDER//Female",
    "VITAL//noninvasivesystolic//mmHg", "APACHE24H//heartrate", "APACHE24H//creatinine", "APACHE24H//glucose",
    "HOSPITAL_ADMISSION//Emergency Department", "ICU_DISCHARGE//Floor", "HOSPITAL_DISCHARGE//Home",
    "MEDS_DEATH",
]
"""
EDGES = """
"VITAL//noninvasivesystolic//mmHg" = ["90", "120", "140", "160"]
"APACHE24H//heartrate" = ["60", "100", "130"]
"APACHE24H//creatinine" = ["0.7", "1.3", "4"]
"APACHE24H//glucose" = ["70", "100", "126", "200"]

"""


def between(text: str, start: str, end: str, new: str) -> str:
    """Return the text with what stands from `start` to before `end` replaced."""
    before, found, after = text.partition(start)
    _, ended, rest = after.partition(end)
    assert found, start
    assert ended, end
    return before + new + ended + rest


def write_records(folder: Path, events: pl.DataFrame) -> None:
    """Write a MEDS folder of two shards."""
    (folder / "data").mkdir(parents=True)
    for shard in range(2):
        of_shard = events.filter(pl.col("subject_id") % 2 == shard)
        of_shard.write_parquet(folder / "data" / f"{shard}.parquet")


def site_of(folder: Path, region: str, events: pl.DataFrame) -> tuple[str, str]:
    """Make the site of a region, with records and simulated consents."""
    party = join(folder, region.lower())
    write_records(folder / "records", events)
    write_simulated_consents(SiteFolder.open(folder), now=NOW)
    return party.name, party.fingerprint


@pytest.fixture
def study(tmp_path):
    """Return a study of the four regions; in the West, a code of each of 20 patients is missing."""
    events = pl.concat([pl.read_parquet(shard) for shard in sorted((EICU / "data").glob("*.parquet"))])
    regions = pl.read_parquet(EICU / "sites.parquet").select("subject_id", "region")
    events = events.join(regions, on="subject_id", maintain_order="left")
    western = regions.filter(pl.col("region") == "West")["subject_id"].sort().head(DAMAGED)
    # The last event of a record, so that the rest of it would still look whole.
    damaged = pl.col("subject_id").is_in(western.to_list()) & pl.col("subject_id").is_last_distinct()
    events = events.with_columns(code=pl.when(~damaged).then("code"))
    members = [
        site_of(tmp_path / "sites" / region.lower(), region, part.drop("region"))
        for region in REGIONS
        for part in [events.filter(pl.col("region") == region)]
    ]
    folder = tmp_path / "study"
    write_study(folder, "study.toml", members, folder="../sites")
    text = (folder / "study.toml").read_text()
    text = between(text, "codes = [", "ages = [", CODES)
    text = between(text, "[policy.vocabulary.edges]", "[policy.model]", "[policy.vocabulary.edges]" + EDGES)
    text = between(
        text,
        'codes = ["DIAGNOSIS//depression"]',
        "prompt_events",
        'codes = ["MEDS_DEATH"]\nimplied_by = []\n',
    )
    for old, new in (
        ("members = 420", "members = 800"),
        ("steps = 60", "steps = 4"),
        ("attempts = 64", "attempts = 6"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    return StudyFolder.open(folder)


@pytest.mark.slow
def test_four_regions_are_admitted_and_trained_on(study):
    names = [region.lower() for region in REGIONS]
    for name in names:
        swear(study, name)
    admissions = {name: admit_site(study, name, now=NOW) for name in names}
    assert [admissions[name].considered for name in names] == [485, 435, 315, 100]
    excluded = {each.reason: each.patients for each in admissions["west"].excluded}
    assert 10 <= excluded["record cannot be read"] <= DAMAGED
    assert all(
        "record cannot be read" not in {each.reason for each in admissions[name].excluded}
        for name in names
        if name != "west"
    )
    clock, said = count(NOW), []
    trained = train(study, clock=lambda: next(clock), watch=lambda *told: said.append(told[2]))
    assert trained.steps == 4
    assert all("4 of 4 sites" in words and "loss" not in words for words in said), "a loss is not public"
    assert (study.model / "model.safetensors").is_file()


def test_a_regions_tokens_are_those_of_its_patients(study):
    swear(study, "northeast")
    admit_site(study, "northeast", now=NOW)
    site = study.site("northeast")
    with SiteStore.open(site.state) as store:
        cohort = store.cohort(study.policy.study)
    encoder = encoder_of(study.policy.model, study.policy.vocabulary)
    patients = source_of(site).patients(cohort)
    members = [patient for patient in patients if patient.subject_id in cohort.members]
    members.sort(key=lambda patient: patient.subject_id)
    assert len(members) > 50
    assert np.array_equal(
        rows_of(source_of(site), cohort, cohort.members, encoder, site.path), encoder.encode_all(members)
    )
