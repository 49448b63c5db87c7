"""The example in `examples/extension-clinic`: installed with pip, tried by the contracts, run end to end."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training and audits are extras")
import polars as pl

from oathbound.core.exits import Exit

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "extension-clinic"
SITES = ("north", "east", "south")
MEASURES = '{ auc = ["neighbourhood"] }'
MODEL = """[policy.model]
name = "code-chain"
seed = 1

[policy.model.options]
length = "32"
"""

# One process for many verbs, so that torch is loaded once; it ends with the code of the last.
VERBS = """
import json, sys
from oathbound.cli.main import run
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["oathbound", *arguments]
    try:
        run()
    except SystemExit as ended:
        if ended.code:
            raise
"""
PINS = """
import json
from oathbound.workflow.extensions import installed
print(json.dumps([each.pin.plain() for each in installed()]))
"""


@pytest.fixture(scope="session")
def verbs(python):
    """Run verbs, with what is installed in a folder, and return the process's exit, stdout and stderr."""

    def run(installed, *arguments):
        text = json.dumps([[str(word) for word in words] for words in arguments])
        return python(installed, "-c", VERBS, text)

    return run


@pytest.fixture(scope="session")
def example(tmp_path_factory, clinic, python, verbs) -> Path:
    """Make a study of three invented hospitals with CSV files that names all four parts of the example."""
    study = tmp_path_factory.mktemp("clinic") / "study"
    assert verbs(clinic, ["init", study, "--example"]).returncode == 0
    for site in SITES:
        folder = study / "sites" / site
        events = pl.read_parquet(folder / "records" / "data" / "*.parquet").rename({"numeric_value": "value"})
        events.write_csv(folder / "events.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
        shutil.rmtree(folder / "records")
        text = (folder / "site.toml").read_text().replace('source = "meds"', 'source = "csv-events"')
        (folder / "site.toml").write_text(text.replace('path = "records"', 'path = "events.csv"'))
    text = (study / "study.toml").read_text()
    text = re.sub(r"\[policy\.model\]\n(.+\n)+", MODEL, text)
    text = text.replace('"sensitive-disclosure"\nmetric = "excess"', '"neighbourhood"\nmetric = "auc"')
    text = re.sub(r'at_most = "[0-9.]+"', 'at_most = "0.7"', text)  # that chance alone does not reach
    text = text.replace('engine = "local"', 'engine = "by-turns"')
    text = text.replace("\n[run]", f"\n{tables(clinic, python)}\n[run]")
    (study / "study.toml").write_text(text)
    return study


def tables(clinic, python) -> str:
    """Return the tables that pin what is installed."""
    text = ""
    for pin in json.loads(python(clinic, "-c", PINS).stdout):
        text += "[[policy.extensions]]\n" + "".join(f'{key} = "{value}"\n' for key, value in pin.items())
        text += f"measures = {MEASURES}\n" if pin["group"] == "audits" else ""
    return text


@pytest.fixture
def study(example, tmp_path) -> Path:
    return Path(shutil.copytree(example, tmp_path / "study"))


@pytest.fixture
def changed(clinic, tmp_path):
    """Return what is installed with other code in one of its modules."""

    def of(module, edit) -> Path:
        folder = Path(shutil.copytree(clinic, tmp_path / "changed"))
        file = folder / "oathbound_clinic" / f"{module}.py"
        file.write_text(edit(file.read_text()))
        return folder

    return of


def test_the_example_keeps_the_contracts(clinic, python):
    ran = python(clinic, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE / "tests")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^\d{2} passed", ran.stdout, re.MULTILINE), ran.stdout


def test_a_study_of_extensions_from_records_to_verification(clinic, verbs, study, tmp_path):
    at_sites = [[verb, "--site", site, study] for verb in ("oath", "admit") for site in SITES]
    ran = verbs(clinic, ["check", study], *at_sites, ["train", study])
    assert ran.returncode == 0, ran.stderr
    for site in SITES:
        ran = verbs(clinic, ["audit", study / "model", "--site", site, "--format", "json"])
        assert ran.returncode == 0, ran.stderr
        findings = {finding["test"]: finding for finding in json.loads(ran.stdout)["findings"]}
        (measure,) = findings["neighbourhood"]["outcome"]["measures"]
        assert (measure["kind"], measure["score"]) == ("auc", "neighbourhood")
        assert findings["membership"]["outcome"]["kind"] == "measured"
    ran = verbs(clinic, ["release", study / "model", "-o", tmp_path / "study.oath"])
    assert ran.returncode in {Exit.DONE, Exit.INCONCLUSIVE}, ran.stderr
    verify = ["verify", tmp_path / "study.oath", "--trust", study / "trust.toml", "--model", study / "model"]
    without = verbs(tmp_path, verify)
    assert without.returncode == ran.returncode, without.stderr
    assert "neighbourhood auc neighbourhood" in without.stdout
    assert json.loads((study / "model" / "config.json").read_text())["architecture"]["name"] == "code-chain"


def test_a_changed_byte_is_refused_before_the_oath_and_after(clinic, verbs, study, changed):
    other = changed(
        "source", lambda text: text.replace("MOST_BYTES: Final = 2**30", "MOST_BYTES: Final = 2**31")
    )
    oath, admit = (["oath", "--site", "north", study], ["admit", "--site", "north", study])
    for installed, verb in ((other, ["check", study]), (other, oath), (clinic, oath), (other, admit)):
        ran = verbs(installed, verb)
        expected = Exit.DONE if installed is clinic else Exit.NOT_ACCEPTABLE
        assert ran.returncode == expected, ran.stderr
    assert "is not the one that the policy pins: digest" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_import_that_fails_stops_the_run(verbs, python, clinic, study, changed):
    broken = changed("model", lambda text: f"raise RuntimeError\n{text}")
    text = (study / "study.toml").read_text().replace(tables(clinic, python), tables(broken, python))
    (study / "study.toml").write_text(text)
    ran = verbs(broken, ["oath", "--site", "north", study], ["check", study])
    assert ran.returncode == Exit.UNAVAILABLE, ran.stderr
    assert "the extension code-chain (models) cannot be loaded: RuntimeError" in ran.stderr


def test_an_engine_that_ends_early_stops_the_run(verbs, python, clinic, study, changed):
    lazy = changed("engine", lambda text: text.replace("while goes_on()", "while False and goes_on()"))
    text = (study / "study.toml").read_text().replace(tables(clinic, python), tables(lazy, python))
    (study / "study.toml").write_text(text)
    at_sites = [[verb, "--site", site, study] for verb in ("oath", "admit") for site in SITES]
    ran = verbs(lazy, *at_sites, ["train", study])
    assert ran.returncode == Exit.UNAVAILABLE, ran.stderr
    assert "the engine by-turns ended before the round did" in ran.stderr


def test_what_is_not_installed_stops_the_run(verbs, study, tmp_path):
    ran = verbs(tmp_path, ["oath", "--site", "north", study])
    assert ran.returncode == Exit.UNAVAILABLE, ran.stderr
    assert "oathbound-clinic==1.0.0" in ran.stderr


def test_what_the_study_does_not_name_is_not_run(clinic, verbs, study):
    text = (study / "study.toml").read_text()
    source = re.compile(r'\[\[policy\.extensions\]\]\ngroup = "sources"\n(.+\n)+?(?=\[)')
    (study / "study.toml").write_text(source.sub("", text))
    ran = verbs(clinic, ["oath", "--site", "north", study], ["admit", "--site", "north", study])
    assert ran.returncode == Exit.WRONG_INPUT, ran.stderr
    assert "nothing called csv-events among its sources" in ran.stderr
