"""What a person sees of `oathbound data`, and that its guide says the same."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from oathbound.cli.output import Format
from oathbound.cli.verbs import data
from oathbound.core.errors import Unavailable
from oathbound.core.exits import Exit
from oathbound.data import recipes
from oathbound.data.invented import invent_records
from oathbound.data.recipes import EICU_DEMO, Recipe

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "public-data.md"


def ran(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oathbound.cli", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def block(language: str, beginning: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (each for each in blocks if each.startswith(beginning))
    return found


@pytest.fixture
def local(server, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe of eICU, from a server on this machine that has other files, which become no records."""

    def convert(_: Path, into: Path) -> None:
        into.mkdir()

    files = tuple(server.publish(file.path, file.path.encode()) for file in EICU_DEMO.files)
    recipe = replace(EICU_DEMO, address=server.address, files=files, convert=convert)
    monkeypatch.setattr("oathbound.workflow.fetch.RECIPES", MappingProxyType({recipe.name: recipe}))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return recipe


def test_the_list_is_that_of_the_guide():
    listed = ran("list")
    assert listed.returncode == 0, listed.stderr
    assert block("console", "$ oathbound data list") == f"$ oathbound data list\n{listed.stdout}"


def test_the_list_for_a_script():
    sets = json.loads(ran("list", "--format", "json").stdout)["sets"]
    assert [each["name"] for each in sets] == list(recipes.RECIPES)
    for each in sets:
        assert each["files"]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in each["files"].values())


def test_get_says_licence_and_citations_first_and_what_the_guide_says(
    server, local: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    data.get("eicu-demo", Path("eicu"))
    printed = capsys.readouterr()
    beginning, _, ending = block("console", "$ oathbound data get").partition("...\n")
    assert printed.err.startswith(beginning.partition("\n")[2])
    assert printed.err.startswith(local.notice)
    assert printed.out == ending

    server.files.clear()
    (tmp_path / "eicu" / "original" / "lab.csv.gz").unlink()
    with pytest.raises(Unavailable):
        data.get("eicu-demo", Path("eicu"))
    printed = capsys.readouterr()
    assert local.notice in printed.err
    assert printed.out == ""


def test_get_for_a_script(local: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for downloaded in (len(local.files), 0):
        data.get("eicu-demo", tmp_path / "eicu", Format.JSON)
        printed = capsys.readouterr()
        assert printed.err == ""
        answer = json.loads(printed.out)
        assert answer["downloaded"] == downloaded
        assert answer["records"] == [str(tmp_path / "eicu" / "meds" / part) for part in local.parts]
        assert answer["licence"] == "Open Database License 1.0"
        assert answer["cite"] == list(local.cite)


def test_refusals_before_the_network_is_used(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.toml").write_text("mine")
    for arguments in (("get", "mimic-iv", tmp_path / "a"), ("get", "mimic-iv-demo", tmp_path / "mine")):
        refused = ran(*arguments)
        assert refused.returncode == Exit.WRONG_INPUT
        assert refused.stdout == ""
        error, hint = refused.stderr.splitlines()[-2:]
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "study.toml"]


def test_the_guide_simulates_consents(tmp_path: Path):
    for seed, region in enumerate(("midwest", "south", "west", "northeast")):
        invent_records(tmp_path / "eicu" / "meds" / region, patients=20, seed=seed)
    script = block("python", "import json")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=60)
    for region in ("midwest", "south", "west", "northeast"):
        lines = (tmp_path / f"{region}.ndjson").read_text().splitlines()
        assert 5 < len(lines) <= 20
        assert {json.loads(line)["resourceType"] for line in lines} == {"Consent"}
