"""What is installed and pinned, and is not what its group asks for."""

import pytest

pytest.importorskip("torch", reason="training and audits are extras")

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.shape import ExtensionModel, Features
from oathbound.models.features import FeatureEncoder
from oathbound.models.folder import read_model, write_model
from oathbound.models.model import Model
from oathbound.workflow.audit import tests_of as audits_of
from oathbound.workflow.families import family_of
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.join import join
from oathbound.workflow.records import source_of

TEST = """
from oathbound.core.finding import Threat
class Test:
    id, version, threat = {id!r}, {version}, Threat(sees="records", knows="records")
    def run(self, target, patients, plan, seed): ...
make = Test()
"""
MEASURES = {"measures": {"auc": ["score"]}}
SOURCE = """
class Source:
    def describe(self):
        from oathbound.data.description import Dropped, SourceDescription
        return SourceDescription({kind!r}, "sha256:" + 64 * "0", None, Dropped())
def make(options, folder):
    return Source()
"""


def test_an_audit_test_of_its_name(fake, pinning):
    fake("ext-test", group="audits", code=TEST.format(id="ext-test", version=1))
    assert set(audits_of(pinning("ext-test", "audits", **MEASURES))) == {"ext-test"}


@pytest.mark.parametrize(
    "code",
    [TEST.format(id="membership", version=1), TEST.format(id="ext-misfit", version=2), "make = 'a test'"],
)
def test_what_is_no_audit_test_of_its_name(fake, pinning, code):
    fake("ext-misfit", group="audits", code=code)
    with pytest.raises(Unavailable, match="is no audit test"):
        audits_of(pinning("ext-misfit", "audits", **MEASURES))


def test_a_source_calls_itself_by_its_name(fake, pinning, tmp_path):
    for name, kind in (("ext-true", "ext-true"), ("ext-false", "meds")):
        fake(name, group="sources", code=SOURCE.format(kind=kind))
        join(tmp_path / name, "north", source=name)
    policy = pinning("ext-true", "sources")
    assert source_of(SiteFolder.open(tmp_path / "ext-true"), policy).describe().kind == "ext-true"
    with pytest.raises(WrongInput, match="describes itself as another kind"):
        source_of(SiteFolder.open(tmp_path / "ext-false"), pinning("ext-false", "sources"))
    with pytest.raises(WrongInput, match="unknown kind"):
        source_of(SiteFolder.open(tmp_path / "ext-true"))


class Weightless(Model):
    def __init__(self, architecture):
        super().__init__()
        self.architecture = architecture

    def losses(self, rows):
        return rows[..., 0]


def test_the_folder_of_an_extensions_model_needs_a_study(tmp_path):
    seen = Features.parse({"present": ["a"], "numbers": [], "label": {"code": "b"}}, what="features")
    model = Weightless(ExtensionModel(name="ext-model", options={}, seed=1))
    write_model(tmp_path / "model", model, FeatureEncoder(seen).seen)
    with pytest.raises(Unavailable, match="ext-model is an extension's"):
        read_model(tmp_path / "model")


def test_a_model_of_the_policy_is_made_by_its_extension(fake, pinning):
    fake("ext-shape", code="def make(architecture, seen): return architecture.name, seen.codes")
    policy = pinning("ext-shape")
    policy = policy.model_copy(update={"model": ExtensionModel(name="ext-shape", options={}, seed=1)})
    assert family_of(policy) == ("ext-shape", ("a", "b"))
