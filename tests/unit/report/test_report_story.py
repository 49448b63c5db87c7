"""What the page tells whoever reads it from the top: grounds, budget, rounds, what was not tried."""

from dataclasses import replace
from decimal import Decimal

import pytest

from oathbound.core.canonical import digest
from oathbound.core.claims import Verdict
from oathbound.evidence.verify import verify
from oathbound.report.attacks import grounds
from oathbound.report.page import render
from oathbound.testing.consortium import NOW, Consortium


def test_each_gate_has_one_ground_in_words_that_can_be_repeated(passed):
    membership, rate, disclosure = grounds(passed)
    assert membership.said.replace("\N{NO-BREAK SPACE}", " ") == (
        "Shown one patient whose records trained the model and one whose records did not, the attack tells "
        "which is which 48.3 to 51.7 % of the time. The gate is 55 %; guessing gives 50 %."
    )
    assert "recognises 0.6 to 2.0" in rate.said
    assert "a sensitive code \N{MINUS SIGN}0.6 to 0.9 percentage points more often" in disclosure.said
    assert {ground.word for ground in (membership, rate, disclosure)} == {"within the gate"}


def test_the_ground_of_a_refusal_is_its_worst_claim(refused):
    first, *_ = grounds(refused)
    worst = max(
        (c for c in refused.judgement.claims if (c.metric, c.state) == ("auc", Verdict.FAIL)),
        key=lambda claim: claim.lower,
    )
    assert first.state == "fail"
    assert first.source == f"membership, AUC of {worst.score}, {worst.site}"
    assert f"{worst.lower * 100:.1f} to {worst.upper * 100:.1f}" in first.said


def test_what_was_not_measured_is_the_ground_before_what_was(undecided):
    wide, rate, disclosure = grounds(undecided)
    assert wide.source.endswith("all sites")
    assert wide.note
    assert rate.said == "Not measured at river."
    assert disclosure.said == "Not measured at river, south."
    assert not rate.plot
    assert {ground.state for ground in (wide, rate, disclosure)} == {"inconclusive"}


def test_a_metric_that_this_program_does_not_know_is_shown_as_a_number(passed):
    gate = passed.policy.gates[0].model_copy(update={"test": "shadow", "metric": "advantage"})
    claim = replace(passed.judgement.claims[0], test="shadow", metric="advantage")
    unknown = replace(
        passed,
        policy=passed.policy.model_copy(update={"gates": (gate,)}),
        judgement=replace(passed.judgement, claims=(claim,)),
    )
    (ground,) = grounds(unknown)
    assert ground.question == "What does the test shadow find?"
    assert ground.said == "0.483 to 0.517, for a gate of 0.55."


def test_the_budget_is_a_bar_with_its_words(passed, text_of):
    html = render(passed, bundle_digest=digest(b"bundle"))
    spent, allowed = passed.epsilon, passed.policy.budget.epsilon
    assert f"<title>{spent.normalize():f} spent of 3 allowed</title>" in html
    share = (100 * spent / allowed).quantize(Decimal("0.01"))
    assert f'<rect class="spent" width="{share}%"' in html
    assert f"ε = {spent.normalize():f} spent of 3 allowed, at δ = 10" in text_of(passed)


def test_rounds_tell_who_was_left_and_when_consents_were_last_read(passed, text_of):
    text = text_of(passed)
    section = text[text.index("Who was still in") : text.index("What was not run")]
    assert "Training took 2 rounds. Before each, every site read its consents again" in section
    assert "north 2,400 2,400 2,360 13 Nov 2025, 10:33 UTC" in section
    assert "2,395" not in section  # of a round that took no step
    assert "2,350 members, 1,195 held out; read 13 Nov 2025, 18:53 UTC" in section
    assert "stays in the model, within the budget above." in section
    assert "consents were read anew before each, last at 13 Nov 2025, 10:33 UTC" in text


def test_one_round_and_no_second_reading_for_the_audit_are_said_as_they_are(undecided, text_of):
    training = (undecided.training[0],)
    text = text_of(replace(undecided, training=training, audits=()))
    assert "last at 13 Nov 2025, 05:00 UTC" in text  # rounds 2 and 3 then took no step
    section = text[text.index("Who was still in") : text.index("What was not run")]
    assert "Training took 1 round. Before it, every site" in section
    assert "Before the audit" not in section
    assert "the cohort as admitted" in section
    assert "budget" not in section


def test_what_could_not_be_used_is_told_of_the_sites_that_had_any(passed, text_of):
    first, *others = passed.admissions
    none = {"unreadable_consents": 0, "rows_of_nobody": 0, "absent_numbers": 0}
    clean = tuple(each.model_copy(update=none) for each in others)
    few = first.model_copy(update={"rows_of_nobody": None})
    text = text_of(replace(passed, admissions=(few, *clean)))
    section = text[text.index("What could not be used") : text.index("Who was still in")]
    assert section.endswith("north rows without a patient: fewer than 10 values that are no number: 40 ")
    assert "What could not be used" not in text_of(
        replace(passed, admissions=(first.model_copy(update=none), *clean))
    )


def test_a_test_that_nobody_asked_for_is_among_what_was_not_run(make, build, text_of):
    found = [each for each in build["harmless"]() if each.finding.test == "membership"]
    text = text_of(make(found, changes=build["heart"]))
    section = text[text.index("What was not run") : text.index("What this proves")]
    assert (
        "sensitive-disclosure all of it not planned, or not possible with this model: it would tell: "
        "Does the model give away sensitive facts of the patients it was trained on? every site" in section
    )


def test_a_classifier_is_described(make, build, text_of):
    found = [each for each in build["harmless"]() if each.finding.test == "membership"]
    text = text_of(make(found, changes=build["heart"]))
    assert "logistic-regression: predicts num of at least 1, from 2 numbers and 1 code " in text
    assert "Counted as missing chol: 0 " in text
    assert "none named: their disclosure was not measured" in text


@pytest.mark.parametrize(
    ("most", "said"),
    [(8, "by at most 8 recordings of a patient"), (1, "by at most 1 recording of a patient")],
)
def test_a_model_of_scans_is_described(most, said, make, build, text_of):
    found = [each for each in build["harmless"]() if each.finding.test == "membership"]
    classes = ["nodule//benign", "nodule//indeterminate", "nodule//malignant"]
    seen = {"shape": [40, 30], "most": most, "centre": "0", "scale": "1", "classes": classes}
    model = {"name": "scan-net", "widths": [4], "seed": 1}
    changes = build["heart"] | {"features": None, "recordings": seen, "model": model}
    text = text_of(make(found, changes=changes))
    told = "scan-net: tells nodule//benign, nodule//indeterminate and nodule//malignant apart, "
    assert f"{told}{said}, each of 40 \N{MULTIPLICATION SIGN} 30 values" in text


@pytest.mark.parametrize("part", ["Before you rely on this", "What was promised"])
def test_code_from_outside_is_named_before_the_details_and_in_the_promise(part, make, build, text_of):
    text = text_of(make(changes={"extensions": [build["extension"]]}))
    assert "hospital-audits 2.1" in text[text.index(part) :]
    assert "the code of hospital-audits 2.1 sha256:" in text


def test_conditions_of_use_are_among_the_promises(make, build, text_of):
    consent = build["policy"]["consent"] | {"meets": ["DUO:0000021"]}
    assert "the parties promise to meet DUO:0000021" in text_of(make(changes={"consent": consent}))
    assert "Conditions of use" not in text_of(make())


def test_a_patient_learns_how_to_check_their_own_place(passed, text_of):
    assert "A patient of one of the sites can check their own place" in text_of(passed)


def test_fifty_sites_with_the_longest_names_are_all_on_the_page(make, build, text_of):
    names = [f"{'hospital-' * 6}{number:09}" for number in range(50)]
    assert {len(name) for name in names} == {63}
    found = [
        build["finding"](name, test, build["did_not_run"]("the machine lost power"))
        for name in names
        for test in ("membership", "sensitive-disclosure")
    ]
    sites = [{"name": name, "fingerprint": digest(name.encode())} for name in names]
    text = text_of(make(found, changes={"sites": sites, "min_sites": 26}))
    assert all(f"{name} 5,850 2,400 1,200 400 " in text for name in names)


def test_a_bundle_that_was_verified_is_told(text_of):
    consortium = Consortium.finished()
    text = text_of(verify(consortium.bundle(), consortium.trust(), at=NOW + 1000))
    assert "Training took 2 rounds." in text
    assert "500 members, 215 held out; read" in text
    assert "each of 2 sites" in text
