"""A difference of two AUCs in words: both AUCs, all four counts, and no more digits than were published."""

from decimal import Decimal

from oathbound.cli.words import finding_lines
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.finding import AucDifference, Finding, Measured
from oathbound.report.tables import facts

MEASURE = AucDifference(
    kind="auc-difference",
    score="probe",
    member_auc=Decimal("0.912"),
    member_error=Decimal("0.011"),
    held_out_auc=Decimal("0.701"),
    held_out_error=Decimal("0.022"),
    members=120,
    member_others=1850,
    held_out=45,
    held_out_others=430,
)
FINDING = Finding(
    test="embedding-probe",
    version=1,
    site="north",
    model="sha256:" + "a" * 64,
    seed="sha256:" + "0" * 64,
    threat=CATALOGUE["embedding-probe"].threat,
    outcome=Measured(kind="measured", measures=(MEASURE,), tokens=1),
)


def test_a_line_says_both_aucs_with_their_errors():
    (line,) = finding_lines(FINDING)
    for said in ("0.912 (standard error 0.011) among members", "0.701 (0.022) among held out"):
        assert said in line
    assert line.endswith("of carriers; 120 members, 45 held out")


def test_a_row_of_the_report_says_the_difference_and_all_four_counts():
    ((_, name, members, held_out, result),) = facts([FINDING], {}).rows
    assert name == "secret read by probe"
    assert result.startswith("difference 0.211")
    for said, where in (("120", members), ("0.912", members), ("45", held_out), ("430", held_out)):
        assert said in where
    assert "850" in members
