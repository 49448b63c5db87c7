"""Two folders in the place of two machines: what the page says is carried is enough to train."""

import importlib.util
import json
import re
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from oathbound.data.store import SiteStore
from oathbound.evidence.predicates import Admission, Charged, ModelMade, Oath
from oathbound.workflow.folders import StudyFolder

pytest.importorskip("torch", reason="training is an extra")

from oathbound.train.engines import parallel
from oathbound.train.engines.processes import Process
from oathbound.workflow.notary import stated
from oathbound.workflow.reaching import Reached
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

REPOSITORY = Path(__file__).resolve().parents[3]
SESSIONS = REPOSITORY / "tests" / "sessions" / "test_sessions.py"
HOME = {"north": "ann", "east": "bob", "south": "bob"}


def run_page(page: Path, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("sessions", SESSIONS)
    sessions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sessions)
    sessions.run_page(page, folder)


@pytest.mark.slow
def test_two_people_train_with_what_they_carried(tmp_path):
    run_page(REPOSITORY / "docs" / "guides" / "two-machines.md", tmp_path)
    shutil.rmtree(tmp_path / "play" / "keys")
    ann = StudyFolder.open(tmp_path / "ann" / "study")
    assert not (tmp_path / "bob" / "study" / "keys").exists(), "the coordinator's key stays with Ann"
    assert [path.name for path in (ann.path / "sites").iterdir()] == ["north"]
    with ann.log() as log:
        assert [each.site for each in stated(log, Oath, ann.parties())] == ["north"]

    @contextmanager
    def by(_study, _clock):
        with ExitStack() as ended:
            peers = {}
            for name, home in HOME.items():
                folder = tmp_path / home / "study"
                command = [sys.executable, "-P", "-m", "oathbound.workflow.site_process", str(folder), name]
                peers[name] = Process(name, command)
                ended.callback(peers[name].close)
            yield Reached(peers, parallel.run)

    trained = train(ann, clock=lambda: int(time.time()), watch=unwatched, by=by)
    assert trained.steps == ann.policy.training.steps
    with ann.log() as log:
        said = {kind: stated(log, kind, ann.parties()) for kind in (Oath, Admission, Charged, ModelMade)}
    for kind in (Oath, Admission, Charged):
        assert sorted(each.site for each in said[kind]) == sorted(HOME)
    assert said[ModelMade][0].model == trained.model
    for name, home in HOME.items():
        with SiteStore.open(tmp_path / home / "study" / "sites" / name / "state.sqlite") as store:
            assert store.charged("study").count == trained.attempts


@pytest.fixture
def kit(tmp_path):
    """A kit as FLARE 2.9 provisions it, in the parts that matter here."""
    local, startup = tmp_path / "kit" / "local", tmp_path / "kit" / "startup"
    local.mkdir(parents=True)
    startup.mkdir()
    streamer = {
        "id": "site_log_streamer",
        "path": "nvflare.app_common.logging.site_log_streamer.SiteLogStreamer",
    }
    launcher = {
        "id": "process_launcher",
        "path": "nvflare.app_common.job_launcher.x.ClientProcessJobLauncher",
    }
    resources = {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": ["nvflare.app_common.executors.x.Executor"],
        "allow_log_streaming": True,
        "components": [launcher, streamer],
    }
    (local / "resources.json.default").write_text(json.dumps(resources))
    (startup / "fed_client.json").write_text(json.dumps({"client": {"fqsn": "north"}}))
    (startup / "client.key").write_text("secret")
    (startup / "client.key").chmod(0o600)
    return tmp_path / "kit"


@pytest.fixture
def doctor(small, kit, monkeypatch):
    from oathbound.workflow import doctor  # noqa: PLC0415 - not before the skip
    from oathbound.workflow.site_kit import write_kit  # noqa: PLC0415 - not before the skip

    study = small()
    write_kit(kit)
    monkeypatch.setattr(doctor, "version", lambda _: "2.9.1")

    def examine(*, now=None):
        found = doctor.examine(study, "north", kit=kit, now=now or int(time.time()))
        return [each.wrong for each in found if each.wrong]

    examine.study, examine.kit, examine.module = study, kit, doctor
    return examine


def test_a_kit_that_was_written_is_as_it_should_be(doctor):
    assert doctor() == []
    kept = json.loads((doctor.kit / "local" / "resources.json").read_text())
    assert [each["id"] for each in kept["components"]] == ["process_launcher"]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("resources", {"class_allow_list": ["*"]}, "class_allow_list lists \\*"),
        ("resources", {"class_allow_list": None}, "class_allow_list is missing"),
        ("resources", {"class_allow_list": ["oathbound.workflow.flare.SiteApp"]}, "does not list nvflare"),
        ("resources", {"class_list_enforcement_mode": "warn"}, "is not enforce"),
        ("resources", {"allow_log_streaming": True}, "logs leave the site"),
        ("resources", {"components": [{"path": "nvflare.app_common.logging.x.Y"}]}, "logs leave the site"),
        ("authorization", {"permissions": {"project_admin": "any"}}, "/permissions/project_admin has 'any'"),
        ("authorization", {"permissions": {}}, "/permissions/lead has 'nothing'"),
        ("authorization", {"permissions": None}, "/permissions has None"),
        ("authorization", {"permission": {}}, "/permission has {}"),
    ],
)
def test_a_kit_that_lets_code_in_or_logs_out_is_noticed(doctor, file, change, said):
    path = doctor.kit / "local" / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert [bool(re.search(said, wrong)) for wrong in doctor()] == [True]


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("*", "any"),
        ("*", None),
        ("Lead", {}),
        ("lead", {"byoc": "any"}),
        ("lead", {"byoc": "o:site"}),
        ("lead", {"BYOC": "any"}),
        ("lead", {"shell_commands": "any"}),
        ("lead", {" Shell_Commands": "any"}),
        ("lead", {"cat": "any"}),
        ("lead", {"clone_job": None}),
    ],
)
def test_a_right_that_the_kit_does_not_give_is_noticed_however_it_is_written(doctor, role, rights):
    path = doctor.kit / "local" / "authorization.json"
    authorization = json.loads(path.read_text())
    rules = authorization["permissions"]
    rules[role] = rules.get(role, {}) | rights if isinstance(rights, dict) else rights
    path.write_text(json.dumps(authorization))
    where = "/".join(("permissions", role, *rights)) if isinstance(rights, dict) else f"permissions/{role}"
    assert [where in wrong for wrong in doctor()] == [True]


def test_what_else_is_wrong_at_a_site_is_noticed(doctor, monkeypatch):
    north = doctor.study.site("north")
    (doctor.kit / "startup" / "client.key").chmod(0o644)
    assert ["may be opened by other users" in each for each in doctor()] == [True]
    (doctor.kit / "startup" / "client.key").chmod(0o600)
    (north.path / "keys").chmod(0o755)
    assert ["keys may be opened by other users" in each for each in doctor()] == [True]
    (north.path / "keys").chmod(0o700)
    (north.path / "keys" / "site.key").chmod(0o640)
    assert any("open to other users" in each for each in doctor())
    (north.path / "keys" / "site.key").chmod(0o600)
    monkeypatch.setattr(doctor.module, "LEAST_FREE_BYTES", 2**80)
    assert doctor() == ["less than 1 GiB is free"]
    monkeypatch.setattr(doctor.module, "LEAST_FREE_BYTES", 0)
    monkeypatch.setattr(doctor.module, "version", lambda _: "2.10.0")
    assert doctor() == ["nvflare 2.10.0 was never tried"]
    monkeypatch.setattr(doctor.module, "version", lambda _: "2.9.0")
    (doctor.kit / "local" / "resources.json").write_text("[]")
    assert ["not a JSON object" in each for each in doctor()] == [True]


def test_consents_and_records_are_opened_and_a_wrong_key_hides_nothing(doctor):
    north = doctor.study.site("north")
    consents = north.consents.read_bytes()
    north.consents.write_text("nothing of the kind\n")
    assert ["nothing in the consent file is a FHIR Consent" in each for each in doctor()] == [True]
    north.consents.unlink()
    assert ["is not there" in each for each in doctor()] == [True]
    north.consents.write_bytes(consents)
    shutil.move(north.path / "records", north.path / "elsewhere")
    assert len(doctor()) == 1
    (north.path / "keys" / "site.key").write_text("no key")
    (north.path / "keys").chmod(0o755)
    wrong = doctor()
    assert len(wrong) == 3
    assert any("keys may be opened by other users" in each for each in wrong)


def test_a_package_that_records_need_is_named(doctor, monkeypatch):
    def absent(*_):
        raise ModuleNotFoundError("No module named 'polars'", name="polars")

    monkeypatch.setattr(doctor.module, "source_of", absent)
    assert doctor() == ["polars is not installed"]


def test_a_clock_that_is_behind_is_noticed(doctor):
    from oathbound.workflow.notary import Consortium, started  # noqa: PLC0415 - not before the skip

    study = doctor.study
    with study.log() as log:
        started(log, study.secret(), Consortium.of(study), int(time.time()))
    # east cosigned before south did, so its memory holds north's cosignature
    shutil.copytree(
        study.site("south").path / "witness", study.site("north").path / "witness", dirs_exist_ok=True
    )
    assert doctor() == []
    assert [each.startswith("this machine's clock is behind") for each in doctor(now=1)] == [True]
