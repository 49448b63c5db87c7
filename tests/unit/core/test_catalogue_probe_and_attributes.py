"""When the probe and the attributes are tests of a study, and what their findings must report."""

from decimal import Decimal

import pytest

from oathbound.core.catalogue import CATALOGUE, check_gates, is_whole, listed
from oathbound.core.errors import WrongInput
from oathbound.core.finding import Finding, Measured, NotMeasurable
from oathbound.core.study import Gate
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
SENSITIVE = {"name": "s", "codes": ["a"], "implied_by": [], "prompt_events": 1, "horizon": 1, "chains": 1}
PROBED = {"sensitive": SENSITIVE, "probe": {"prompt_events": 5}}
REFERENCE = {"window": ["0", "1"], "held_out": "0.3", "reference": "0.2"}
ATTRIBUTES = {
    "attributes": [{"name": "sex", "codes": ["a", "b"]}, {"name": "race", "codes": ["c", "d"]}],
}


def policy(*, drawing=REFERENCE, **tables):
    plan = {"alpha": "0.05", "minimum_patients": 20}
    vocabulary = {"codes": ["a", "b", "c", "d"], "edges": {}, "ages": [], "gaps": []}
    return policy_for(SECRETS, audit=plan | tables, drawing=drawing, vocabulary=vocabulary)


def finding(*named):
    measures = tuple(
        NotMeasurable(kind="not-measurable", metric=metric, score=score, reason="too few")
        for metric, score in named
    )
    return Finding(
        test="attribute-inference",
        version=1,
        site="north",
        model="sha256:" + "a" * 64,
        seed="sha256:" + "0" * 64,
        threat=CATALOGUE["attribute-inference"].threat,
        outcome=Measured(kind="measured", measures=measures, tokens=1),
    )


def test_either_is_a_test_of_the_studies_that_plan_it():
    assert listed("embedding-probe", policy(**PROBED)) == CATALOGUE["embedding-probe"]
    assert listed("embedding-probe", policy(sensitive=SENSITIVE)) is None
    assert listed("attribute-inference", policy(**ATTRIBUTES)).metrics == {"excess": {"sex", "race"}}
    assert listed("attribute-inference", policy(**PROBED)) is None
    assert listed("embedding-probe", policy(**PROBED, **ATTRIBUTES)) == CATALOGUE["embedding-probe"]


@pytest.mark.parametrize(
    "tables",
    [
        {"probe": PROBED["probe"]},
        PROBED | {"drawing": REFERENCE | {"reference": "0"}},
        {"attributes": [{"name": "sex", "codes": ["a", "unheard-of"]}]},
    ],
)
def test_a_policy_that_could_never_measure_them_is_refused(tables):
    with pytest.raises(WrongInput, match=r"audit\.(probe|attributes)"):
        policy(**tables)


def test_a_finding_about_attributes_reports_every_one_that_the_policy_names():
    sex, race = ("excess", "sex"), ("excess", "race")
    assert is_whole(finding(sex, race), policy(**ATTRIBUTES))
    for partial in ((sex,), (sex, sex), (sex, race, ("excess", "age")), (sex, ("auc", "race"))):
        assert not is_whole(finding(*partial), policy(**ATTRIBUTES))


@pytest.mark.parametrize(
    ("test", "metric", "tables", "measured"),
    [
        ("attribute-inference", "excess", ATTRIBUTES, True),
        ("embedding-probe", "auc-difference", PROBED, True),
        ("attribute-inference", "excess", {}, False),
        ("attribute-inference", "auc", ATTRIBUTES, False),
        ("embedding-probe", "auc", PROBED, False),
        ("embedding-probe", "auc-difference", {}, False),
    ],
)
def test_a_gate_can_ask_for_what_is_measured(test, metric, tables, measured):
    gate = Gate(test=test, metric=metric, at_most=Decimal("0.1"))
    asking = policy(**tables).model_copy(update={"gates": (gate,)})
    if measured:
        check_gates(asking)
    else:
        with pytest.raises(WrongInput):
            check_gates(asking)
