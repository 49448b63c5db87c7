from hashlib import sha256

import pytest

from oathbound.core.canonical import canonical
from oathbound.core.errors import NotAuthentic
from oathbound.evidence import contents
from oathbound.evidence.contents import BundledLog, Contents

LEAF = sha256(b"leaf").hexdigest()
FILES = {
    "policy.json": b"policy",
    "parties/north.json": b"keys",
    f"leaves/{LEAF}.json": b"leaf",
    "logs/north/leaves.json": canonical([LEAF]),
    "logs/north/checkpoint-1": b"note",
}


def with_list(names):
    return FILES | {"logs/north/leaves.json": names}


def test_the_files_are_read_and_written():
    read = Contents.of(FILES)
    assert read == Contents(b"policy", {"north": b"keys"}, {"north": BundledLog((b"leaf",), (b"note",))})
    assert read.files() == FILES


def test_nobody_and_nothing_is_refused():
    without_logs = {name: data for name, data in FILES.items() if not name.startswith(("logs", "leaves"))}
    without_parties = {name: data for name, data in FILES.items() if name != "parties/north.json"}
    for wrong in ({}, without_logs, without_parties):
        with pytest.raises(NotAuthentic, match="no parties or no logs"):
            Contents.of(wrong)


@pytest.mark.parametrize("value", [[], 1, None, {}, "x", [1], [[1]], [None, LEAF]])
def test_a_list_of_leaves_that_is_no_list_of_names_is_refused(value):
    with pytest.raises(NotAuthentic, match="empty, too long or no list of names"):
        Contents.of(with_list(canonical(value)))


def test_a_list_of_leaves_is_bounded(monkeypatch):
    monkeypatch.setattr(contents, "MAX_LEAVES", 0)
    with pytest.raises(NotAuthentic, match="too long"):
        Contents.of(FILES)


def test_a_list_of_leaves_has_one_form():
    for data in (b"", b"[", f'[ "{LEAF}"]'.encode()):
        with pytest.raises(NotAuthentic, match="not canonical"):
            Contents.of(with_list(data))


def test_a_leaf_stands_once_and_is_there():
    with pytest.raises(NotAuthentic, match="twice"):
        Contents.of(with_list(canonical([LEAF, LEAF])))
    with pytest.raises(NotAuthentic, match="does not hold"):
        Contents.of(with_list(canonical([LEAF, "0" * 64])))


@pytest.mark.parametrize(
    "more",
    [
        "more.json",
        "policy.json.asc",
        f"leaves/{'0' * 64}.json",
        "logs/north/checkpoint-3",
        "logs/north/checkpoint-01",
        "logs/north/checkpoint-100",
        "logs/north/notes",
        "logs/Nobody/leaves.json",
        "parties/north",
    ],
)
def test_a_file_that_the_logs_do_not_list_is_refused(more):
    with pytest.raises(NotAuthentic, match="not exactly those"):
        Contents.of(FILES | {more: b"leaf"})


def test_a_leaf_lies_under_its_own_digest():
    other = "0" * 64
    wrong = {name.replace(LEAF, other): data for name, data in with_list(canonical([other])).items()}
    with pytest.raises(NotAuthentic, match="not exactly those"):
        Contents.of(wrong)


def test_a_policy_that_is_missing_is_refused():
    with pytest.raises(NotAuthentic, match="not exactly those"):
        Contents.of({name: data for name, data in FILES.items() if name != "policy.json"})
