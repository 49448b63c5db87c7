"""Audits without a study, and the parts that both pages share: ladder, tail, baselines, model cards."""

import re
from decimal import Decimal

import pytest

from oathbound.cli import main
from oathbound.core.canonical import canonical, digest
from oathbound.core.claims import SHIFTED
from oathbound.core.errors import NotAuthentic, WrongInput
from oathbound.core.folder_audit import read_folder_audit
from oathbound.core.gates import error_rate
from oathbound.core.ladder import levels, risk, sentence, unexpressed
from oathbound.core.unjudged import estimates
from oathbound.report.attacks import attacks, audit_attacks, grounds
from oathbound.report.audit_page import render_audit
from oathbound.report.card import CARD, audit_card, escaped, study_card
from oathbound.report.page import render

FILE = digest(b"file")


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command line, and returns its exit code."""

    def ran(arguments):
        monkeypatch.setattr("sys.argv", ["oathbound", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return ended.value.code

    return ran


def attack_of(found, test):
    return next(attack for attack in found if attack.test == test)


def test_the_sentence_of_a_ladder_is_the_one_of_its_published_numbers(alone):
    finding = alone.findings[2]
    measures = [measure for measure in finding.outcome.measures if measure.score.startswith(("n", "a", "c"))]
    climbed = risk(levels(measures, error_rate(Decimal("0.05"), 2)))
    own = sentence(climbed, Decimal(0), unexpressed([measures]))
    ladder = attack_of(audit_attacks(alone), "sensitive-disclosure").ladder
    assert ladder.sentence == own
    assert own in render_audit(alone, file_digest=FILE)
    assert "exceeded 0 from codes-10 " in own
    assert own.endswith("Not asked, for the vocabulary cannot express it: codes-10-values.")
    assert "codes-10-values" not in [row[0] for row in ladder.table.rows]  # no vocabulary can express it
    assert "it is no gate" in ladder.meaning


def test_the_ends_of_a_ladder_grow_and_are_drawn_as_they_are_told(laddered):
    ladder = attack_of(attacks(laddered), "sensitive-disclosure").ladder
    lows = [Decimal(x) for x in re.findall(r'class="step \w+" x="([\d.]+)%"', ladder.figure)]
    assert lows == sorted(lows)
    assert len(lows) == len(ladder.table.rows) == 6
    assert "0.02" in ladder.sentence
    assert "over all sites together" in ladder.meaning
    assert "south from codes-10 " in ladder.alone


def test_where_groups_differ_by_themselves_no_part_of_a_page_accuses(shifted, text_of):
    ladder = attack_of(attacks(shifted), "sensitive-disclosure").ladder
    assert ladder.sentence == f"Undecided at every level: {SHIFTED}."
    assert {row[-1] for row in ladder.table.rows} == {"undecided"}
    assert set(re.findall(r'class="step (\w+)"', ladder.figure)) == {"inconclusive"}
    assert "south" not in ladder.alone
    rows = {row[:2]: row[2:] for row in attack_of(attacks(shifted), "membership").tail.rows}
    assert rows["south", "loss"][0] == SHIFTED
    assert rows["north", "min-k"][0].startswith("at least ")
    assert "the groups differ by themselves" in text_of(shifted)


def test_an_error_that_cannot_be_is_no_baseline(build):
    impossible = build["baseline"]("0.500") | {"standard_error": "0.4"}
    audit = build["audit_of"](("membership", build["measured"](build["auc"]("0.8"), impossible)))
    (attack,) = audit_attacks(audit)
    assert "cannot be, so it counts as undecided" in attack.blind[0]
    assert {row.note for figure in attack.figures for score in figure.scores for row in score.rows} == {
        SHIFTED
    }


def test_who_tries_again_finds_out_as_easily_that_the_groups_differ(build):
    def said(attempt):
        found = build["measured"](build["auc"]("0.8"), build["baseline"]("0.535"))
        (attack,) = audit_attacks(build["audit_of"](("membership", found), attempt=attempt))
        return attack.blind

    assert "differ by themselves" in said(1)[0]
    assert said(5) == said(1)


def test_a_score_that_ranks_members_last_is_said_to_be_turned(build):
    (attack,) = audit_attacks(build["audit_of"](("membership", build["measured"](build["auc"]("0.2")))))
    ((row,),) = ([row for score in figure.scores for row in score.rows] for figure in attack.figures)
    assert (row.word, row.note) == ("below chance", "an attacker turns a score round that ranks members last")


def test_without_a_ladder_there_is_none(passed):
    assert not any(attack.ladder for attack in attacks(passed))


def test_a_later_attempt_without_a_study_has_wider_intervals(build):
    def width(attempt):
        audit = build["audit_of"](("membership", build["measured"](build["auc"]("0.6"))), attempt=attempt)
        (each,) = estimates(audit.findings, 20, error_rate(audit.plan.alpha, audit.attempt))
        return each.upper - each.lower

    assert width(1) < width(2) < width(5)


def test_lower_ends_hold_together_and_upper_ends_alone(build):
    one, two = build["auc"]("0.6"), build["auc"]("0.6", "min-k")
    alone, both = (
        estimates(build["audit_of"](("membership", build["measured"](*each))).findings, 20, 0.0125)
        for each in ((one,), (one, two))
    )
    assert both[0].lower < alone[0].lower
    assert both[0].upper == alone[0].upper


def test_where_the_groups_differ_by_themselves_nothing_is_above_chance(build):
    strong = build["auc"]("0.9")
    for estimate, word in (("0.505", "above chance"), ("0.70", "undecided")):
        audit = build["audit_of"](("membership", build["measured"](strong, build["baseline"](estimate))))
        (score,) = audit_attacks(audit)[0].figures[0].scores
        (row,) = score.rows
        assert row.word == word
        assert (row.note == SHIFTED) is (word == "undecided")


def test_tails_are_told_in_words_and_none_shown_is_not_nobody(laddered, text_of):
    text = text_of(laddered)
    assert "Averages hide patients" in text
    rows = {row[:2]: row[2] for row in attack_of(attacks(laddered), "membership").tail.rows}
    assert rows["north", "min-k"].startswith("at least ")
    assert rows["south", "loss"] == "none shown"
    assert "“None shown” does not mean nobody" in text


def test_an_excess_shows_both_means_and_its_interval(laddered):
    rows = attack_of(attacks(laddered), "sensitive-disclosure").facts.rows
    (row,) = [row for row in rows if row[:2] == ("north", "excess of codes-10")]
    assert row[2:4] == ("mean 0.056, of 900", "mean 0.030, of 900")
    assert re.search(r"difference 0\.026, .*; interval 0\.\d+ to 0\.\d+$", row[4])


def test_a_measure_without_a_gate_has_an_interval_too(laddered):
    (figure,) = attack_of(attacks(laddered), "trajectory-recall").figures
    assert figure.gate is None
    assert all(re.fullmatch(r"\S+ to \S+", row.interval) for row in figure.scores[0].rows)


def test_the_page_without_a_study_says_first_that_there_is_no_verdict(alone):
    html = render_audit(alone, file_digest=FILE)
    assert html == render_audit(alone, file_digest=FILE)
    assert html.index("No verdict") < html.index("At a glance")
    assert "Nobody signed this." in html
    assert "The model knows few of these events." in html
    assert "within the gate" not in html
    assert "the file has no finding of it; it would tell: Does the model go on" in html
    assert not re.search(r"<script|href=|src=|url\(|https?:", html)
    assert html.count("<section") == html.count("</section>")


@pytest.mark.parametrize("case", ["passed", "refused", "undecided", "laddered"])
def test_a_card_says_nothing_that_the_page_does_not(case, request):
    verified = request.getfixturevalue(case)
    card, page = (make(verified, bundle_digest=FILE) for make in (study_card, render))
    assert card == study_card(verified, bundle_digest=FILE)
    assert card.startswith(CARD)
    for number in re.findall(r"sha256:[0-9a-f]{64}|\d+\.\d{3}", card):
        assert number.removeprefix("sha256:") in page
    for ground in grounds(verified):
        assert ground.interval in card
    assert_tables_are_whole(card)


def test_a_card_without_a_study_says_that_there_is_no_verdict(alone):
    card, page = (make(alone, file_digest=FILE) for make in (audit_card, render_audit))
    assert "**No verdict.**" in card
    assert "Nobody signed this." in card
    for number in re.findall(r"sha256:[0-9a-f]{64}|\d+\.\d{3}", card):
        assert number.removeprefix("sha256:") in page
    assert_tables_are_whole(card)


def assert_tables_are_whole(card):
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line.startswith("|")]
    assert widths
    for block in card.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_what_others_wrote_stays_text_in_a_card(build):
    hostile = "| <img src=x> [a](https://x.example) `b` $$c$$ **d** www.x.example"
    card = audit_card(build["audit_of"](("membership", build["did_not_run"](hostile))), file_digest=FILE)
    assert escaped(hostile) in card
    assert hostile not in card
    assert not re.search(r"(?<!\\)<img|(?<!\\)`b|https:|www\.x", card)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"attempt":1}\n', b'{"attempt":1e400}'])
def test_what_are_no_findings_is_refused(data):
    with pytest.raises((NotAuthentic, WrongInput)):
        read_folder_audit(data, what="findings.json")


def test_findings_are_read_only_in_the_form_that_they_are_written_in(alone):
    assert read_folder_audit(alone.written(), what="f") == alone
    for other in (alone.written() + b"\n", alone.written()[:-1], alone.written().replace(b":", b": ", 1)):
        with pytest.raises(NotAuthentic):
            read_folder_audit(other, what="f")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attempt": 0}, "attempt"),
        ({"findings": []}, "findings"),
        ({"version": 99}, "not known here"),
        ({"model": digest(b"another")}, "several models"),
        ({"twice": True}, "two findings"),
        ({"members": 10**10}, "more patients than there are"),
    ],
)
def test_findings_that_contradict_themselves_are_refused(alone, change, said):
    plain = alone.plain()
    first, second, *_ = plain["findings"]
    if change.pop("twice", False):
        plain["findings"].append(first)
    if "members" in change:
        second["outcome"]["measures"][0]["members"] = change.pop("members")
    first.update({key: change.pop(key) for key in ("version", "model") if key in change})
    with pytest.raises(WrongInput, match=said):
        read_folder_audit(canonical(plain | change) + b"\n", what="f")


def test_the_verb_knows_findings_by_their_first_bytes(alone, tmp_path, capsys, run):
    file, page, readme = tmp_path / "findings.json", tmp_path / "page.html", tmp_path / "README.md"
    file.write_bytes(alone.written())
    assert run(["report", str(file), "-o", str(page)]) == 0
    assert page.read_text() == render_audit(alone, file_digest=digest(alone.written()))
    assert run(["report", str(file), "-o", str(page)]) == 0  # over its own page
    capsys.readouterr()
    assert run(["report", str(file), "--as", "model-card"]) == 0
    assert capsys.readouterr().out == audit_card(alone, file_digest=digest(alone.written()))
    readme.write_text("# Somebody's model\n")
    for wrong in (
        [str(file)],
        [str(file), "-o", str(page), "--trust", str(file)],
        [str(file), "--as", "model-card", "-o", str(readme)],
        [str(tmp_path / "absent"), "-o", str(page)],
    ):
        assert run(["report", *wrong]) == 2
    assert readme.read_text() == "# Somebody's model\n"


def test_a_bundle_still_needs_trust(tmp_path, run):
    (tmp_path / "a.oath").write_bytes(b"PK\x03\x04")
    assert run(["report", str(tmp_path / "a.oath"), "-o", str(tmp_path / "a.html")]) == 2
