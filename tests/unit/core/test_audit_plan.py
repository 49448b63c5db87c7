"""A plan that contradicts itself is refused before anything is measured by it."""

import pytest

from oathbound.core.audit_plan import AuditPlan, GroupPlan, PlanFile
from oathbound.core.errors import WrongInput

PLAN = {"alpha": "0.05", "minimum_patients": 20}
ASKED = {"prompt_events": 10, "horizon": 8, "chains": 2}
SENSITIVE = ASKED | {"name": "s", "codes": ["S"], "implied_by": []}
SEX = {"name": "sex", "codes": ["F", "M"]}


def group(name):
    return {"name": name, "codes": ["A"]}


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"sensitive": SENSITIVE | {"ladder": ["nothing", "codes-10"]}},
        {"attributes": [SEX, {"name": "smoker", "codes": ["yes", "no"]}]},
        {"canaries": {"planted": 20, "guesses": 20}},
        {"groups": {"oldest": 80}},
        {"groups": {"rare": 5}},
        {"groups": {"listed": [group("deaf"), group("blind")]}},
    ],
)
def test_a_plan_that_is_coherent_is_read(tables):
    assert AuditPlan.parse(PLAN | tables, what="plan").plain().keys() == (PLAN | tables).keys()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"sensitive": SENSITIVE | {"ladder": ["codes-10", "nothing"]}},
            "sensitive: ladder: the rung",
        ),
        ({"attributes": [SEX | {"codes": ["F", "F"]}]}, "attributes.0: an attribute lists a code twice"),
        ({"attributes": [SEX, SEX | {"codes": ["A", "B"]}]}, "two have one name"),
        ({"attributes": [SEX, SEX | {"name": "smoker"}]}, "two share a code"),
        ({"attributes": [SEX], "groups": {"listed": [group("women") | {"codes": ["F"]}]}}, "count it once"),
        ({"canaries": {"planted": 20, "guesses": 5}}, "canaries: guesses must be even"),
        ({"canaries": {"planted": 20, "guesses": 22}}, "no more than planted"),
        ({"groups": {}}, "groups: a partition needs a rule"),
        ({"groups": {"listed": [group("deaf"), group("deaf")]}}, "listed names a group twice"),
        ({"groups": {"oldest": 80, "listed": [group("oldest")]}}, "listed names a group twice"),
        ({"groups": {"oldest": 80, "listed": [group("others")]}}, "listed names a group twice"),
        # without the rule itself, the name would still say "the oldest" of other patients
        ({"groups": {"rare": 5, "listed": [group("oldest")]}}, "as oldest, rare-code or others are named"),
        ({"groups": {"oldest": 80, "listed": [group("rare-code")]}}, "as oldest, rare-code or others"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_by_its_key(tables, said):
    with pytest.raises(WrongInput, match=said):
        AuditPlan.parse(PLAN | tables, what="plan")


def test_groups_are_named_in_the_order_of_their_rules_and_only_those_that_have_one():
    listed = {"listed": [group("deaf"), group("blind")]}
    for rules, names in (
        ({"oldest": 80, "rare": 5}, ("oldest", "rare-code", "deaf", "blind", "others")),
        ({"rare": 5}, ("rare-code", "deaf", "blind", "others")),
        ({}, ("deaf", "blind", "others")),
    ):
        assert GroupPlan.parse(rules | listed, what="groups").names == names


def test_a_plan_file_says_what_is_sensitive_in_one_way():
    head = PLAN | {"format": "oathbound/audit-plan/v1"}
    harm = ASKED | {"sets": ["infectious"]}
    for one in ({}, {"harm": harm}, {"sensitive": SENSITIVE}):
        PlanFile.parse(head | one, what="plan")
    with pytest.raises(WrongInput, match="one of them"):
        PlanFile.parse(head | {"harm": harm, "sensitive": SENSITIVE}, what="plan")
