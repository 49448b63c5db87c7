"""71,518 real patients as a table, one encounter of each as Strack et al. (2014): admitted and trained on.

Which hospital an encounter was in is not published, so two simulated hospitals share the table by hash. The
consents are simulated too.
"""

from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra")

import torch

from oathbound.data.store import SiteStore
from oathbound.models.family import family_of
from oathbound.models.folder import read_model
from oathbound.workflow.admit import admit_site
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.init import write_simulated_consents, write_study
from oathbound.workflow.join import join
from oathbound.workflow.oath import swear
from oathbound.workflow.records import rows_of, source_of
from oathbound.workflow.train import train

DIABETES = Path(__file__).resolve().parents[4] / "shared" / "data" / "diabetes130"
TABLE = DIABETES / "diabetic_data.parquet"
NOW = 1_800_000_000
SITES = ("one", "two")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TABLE.is_file(), reason="the folder shared/ is not beside the repository"),
]

FEATURES = """[policy.features]
present = [
    "gender//Female", "age//[60-70)", "age//[70-80)", "age//[80-90)", "age//[90-100)",
    "change//Ch", "diabetesMed//Yes", "insulin//Up", "insulin//Down", "A1Cresult//>8",
]
numbers = [
    { code = "time_in_hospital", centre = "4", scale = "3", missing = [] },
    { code = "number_inpatient", centre = "1", scale = "1", missing = [] },
    { code = "number_emergency", centre = "1", scale = "1", missing = [] },
    { code = "num_medications", centre = "15", scale = "10", missing = [] },
    { code = "number_diagnoses", centre = "7", scale = "2", missing = [] },
]
label = { code = "readmitted//<30" }

[policy.model]
name = "logistic-regression"

"""


def test_a_table_of_71_518_patients_is_admitted_and_trained_on(tmp_path):
    options = {
        "path": str(TABLE),
        "subject": "patient_nbr",
        "order": "encounter_id",
        "take": "first",
        "parts": "1,1",
    }
    members = []
    for part, name in enumerate(SITES, start=1):
        party = join(tmp_path / name, name, source="table", options={**options, "part": str(part)})
        write_simulated_consents(SiteFolder.open(tmp_path / name), now=NOW)
        members.append((party.name, party.fingerprint))
    study = study_of(tmp_path / "study", members)
    for name in SITES:
        swear(study, name)
    admissions = [admit_site(study, name, now=NOW) for name in SITES]
    assert sum(admission.considered for admission in admissions) == pytest.approx(71_518, abs=10)
    assert all(admission.members > 18_000 for admission in admissions)
    clock = count(NOW)
    trained = train(study, clock=lambda: next(clock), watch=lambda *_: None)
    assert trained.steps == 6
    loaded = read_model(study.model)
    site = study.site("one")
    with SiteStore.open(site.state) as store:
        cohort = store.cohort(study.policy.study)
    rows = rows_of(source_of(site), cohort, cohort.held_out, loaded.encoder, site.path)
    assert rows.shape == (len(cohort.held_out), 10 + 2 * 5 + 1)
    assert rows[:, -1].mean() == pytest.approx(0.09, abs=0.02)  # readmitted within 30 days
    assert losses(loaded.model, rows) < losses(family_of(study.policy).model, rows) - 0.05


def losses(model, rows):
    with torch.inference_mode():
        return float(model.losses(torch.from_numpy(rows)).mean())


def study_of(folder, members):
    """Write the study of the heart demo with the features of this table, for two sites."""
    write_study(folder, "demo-heart-private.toml", members, folder="..")
    text = (folder / "study.toml").read_text()
    start, end = text.index("[policy.features]"), text.index("[policy.training]")
    text = text[:start] + FEATURES + text[end:]
    for old, new in (
        ("min_sites = 4", "min_sites = 2"),
        ("colluding = 1", "colluding = 0"),
        ("dishonest_witnesses = 1", "dishonest_witnesses = 0"),
        ('window = ["0.4", "1"]', 'window = ["0", "1"]'),
        ("members = 300", "members = 60000"),
        ('sampling_rate = "0.25"', 'sampling_rate = "0.02"'),
        ("steps = 40", "steps = 6"),
        ("attempts = 42", "attempts = 7"),
        ("round_steps = 20", "round_steps = 6"),
    ):
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    (folder / "study.toml").write_text(text)
    return StudyFolder.open(folder)
