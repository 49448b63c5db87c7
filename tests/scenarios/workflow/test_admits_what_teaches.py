"""A site whose records would teach nothing, or cannot be shown to the model, is refused when it admits."""

import time

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.evidence.keys import Secret
from oathbound.evidence.predicates import Admission
from oathbound.workflow.admit import admit_site
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.init import write_simulated_consents, write_study
from oathbound.workflow.join import join
from oathbound.workflow.notary import stated
from oathbound.workflow.oath import swear

PATIENTS = 60
FEATURES = """[policy.features]
present = []
numbers = [{ code = "age", centre = "50", scale = "10", missing = [] }]
label = { code = "ill", at_least = "1" }

[policy.model]
name = "logistic-regression"

"""


@pytest.fixture
def sworn(tmp_path):
    """Return a function that makes a study whose site `north` has sworn, on a table of one row a patient."""

    def made(table, source, *, features=False, **options):
        path = tmp_path / "study"
        north = path / "sites" / "north"
        party = join(north, "north", source=source, options={"path": "records.csv", **options})
        (north / "records.csv").write_text("\n".join(table) + "\n")
        write_simulated_consents(SiteFolder.open(north), now=int(time.time()))
        others = [Secret.generate(name).party() for name in ("east", "south", "west")]
        members = [(each.name, each.fingerprint) for each in (party, *others)]
        write_study(path, "demo-nodules-private.toml", members, folder="sites")
        text = (path / "study.toml").read_text().replace('window = ["0.5", "1"]', 'window = ["0", "1"]')
        text = text.replace("shape = [40, 40]", "shape = [4, 4]").replace('"nodule//', '"scan//')
        if features:
            text = text[: text.index("[policy.recordings]")] + FEATURES + text[text.index("[policy.train") :]
            of_recordings = slice(text.index("[policy.audit.reconstruction]"), text.index("[[policy.gates]]"))
            text = text.replace(text[of_recordings], "")
            text = text[: text.rindex("[[policy.gates]]")] + text[text.index("[run]") :]
        (path / "study.toml").write_text(text)
        study = StudyFolder.open(path)
        swear(study, "north")
        return study

    return made


def scans(folder, label):
    folder.mkdir(parents=True)
    for number in range(PATIENTS):
        np.savez(folder / f"{number}.npz", scan=np.full((4, 4), number, np.float32))
    return ["subject_id,path,label", *(f"{number},{number}.npz,{label}" for number in range(PATIENTS))]


def refused(study, error):
    with pytest.raises(error) as caught:
        admit_site(study, "north", now=int(time.time()))
    site = study.site("north")
    with site.log(study.policy) as own:
        assert not stated(own, Admission, {"north": site.secret().party()}), "nothing is stated"
    return caught.value


@pytest.mark.parametrize("label", ["unclear", ""])
def test_scans_of_no_class_of_the_policy(sworn, tmp_path, label):
    table = scans(tmp_path / "study" / "sites" / "north", label)
    study = sworn(table, "scans", rows="4", columns="4")
    error = refused(study, NothingExamined)
    assert error.message.startswith("north: no admitted member has a recording of a class")
    assert "label in the table" in error.hint


def test_scans_of_another_shape_are_refused_and_the_site_is_named(sworn, tmp_path):
    table = scans(tmp_path / "study" / "sites" / "north", "benign")
    study = sworn(table, "scans", rows="4", columns="6")
    error = refused(study, WrongInput)
    assert error.message.startswith("north: the source's recordings are of 4 x 6 values")


def test_scans_of_a_class_are_admitted(sworn, tmp_path):
    table = scans(tmp_path / "study" / "sites" / "north", "benign")
    admission = admit_site(sworn(table, "scans", rows="4", columns="4"), "north", now=int(time.time()))
    assert [each.patients for each in admission.missing] == [0]


def test_a_table_without_a_label(sworn):
    table = ["number,age,sick", *(f"{number},{number + 20},1" for number in range(PATIENTS))]
    study = sworn(table, "table", features=True, subject="number")
    assert "label in the policy" in refused(study, NothingExamined).hint


def test_a_table_with_a_label_is_admitted(sworn):
    table = ["number,age,ill", *(f"{number},{number + 20},{number % 2}" for number in range(PATIENTS))]
    study = sworn(table, "table", features=True, subject="number")
    assert [each.patients for each in admit_site(study, "north", now=int(time.time())).missing] == [0]
