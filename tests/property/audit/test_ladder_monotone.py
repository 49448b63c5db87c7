"""The risk along a ladder: a running maximum, and one true sentence for every pattern of states."""

import itertools
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oathbound.core.claims import Verdict
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import Excess, NotMeasurable
from oathbound.core.ladder import NOT_EXPRESSIBLE, Level, levels, risk, sentence, state
from oathbound.core.rungs import EVENTS, Rung, ladder_of, published_ladder

ends = st.integers(-1000, 1000).map(lambda thousandths: Decimal(thousandths) / 1000)
pairs = st.tuples(ends, ends).map(sorted)
gates = st.integers(0, 200).map(lambda thousandths: Decimal(thousandths) / 1000)
NAMES = published_ladder(50)


@st.composite
def ladders(draw):
    """Levels with any ends, of rungs of the published ladder from the bottom."""
    found = draw(st.lists(pairs, min_size=1, max_size=len(NAMES)))
    return [Level(name, low, high) for name, (low, high) in zip(NAMES, found, strict=False)]


@given(ladders())
def test_risk_is_the_running_maximum_of_both_ends(found):
    climbed = risk(found)
    for place, level in enumerate(climbed):
        assert level.rung == found[place].rung
        assert level.lower == max(each.lower for each in found[: place + 1])
        assert level.upper == max(each.upper for each in found[: place + 1])
        assert level.lower <= level.upper
    assert risk(climbed) == climbed


@given(ladders(), st.data())
def test_where_all_ends_hold_so_do_those_of_the_risk(found, data):
    truths = [data.draw(st.decimals(level.lower, level.upper, places=3)) for level in found]
    for place, level in enumerate(risk(found)):
        assert level.lower <= max(truths[: place + 1]) <= level.upper


@given(ladders(), gates)
def test_states_are_below_then_undecided_then_above(found, gate):
    order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    states = [order.index(state(level, gate)) for level in risk(found)]
    assert states == sorted(states)


@given(ladders(), gates)
def test_the_sentence_says_each_state_and_no_other(found, gate):
    climbed = risk(found)
    said = sentence(climbed, gate)
    below = [level for level in climbed if level.upper <= gate]
    above = [level for level in climbed if level.lower > gate]
    undecided = len(climbed) - len(below) - len(above)
    stayed = re.search(r"stayed below \S+ up to level (\S+) \(upper end (\S+)\)", said)
    exceeded = re.search(r"exceeded \S+ from (\S+) \(lower end (\S+)\)", said)
    assert bool(stayed) == bool(below)
    if stayed:
        assert (stayed[1], Decimal(stayed[2])) == (below[-1].rung, below[-1].upper)
    assert bool(exceeded) == bool(above)
    if exceeded:
        assert (exceeded[1], Decimal(exceeded[2])) == (above[0].rung, above[0].lower)
    assert ("undecided" in said) == (undecided > 0)
    assert said.startswith("With the attacks tried, ")
    assert said.endswith(".")
    assert "must" not in said


def levels_of(*spans):
    named = zip(("nothing", "codes-1", "codes-10", "codes-50"), spans, strict=False)
    return risk([Level(name, Decimal(low), Decimal(high)) for name, (low, high) in named])


LOW, WIDE, HIGH = ("-0.001", "0.005"), ("-0.002", "0.040"), ("0.020", "0.060")
PATTERNS = [
    (
        (LOW, LOW, WIDE, HIGH),
        (
            "excess stayed below 0.01 up to level codes-1 (upper end 0.005) and exceeded 0.01 from codes-50 "
            "(lower end 0.020); between: undecided."
        ),
    ),
    (
        (LOW, HIGH),
        (
            "excess stayed below 0.01 up to level nothing (upper end 0.005) and exceeded 0.01 from codes-1 "
            "(lower end 0.020)."
        ),
    ),
    ((LOW, LOW), "excess stayed below 0.01 up to level codes-1 (upper end 0.005)."),
    ((LOW, WIDE), "excess stayed below 0.01 up to level nothing (upper end 0.005); above: undecided."),
    ((WIDE, HIGH), "excess exceeded 0.01 from codes-1 (lower end 0.020); below: undecided."),
    ((HIGH, LOW), "excess exceeded 0.01 from nothing (lower end 0.020)."),
    ((WIDE, LOW), "whether excess stayed below 0.01 is undecided at every level."),
    (
        (LOW, HIGH, LOW),
        (
            "excess stayed below 0.01 up to level nothing (upper end 0.005) and exceeded 0.01 from codes-1 "
            "(lower end 0.020)."
        ),
    ),
]


@pytest.mark.parametrize(("spans", "said"), PATTERNS)
def test_the_sentence_of_every_pattern(spans, said):
    assert sentence(levels_of(*spans), Decimal("0.01")) == f"With the attacks tried, {said}"


def test_nothing_is_said_of_nothing_and_of_a_risk_that_falls():
    with pytest.raises(NothingExamined):
        sentence((), Decimal("0.01"))
    with pytest.raises(ValueError, match="never falls"):
        sentence(
            [Level("nothing", Decimal(0), Decimal(1)), Level("codes-1", Decimal(-1), Decimal(1))], Decimal(0)
        )


def excess(score, estimate="0.000", error="0.010"):
    return Excess(
        kind="excess",
        score=score,
        estimate=Decimal(estimate),
        standard_error=Decimal(error),
        member_mean=Decimal("0.1"),
        held_out_mean=Decimal("0.1"),
        members=400,
        held_out=200,
        strata="none",
    )


def unmeasured(score, reason):
    return NotMeasurable(kind="not-measurable", metric="excess", score=score, reason=reason)


def test_what_was_not_measured_lies_anywhere_and_what_cannot_be_said_is_left_out():
    found = levels(
        [
            excess("nothing"),
            unmeasured("codes-1", "too few patients"),
            unmeasured("codes-1-dates", NOT_EXPRESSIBLE),
        ],
        0.025,
    )
    assert [level.rung for level in found] == ["nothing", "codes-1"]
    assert (found[1].lower, found[1].upper) == (-1, 1)
    assert state(risk(found)[1], Decimal("0.01")) is Verdict.INCONCLUSIVE


def test_more_rungs_widen_every_end():
    one, three = levels([excess("nothing")], 0.025), levels([excess(name) for name in NAMES[:3]], 0.025)
    assert three[0].lower < one[0].lower < one[0].upper < three[0].upper


@given(st.sampled_from(EVENTS), st.sampled_from(["", "-dates", "-values"]))
def test_names_round_trip(codes, further):
    name = f"codes-{codes}{further}"
    assert Rung.parse(name).name == name
    assert {Rung.parse(name).name for name in ("nothing", "age-and-sex")} == {"nothing", "age-and-sex"}


@pytest.mark.parametrize(
    "name", ["", "codes-0", "codes-01", "codes-1001", "codes-9999", "codes-1-names", "emission", "codes-1\n"]
)
def test_other_names_are_refused(name):
    with pytest.raises(WrongInput, match="no rung"):
        Rung.parse(name)


@pytest.mark.parametrize("most", [0, 1, 4, 10, 1000])
def test_the_published_ladder_is_a_ladder(most):
    rungs = ladder_of(published_ladder(most), most)
    assert [rung.name for rung in rungs[:2]] == ["nothing", "age-and-sex"]
    assert all(above.knows(below) for below, above in itertools.pairwise(rungs))


@pytest.mark.parametrize(
    "names",
    [
        ["codes-1", "nothing"],
        ["nothing", "nothing"],
        ["codes-1-dates", "codes-10"],
        ["codes-5-values", "codes-5-dates"],
        ["codes-10", "codes-5-values"],
    ],
)
def test_a_rung_that_knows_less_than_the_one_before_is_refused(names):
    with pytest.raises(WrongInput, match="does not know all"):
        ladder_of(names, 50)


def test_a_rung_beyond_the_prompt_is_refused():
    with pytest.raises(WrongInput, match="prompt_events"):
        ladder_of(["nothing", "codes-20"], 10)
