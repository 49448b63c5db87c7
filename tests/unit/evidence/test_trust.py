import pytest

from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.evidence.trust import Trust

HEADER = 'format = "oathbound/trust/v1"\n'


def entry(name, fingerprint):
    return f'[[party]]\nname = "{name}"\nfingerprint = "{fingerprint}"\n'


def load(tmp_path, text):
    path = tmp_path / "trust.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Trust.load(path)


def test_named_parties_are_admitted_by_fingerprint(tmp_path, hospital, other):
    ours, theirs = hospital.party(), other.party()
    trust = load(
        tmp_path, HEADER + entry(ours.name, ours.fingerprint) + entry(theirs.name, theirs.fingerprint)
    )
    assert trust.admit([ours]) == {ours.fingerprint: ours}
    assert trust.admit(iter([theirs, ours])) == {ours.fingerprint: ours, theirs.fingerprint: theirs}


def test_others_and_nobody_are_not_admitted(tmp_path, hospital, other):
    ours, theirs = hospital.party(), other.party()
    trust = load(tmp_path, HEADER + entry(ours.name, ours.fingerprint))
    for parties in ([theirs], [ours, theirs], []):
        with pytest.raises(NotAuthentic):
            trust.admit(parties)
    with pytest.raises(NotAuthentic, match="not in the trust file"):
        load(tmp_path, HEADER + entry("alias", ours.fingerprint)).admit([ours])
    with pytest.raises(NotAuthentic, match="not in the trust file"):
        load(tmp_path, HEADER + entry(ours.name, theirs.fingerprint)).admit([ours])


A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        HEADER + "party = []\n",
        entry("a", A),
        HEADER.replace("v1", "v2") + entry("a", A),
        HEADER + "more = 1\n" + entry("a", A),
        HEADER + entry("a", A) + "more = 1\n",
        HEADER + entry("A", A),
        HEADER + entry("a", A.upper()),
        HEADER + entry("a", A[:-1]),
        HEADER + entry("a", A) + entry("a", B),
        HEADER + entry("a", A) + entry("b", A),
        HEADER + entry("a", A) * 2,
        HEADER + entry("a", A) + "since = 2026-01-01\n",
        HEADER + "party = " + "[" * 5000,
        HEADER + "party = nan",
        b"\xff\xfe",
        b"\0",
        HEADER + entry("a", A) + "#" * (1024 * 1024),
    ],
)
def test_a_wrong_trust_file_is_refused(tmp_path, text):
    with pytest.raises(WrongInput):
        load(tmp_path, text)


def test_a_missing_trust_file_is_refused_with_a_hint(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(WrongInput, match="cannot be read") as refusal:
            Trust.load(path)
        assert "fingerprint" in refusal.value.hint
