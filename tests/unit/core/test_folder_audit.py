"""The file of an audit without a study: read only as it was written, about one model, by tests known here."""

import pytest

from oathbound.core.canonical import canonical
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.folder_audit import BEGINNING, MOST_PATIENTS, FolderAudit, read_folder_audit

AUC = {
    "kind": "auc",
    "score": "loss",
    "estimate": "0.5",
    "standard_error": "0.01",
    "members": 1000,
    "held_out": 500,
}
DIFFERENCE = {
    "kind": "auc-difference",
    "score": "probe",
    "member_auc": "0.5",
    "member_error": "0.01",
    "held_out_auc": "0.5",
    "held_out_error": "0.01",
    "members": 100,
    "member_others": 400,
    "held_out": 100,
    "held_out_others": 400,
}


def finding(test, /, *measures, **changes):
    outcome = (
        {"kind": "measured", "measures": list(measures), "tokens": 8}
        if measures
        else {"kind": "did-not-run", "reason": "no power"}
    )
    return {
        "test": test,
        "version": CATALOGUE[test].version,
        "site": "here",
        "model": "sha256:" + "a" * 64,
        "seed": "sha256:" + "0" * 64,
        "threat": {"sees": "s", "knows": "k"},
        "outcome": outcome,
    } | changes


def audit(*findings):
    return {
        "format": "oathbound/findings/v1",
        "attempt": 1,
        "plan": {"alpha": "0.05", "minimum_patients": 20},
        "findings": list(findings),
    }


def read(plain):
    return read_folder_audit(canonical(plain) + b"\n", what="findings.json")


WHOLE = audit(
    finding("membership", AUC), finding("embedding-probe", DIFFERENCE), finding("trajectory-recall")
)


def test_an_audit_is_read_as_it_was_written():
    written = FolderAudit.parse(WHOLE, what="f").written()
    assert written.startswith(BEGINNING)
    assert read_folder_audit(written, what="f").written() == written
    assert read(WHOLE).plain() == WHOLE


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"0.5"', b'"0.50"', 1),  # the same number, and another digest of the file
        lambda data: data.replace(b":", b": ", 1),
    ],
)
def test_another_form_of_the_same_audit_is_refused(change):
    with pytest.raises(NotAuthentic):
        read_folder_audit(change(canonical(WHOLE) + b"\n"), what="f")


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        (
            [finding("membership"), finding("trajectory-recall", model="sha256:" + "b" * 64)],
            "several models, or of several sites",
        ),
        (
            [finding("membership"), finding("trajectory-recall", site="there")],
            "several models, or of several",
        ),
        ([finding("membership"), finding("membership", AUC)], "two findings of one test"),
        ([finding("membership", version=99)], "version 99 of the test membership, which is not known"),
        ([finding("membership", test="divination")], "the test divination, which is not known"),
    ],
)
def test_findings_that_no_one_audit_makes_are_refused(findings, said):
    with pytest.raises(WrongInput, match=said):
        read(audit(*findings))


@pytest.mark.parametrize(
    ("test", "measure", "count"),
    [
        ("membership", AUC, "members"),
        ("membership", AUC, "held_out"),
        ("embedding-probe", DIFFERENCE, "member_others"),
        ("embedding-probe", DIFFERENCE, "held_out_others"),
    ],
)
def test_a_count_that_would_keep_the_reader_computing_is_refused_whichever_it_is(test, measure, count):
    read(audit(finding(test, measure | {count: MOST_PATIENTS})))
    with pytest.raises(WrongInput, match="more patients than there are"):
        read(audit(finding(test, measure | {count: MOST_PATIENTS + 5})))
