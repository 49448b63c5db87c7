"""Bad input gets one line, a hint and the right exit code; never a traceback, and nothing is lost."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oathbound.data.store import SiteStore
from oathbound.testing.consortium import Consortium


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Path]:
    consortium = Consortium.finished()
    (tmp_path / "a.oath").write_bytes(consortium.bundle())
    parties = "".join(
        f'[[party]]\nname = "{party.name}"\nfingerprint = "{party.fingerprint}"\n'
        for party in consortium.trust().party
    )
    (tmp_path / "trust.toml").write_text('format = "oathbound/trust/v1"\n' + parties)
    return tmp_path / "a.oath", tmp_path / "trust.toml"


def refused(ran, code: int, *words: str) -> None:
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert lines[0].startswith("error: "), ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(lines) <= 2
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert word in ran.stderr, ran.stderr


def edited(study: Path, old: str, new: str) -> None:
    file = study / "study.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.fixture
def example(tmp_path: Path, run) -> Path:
    pytest.importorskip("torch", reason="the example needs the data packages")
    assert run("init", tmp_path / "study", "--example").returncode == 0
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("min_sites = 3", "min_sights = 3", "min_sights"),
        ('epsilon = "3.0"', "epsilon = 3.0", "in quotes"),
        ('epsilon = "3.0"', 'epsilon = "three"', "policy.budget.epsilon"),
        ("steps = 60", 'steps = "60"', "policy.training.steps"),
        ("min_sites = 3", "min_sites = 2", "at least 2"),
        ('privacy = "patient-dp"', 'privacy = "none"', "[policy.budget]"),
        ('codes = ["DIAGNOSIS//depression"]', 'codes = ["DIAGNOSIS//unknown"]', "DIAGNOSIS//unknown"),
        ("[policy.model]", "[policy.model", "not TOML"),
    ],
)
def test_a_wrong_study_file(run, example: Path, old: str, new: str, word: str):
    edited(example, old, new)
    refused(run("check", example), 2, word)


def test_no_gates(run, example: Path):
    file = example / "study.toml"
    file.write_text(re.sub(r"\[\[policy\.gates\]\][^\[]*", "", file.read_text()))
    refused(run("check", example), 2, "gates")


def test_a_plan_that_breaks_its_budget(run, example: Path):
    edited(example, 'noise_multiplier = "2.4"', 'noise_multiplier = "0.7"')
    refused(run("check", example), 5, "epsilon")


def test_a_missing_study(run, tmp_path: Path):
    refused(run("check", tmp_path / "nowhere"), 2, "study.toml", "oathbound init")


def test_another_site_and_an_unknown_verb(run, example: Path):
    refused(run("oath", "--site", "west", example), 2, "west", "north, east, south")
    refused(run("frobnicate"), 2, "frobnicate")
    refused(run("verify", "a.oath"), 2, "--trust")


def test_stages_out_of_order(run, example: Path):
    refused(run("admit", "--site", "north", example), 5, "oath")
    refused(run("train", example), 5, "did not swear")
    assert run("oath", "--site", "north", example).returncode == 0
    edited(example, 'at_most = "0.55"', 'at_most = "0.95"')
    refused(run("oath", "--site", "north", example), 5, "another policy")


def test_unreadable_and_empty_consents(run, example: Path):
    assert run("oath", "--site", "north", example).returncode == 0
    consents = example / "sites" / "north" / "consents.ndjson"
    kept = consents.read_text()
    consents.unlink()
    refused(run("admit", "--site", "north", example), 2, "consent")
    consents.write_text("")
    refused(run("admit", "--site", "north", example), 3, "empty")
    denied = [json.loads(line) | {"status": "inactive"} for line in kept.splitlines()]
    consents.write_text("".join(json.dumps(line) + "\n" for line in denied))
    refused(run("admit", "--site", "north", example), 3)
    consents.write_text(kept + '{"resourceType": "Consent", "half a line\n')
    ran = run("admit", "--site", "north", example)
    assert ran.returncode == 0, ran.stderr
    assert "could not be read" in ran.stdout


def test_wrong_records(run, example: Path):
    assert run("oath", "--site", "north", example).returncode == 0
    shard = example / "sites" / "north" / "records" / "data" / "0.parquet"
    shard.write_bytes(shard.read_bytes()[:1000])
    refused(run("admit", "--site", "north", example), 2, "0.parquet")
    shutil.rmtree(shard.parent)
    refused(run("admit", "--site", "north", example), 2)


def test_a_spent_budget(run, sworn: Path):
    site = sworn / "sites" / "north" / "site.toml"
    site.write_text(site.read_text().replace('epsilon = "10"', 'epsilon = "2"'))
    refused(run("train", sworn), 5, "limit")


def test_a_gate_that_no_test_measures(run, example: Path):
    edited(example, 'metric = "auc"', 'metric = "au-roc"')
    refused(run("check", example), 2, "au-roc", "auc")
    refused(run("oath", "--site", "north", example), 2, "au-roc")


def test_join_says_what_it_did(run, tmp_path: Path):
    assert "wrote" in run("join", tmp_path / "s", "--site", "north").stdout
    assert "found" in run("join", tmp_path / "s", "--site", "north").stdout
    refused(run("join", tmp_path / "s", "--site", "north", "--part", "1/2"), 2, "site.toml")
    refused(run("join", tmp_path / "s", "--site", "east"), 2, "folder of north")
    refused(run("join", tmp_path / "t", "--site", "north", "--records", tmp_path / "nowhere"), 2, "nowhere")


def test_a_folder_that_names_no_study(run, tmp_path: Path):
    refused(run("init", tmp_path / "My Study"), 2, "My Study")
    refused(run("init", tmp_path / "2026-study", "--example"), 2, "2026-study")
    assert not any(tmp_path.iterdir())


def test_demo_does_not_touch_somebodys_study(run, example: Path):
    before = {path: path.stat().st_mtime_ns for path in example.rglob("*")}
    refused(run("demo", example), 2, "something else than this demo")
    assert {path: path.stat().st_mtime_ns for path in example.rglob("*")} == before


def test_lost_state_is_noticed_before_anything_is_spent(run, sworn: Path):
    state = sworn / "sites" / "north" / "state.sqlite"
    kept = state.read_bytes()
    for file in state.parent.glob("state.sqlite*"):
        file.unlink()
    refused(run("admit", "--site", "north", sworn), 5, "restore the site's state")
    state.write_bytes(kept)
    state.chmod(0o600)
    shutil.rmtree(sworn / "sites" / "north" / "studies")
    refused(run("train", sworn), 10, "lost statements", "restore")


def test_two_at_once(run, example: Path):
    with (example / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(run("oath", "--site", "north", example), 4, "another oathbound")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(run, example: Path):
    example.chmod(0o500)
    try:
        refused(run("oath", "--site", "north", example), 4)
    finally:
        example.chmod(0o700)


def test_keys_that_others_may_read(run, example: Path):
    (example / "sites" / "north" / "keys" / "site.key").chmod(0o644)
    refused(run("oath", "--site", "north", example), 2, "chmod 600")


def test_wrong_bundles(run, bundle: tuple[Path, Path]):
    file, trust = bundle
    refused(run("verify", file, "--trust", trust, "--at", "2026-01-01"), 11, "clock")
    later = ("--at", "2027-06-01")
    good = run("verify", file, "--trust", trust, *later)
    assert good.returncode == 0, good.stderr
    data = file.read_bytes()
    for wrong in (b"", data[:1000], data + b"x", b"PK\x03\x04" * 1000, os.urandom(5000)):
        file.write_bytes(wrong)
        refused(run("verify", file, "--trust", trust, *later), 10, "step 1")
    file.unlink()
    refused(run("verify", file, "--trust", trust, *later), 2)
    refused(run("verify", file.parent, "--trust", trust, *later), 2)


def test_reports_overwrite_nothing_else(run, bundle: tuple[Path, Path]):
    file, trust = bundle
    kept = trust.read_bytes()
    refused(run("report", file, "-o", trust, "--trust", trust), 2, "not overwritten")
    refused(run("report", file, "-o", trust.parent, "--trust", trust), 2, "folder")
    assert trust.read_bytes() == kept


def test_the_verdict_survives_a_reader_that_has_gone(bundle: tuple[Path, Path]):
    file, trust = bundle
    command = f"'{sys.executable}' -m oathbound.cli verify '{file}' --trust '{trust}' --at 2027-06-01 | true"
    ran = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_an_interrupt_is_said_and_loses_nothing(sworn: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "oathbound.cli", "train", str(sworn)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (sworn / "run" / "snapshot").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.startswith("error: interrupted")


def test_wrong_trust_files(run, bundle: tuple[Path, Path]):
    file, trust = bundle
    text = trust.read_text()
    trust.write_text(text.replace('"north"', '"west"'))
    refused(run("verify", file, "--trust", trust, "--at", "2027-06-01"), 10, "step 2", "trust file")
    trust.write_text('format = "oathbound/trust/v1"\n')
    refused(run("verify", file, "--trust", trust), 2, "party")
    trust.write_text("not toml")
    refused(run("verify", file, "--trust", trust), 2)
    trust.unlink()
    refused(run("verify", file, "--trust", trust), 2)
    refused(run("verify", file, "--trust", file.parent / "trust.toml", "--at", "yesterday"), 2)


def test_join_again_keeps_what_was_written_and_makes_what_was_lost(run, tmp_path: Path):
    site = tmp_path / "west"
    (tmp_path / "west").mkdir()
    (site / ".gitignore").write_text("secrets.env\n")
    first = run("join", site, "--site", "west")
    assert first.returncode == 0, first.stderr
    written = (site / "site.toml").read_text().replace('epsilon = "10"', 'epsilon = "1"')
    (site / "site.toml").write_text(written)
    (site / "party.json").unlink()
    again = run("join", site, "--site", "west")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    assert (site / "site.toml").read_text() == written
    assert (site / ".gitignore").read_text() == "secrets.env\n"
    assert (site / "party.json").exists()
    key = (site / "keys" / "site.key").rename(tmp_path / "key")
    refused(run("join", site, "--site", "west"), 2, "the secret key of")
    key.rename(site / "keys" / "site.key")
    (site / "party.json").unlink()
    refused(run("join", site, "--site", "east"), 2, "")
    refused(run("join", site, "--site", "west", "--records", site), 2, "is there already")
    refused(
        run("join", tmp_path / "x", "--site", "x", "--records", site / "site.toml"), 2, "neither a folder"
    )


def test_what_no_admission_could_ever_do_is_refused_before_an_oath(run, example: Path):
    file = example / "study.toml"
    whole = file.read_text()
    for old, new, said in (
        ('training_purpose = "HRESCH"', 'training_purpose = "HRESHC"', "unknown purpose of use: HRESHC"),
        ("classes = []", 'classes = ["HVI"]', "unknown data class: HVI"),
    ):
        assert old in whole
        file.write_text(whole.replace(old, new))
        refused(run("check", example), 2, said)
        refused(run("oath", "--site", "north", example), 2, said)
    file.write_text(whole.replace("members = 420", "members = 1"))
    refused(run("check", example), 2, "plans fewer than the 60")


def test_a_site_that_is_called_otherwise_than_its_key_swears_and_admits_nothing(run, example: Path):
    file = example / "sites" / "north" / "site.toml"
    file.write_text(file.read_text().replace('name = "north"', 'name = "west"'))
    refused(run("oath", "--site", "north", example), 2, "is of west, not of north", "correct its name")
    refused(run("patient", "receipt", file.parent, "--patient", 1, "-o", example / "r"), 2, "the key in")


def test_a_withdrawal_is_recorded_whatever_becomes_of_the_consents_and_never_without_its_receipt(
    run, sworn: Path
):
    north, now = sworn / "sites" / "north", int(time.time())
    with SiteStore.open(north / "state.sqlite") as store:
        first, second = sorted(store.cohort("study").members)[:2]
    taken = sworn / "taken.json"
    taken.write_text("x")
    refused(run("patient", "withdraw", north, "--patient", first, "-o", taken), 2, "is there already")
    with SiteStore.open(north / "state.sqlite") as store:
        assert store.withdrawn(first, now) is None
    (north / "consents.ndjson").write_text("rubbish")
    ran = run("patient", "withdraw", north, "--patient", second, "-o", sworn / "receipt.json")
    assert ran.returncode == 0, ran.stderr
    with SiteStore.open(north / "state.sqlite") as store:
        assert store.withdrawn(second, now) is not None
    refused(
        run("patient", "proof", north, "--patient", first, "--study", "nosuch", "-o", sworn / "p"),
        2,
        "one of: study",
    )
