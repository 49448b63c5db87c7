"""The worked examples of the pages in spec/ are what the code makes."""

import json
import re
from pathlib import Path

import pytest

from oathbound.core.canonical import canonical
from oathbound.evidence import b64, merkle
from oathbound.evidence.bundle import pack, unpack
from oathbound.evidence.envelope import Statement, identity, sign
from oathbound.evidence.keys import Secret
from oathbound.evidence.note import cosign, sign_checkpoint
from oathbound.evidence.trust import Trust

SPEC = Path(__file__).resolve().parents[3] / "spec"


def examples(page):
    return re.findall(
        r"^```\n(.*?)^```$", (SPEC / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def secret():
    return Secret.parse(examples("keys.md")[0], what="the example")


@pytest.fixture(scope="module")
def witness():
    seed = b64.encode(bytes(range(32, 64)))
    return Secret(format="oathbound/secret/v1", name="hospital-b", seed=seed)


def test_keys(secret):
    file, public, fingerprint = examples("keys.md")
    assert canonical(secret.plain()) + b"\n" == file.encode()
    shown = json.loads(public)
    party = secret.party().plain()
    assert shown.keys() == party.keys()
    assert all(party[key].startswith(value.rstrip("…")) for key, value in shown.items())
    assert fingerprint.strip() == secret.party().fingerprint


def test_statement(secret):
    payload, envelope, name = (text.strip() for text in examples("statement.md"))
    statement = Statement.parse(payload, what="the example")
    assert canonical(statement.plain()).decode() == payload
    assert identity(statement) == name
    shown, made = json.loads(envelope), json.loads(sign(statement, secret))
    assert made["payload"].startswith(shown["payload"].rstrip("…"))
    assert made["signatures"][0] == shown["signatures"][0]
    assert made["signatures"][1]["keyid"] == shown["signatures"][1]["keyid"]


def test_log(secret, witness):
    shown = examples("log.md")[0].splitlines()
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in (b"a", b"b", b"c")])
    note = cosign(sign_checkpoint(shown[0], 3, root, secret), witness, 1_790_000_000).decode().splitlines()
    for expected, line in zip(shown, note, strict=True):
        assert line.startswith(expected[:-1]) if expected.endswith("…") else line == expected


def test_bundle():
    rows = examples("bundle.md")[0].splitlines()
    data = bytes.fromhex("".join(row.partition("  ")[2] for row in rows))
    assert data == pack({"a.json": b"{}"})
    assert unpack(data) == {"a.json": b"{}"}


def test_trust(tmp_path, secret, witness):
    path = tmp_path / "trust.toml"
    path.write_text(examples("trust.md")[0], encoding="utf-8")
    assert len(Trust.load(path).admit([secret.party(), witness.party()])) == 2
