import re
import time
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from oathbound.core.bands import coefficients
from oathbound.core.canonical import digest
from oathbound.core.claims import Verdict
from oathbound.core.event import BandedToeplitz
from oathbound.core.local_training import LocalTraining
from oathbound.evidence.verify import STEPS
from oathbound.report.card import study_card
from oathbound.report.figures import interval_text
from oathbound.report.page import render
from oathbound.report.words import VERDICTS

BUNDLE = digest(b"bundle")
CASES = ("passed", "refused", "undecided")
VOID = {"meta", "br", "circle", "path", "line", "rect"}


class Page(HTMLParser):
    """A page as its text, its elements and its attributes; every element must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.elements, self.attributes, self._open = "", [], [], []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in {"td", "th"}:
            self.text += " "

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    def words(self) -> str:
        return " ".join(self.text.split())


def words(verified) -> str:
    return Page(render(verified, bundle_digest=BUNDLE)).words()


@pytest.fixture(params=CASES)
def verified(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("case", "verdict", "exit_code"),
    [("passed", Verdict.PASS, 0), ("refused", Verdict.FAIL, 12), ("undecided", Verdict.INCONCLUSIVE, 13)],
)
def test_the_verdict_comes_first_in_words(case, verdict, exit_code, request):
    verified = request.getfixturevalue(case)
    text = words(verified)
    assert verified.judgement.verdict is verdict
    others = [said.headline for state, said in VERDICTS.items() if state is not verdict]
    assert text.index(VERDICTS[verdict].headline) < text.index("Before you rely on this")
    assert not any(headline in text for headline in others)
    assert verified.judgement.sentence[1:] in text
    assert f"must end with exit code {exit_code}:" in text


def test_every_claim_shows_its_interval_and_its_state(verified):
    html = render(verified, bundle_digest=BUNDLE)
    rows = re.findall(
        r'<tr role="row"(?: class="pooled")?>(?:(?!</tr>).)*class="ends".*?</tr>', html, re.DOTALL
    )
    shown = [Page(row).words() for row in rows]
    for claim in verified.judgement.claims:  # what nobody measured is one line, with its sites
        assert any(claim.site in row and interval_text(claim) in row for row in shown)
    told = [claim for claim in verified.judgement.claims if claim.estimate is not None]
    assert sum("not measured" not in row for row in shown) == len(told)
    figures = html[html.index('id="attacked"') :]
    measured = sum(claim.estimate is not None for claim in verified.judgement.claims)
    assert figures.count('<svg class="interval"') == figures.count("<desc>") == measured


def test_the_page_loads_and_runs_nothing(verified):
    html = render(verified, bundle_digest=BUNDLE)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a"} & set(
        page.elements
    )
    names = {name for name, _ in page.attributes}
    assert not {"src", "href", "srcset", "xlink:href", "style"} & names
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html


def test_identifiers_and_labels_agree(verified):
    attributes = Page(render(verified, bundle_digest=BUNDLE)).attributes
    identifiers = [value for name, value in attributes if name == "id"]
    assert len(set(identifiers)) == len(identifiers)
    assert {value for name, value in attributes if name == "aria-labelledby"} <= set(identifiers)


def test_what_is_never_claimed_is_not_said(verified):
    text = words(verified).lower()
    for claim in ("compliant", "no memorisation", "anonymous", "100 %", "guarantee", "gdpr ready"):
        assert claim not in text


def test_hostile_texts_stay_texts(make, build):
    hostile = "</style><script>alert(1)</script><img src=x onerror=y>{{ 7 * 7 }}"
    verified = make(
        [
            *build["harmless"](),
            build["finding"]("north", "other-test", build["did_not_run"](hostile)),
        ],
        changes={"purpose": hostile},
        simulated=hostile,
    )
    html = render(verified, bundle_digest=BUNDLE)
    page = Page(html)
    assert "script" not in page.elements
    assert "img" not in page.elements
    assert page.elements.count("style") == 1
    assert page.text.count(hostile) == 3 + 1  # purpose, simulation, and the reason: in the facts and below


def test_hostile_codes_reasons_and_versions_stay_texts(make, build):
    hostile = '</style><script>alert(1)</script>"><b onclick=x>'
    features = build["heart"]["features"]
    label = features["label"] | {"code": hostile}
    number = features["numbers"][0] | {"code": f"{hostile}2"}
    verified = make(
        build["harmless"]()[:3],
        changes=build["heart"]
        | {
            "features": features | {"label": label, "numbers": [number]},
            "extensions": [build["extension"] | {"version": hostile}],
        },
    )
    first, *others = verified.admissions
    reasons = (first.excluded[0].model_copy(update={"reason": hostile}),)
    verified = replace(verified, admissions=(first.model_copy(update={"excluded": reasons}), *others))
    page = Page(render(verified, bundle_digest=BUNDLE))
    assert not {"script", "b"} & set(page.elements)
    assert "onclick" not in {name for name, _ in page.attributes}
    assert (
        page.text.count(hostile) == 6
    )  # label, number, reason; the version before, in and after the promise


def test_the_same_bundle_gives_the_same_bytes(verified):
    assert render(verified, bundle_digest=BUNDLE) == render(verified, bundle_digest=BUNDLE)


def test_the_time_zone_changes_no_byte(verified, monkeypatch):
    here = render(verified, bundle_digest=BUNDLE)
    try:
        monkeypatch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        assert render(verified, bundle_digest=BUNDLE) == here
    finally:
        monkeypatch.undo()
        time.tzset()


def test_epsilon_is_never_naked(passed):
    text = words(passed)
    delta = "δ = 10\N{MINUS SIGN}6"
    for found in re.finditer(r"ε = [0-9.]+", text):
        assert delta in text[found.end() : found.end() + 40] or text[: found.start()].endswith(
            "policy allows "
        )
    assert f"ε = {passed.epsilon.normalize():f} of 3 allowed, at {delta}, per patient" in text
    assert "per patient, add or remove one" in text
    assert "nobody is a patient of two sites" in text


@pytest.mark.parametrize(
    ("sites", "said"), [(2, "nobody is a member at more than 2 sites"), (3, "all 3 sites")]
)
def test_the_page_says_at_how_many_sites_one_person_may_be(passed, sites, said):
    budget = passed.policy.budget.model_copy(update={"sites_per_patient": sites})
    text = words(replace(passed, policy=passed.policy.model_copy(update={"budget": budget})))
    assert said in text
    assert f"per patient of up to {sites} sites, add or remove one" in text
    assert f"with everything that up to {sites} sites hold of them" in text
    assert "nobody is a patient of two sites" not in text


def test_the_page_says_what_local_steps_tell(passed):
    local = LocalTraining(algorithm="fedavg", steps=5, learning_rate=Decimal("0.1"))
    told = "the mean loss, how many members took part, exactly"
    training = passed.policy.training.model_copy(update={"local": local})
    text = words(replace(passed, policy=passed.policy.model_copy(update={"training": training})))
    assert "Sites took 5 steps of their own between two sums (fedavg)" in text
    assert told in text
    assert told not in words(passed)


def test_with_bands_the_page_says_that_who_withdrew_is_added_again(passed):
    training = passed.policy.training.model_copy(update={"bands": 5})
    text = words(replace(passed, policy=passed.policy.model_copy(update={"training": training})))
    assert "was added again to what the next 4 steps opened" in text
    assert "if sites kept their groups and drew noise" in text
    assert "sampling" not in text.partition("How the budget was spent")[2][:400]
    assert "added again" not in words(passed)


def test_the_page_says_that_patients_took_turns(passed):
    event = passed.charges[0].event
    turns = BandedToeplitz(
        mechanism="banded-toeplitz",
        coefficients=coefficients(20),
        **event.model_dump(exclude={"mechanism", "sampling_rate"}),
    )
    charges = tuple(each.model_copy(update={"event": turns}) for each in passed.charges)
    text = words(replace(passed, charges=charges))
    assert "each patient in one of 20 fixed groups, and in 20 sums for each turn, times 8, 4, 3, " in text
    assert "drawn with probability" not in text
    assert "drawn with probability" in words(passed)


def test_the_factor_is_an_upper_bound_and_is_withheld_when_it_says_nothing(passed):
    assert "at most 8.0 times less" in words(replace(passed, epsilon=Decimal("2.0794")))
    assert "at most 8.1 times less" in words(replace(passed, epsilon=Decimal("2.08")))
    weak = words(replace(passed, epsilon=Decimal(900)))
    assert "more than a thousandfold" in weak
    assert "times less" not in weak


def test_without_privacy_the_page_says_unbounded_and_no_epsilon(undecided):
    text = words(undecided)
    assert "Privacy is unbounded." in text
    assert "none: no noise, no bound" in text
    assert "ε =" not in text
    assert "patient of two sites" not in text
    assert "(ε, δ) per patient holds" not in text


def test_what_did_not_run_is_listed_with_its_reason(undecided):
    text = words(undecided)
    section = text[text.index("What was not run, and why") : text.index("What was verified")]
    assert "sensitive-disclosure excess did not run: too few carriers of a sensitive code river" in section
    assert "sensitive-disclosure excess there is no finding south" in section
    assert "tpr-at-1-percent of loss not measurable: fewer than 437 held-out patients river" in section


def test_a_test_that_no_site_ran_is_named(make, build):
    text = words(make(build["harmless"]()[:3]))
    assert "No site reported a finding of this test." in text
    assert "sensitive-disclosure excess there is no finding north, river, south" in text
    assert "Not measured at any site." in text


def test_a_study_of_which_nothing_was_measured_does_not_say_that_no_attack_broke_a_limit(make, build):
    none = build["did_not_run"]("too few patients")
    silent = make([build["finding"](site, "membership", none) for site in ("north", "river", "south")])
    told = (words(silent), study_card(silent, bundle_digest=BUNDLE))
    assert all("Nothing was measured: no limit is shown to hold." in text for text in told)
    assert not any("No attack broke a limit" in text for text in told)
    assert "under 3 gates; nothing was measured" in told[0]


def test_a_measure_without_a_gate_that_gave_nothing_is_listed_too(make, build):
    silent = {"kind": "not-measurable", "metric": "auc", "score": "probe", "reason": "too few patients"}
    found = [
        *build["harmless"](),
        build["finding"]("north", "embedding-probe", build["did_not_run"]("the model has no embeddings")),
        build["finding"]("south", "embedding-probe", build["measured"](silent)),
    ]
    text = words(make(found))
    section = text[text.index("What was not run, and why") : text.index("What was verified")]
    assert "embedding-probe all of it the model has no embeddings north" in section
    assert "embedding-probe auc of probe too few patients south" in section


def test_every_attempt_is_shown(make, build):
    again = build["finding"]("north", "membership", build["did_not_run"]("the machine lost power"))
    text = words(make([*build["harmless"](), again]))
    assert "north, attempt 2" in text
    assert "did not run: the machine lost power" in text


def test_limits_are_said_before_the_details(passed):
    text = words(passed)
    limits = text[text.index("Before you rely on this") : text.index("What was promised")]
    assert "every witness is a party to the study" in limits
    assert "registry saw sums over at least 3 sites, and no site\u2019s update alone, also if" in limits
    assert "The hospitals are simulated. Every site:" in limits


def test_without_collusion_the_sums_are_safe_only_as_long_as_nobody_colludes(passed):
    alone = replace(passed, policy=passed.policy.model_copy(update={"colluding": 0}))
    assert "no site\u2019s update alone, as long as none of them colludes with it." in words(alone)
    assert "no site\u2019s update alone, also if it puts together what it knows with up to 1 of" in words(
        passed
    )


def test_some_simulated_is_not_all(passed):
    first, *others = passed.admissions
    mixed = replace(passed, admissions=(first, *(a.model_copy(update={"simulated": None}) for a in others)))
    assert "Some of the hospitals are simulated. north:" in words(mixed)
    real = replace(
        passed, admissions=tuple(a.model_copy(update={"simulated": None}) for a in passed.admissions)
    )
    assert "simulated" not in words(real)


def test_a_suppressed_count_is_not_a_number(passed):
    text = words(passed)
    assert "no consent to training: 1,240" in text
    assert "consent had ended: fewer than 10" in text


def test_every_step_and_digest_is_listed(verified):
    text = words(verified).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for step in STEPS.values():
        assert step[1:] in text
    for value in (BUNDLE, verified.policy_digest, verified.model.model, verified.policy.sites[0].fingerprint):
        assert value in text
