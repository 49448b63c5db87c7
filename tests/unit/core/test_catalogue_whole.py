from decimal import Decimal

import pytest

from oathbound.core.audit_plan import TrajectoryPlan
from oathbound.core.catalogue import CATALOGUE, battery_of, check_gates, is_whole, listed
from oathbound.core.errors import WrongInput
from oathbound.core.finding import DidNotRun, Excess, Finding, Measured, NotMeasurable, Threat
from oathbound.core.shape import ExtensionModel
from oathbound.core.study import Gate
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import DISCLOSING, policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
POLICY = policy_for(SECRETS, audit=DISCLOSING)
WITHOUT_SENSITIVE = policy_for(SECRETS)
EXCESS = Excess(
    kind="excess",
    score="emission",
    estimate=Decimal(0),
    standard_error=Decimal("0.01"),
    member_mean=Decimal(0),
    held_out_mean=Decimal(0),
    members=50,
    held_out=50,
    strata="none",
)
TOO_FEW = NotMeasurable(kind="not-measurable", metric="excess", score="emission", reason="too few")


def finding(*measures, test="sensitive-disclosure", version=2, threat=None):
    outcome = (
        Measured(kind="measured", measures=measures, tokens=1)
        if measures
        else DidNotRun(kind="did-not-run", reason="no power")
    )
    return Finding(
        test=test,
        version=version,
        site="north",
        model="sha256:" + "a" * 64,
        seed="sha256:" + "0" * 64,
        threat=threat or CATALOGUE["sensitive-disclosure"].threat,
        outcome=outcome,
    )


def test_a_finding_is_whole_with_every_score_measured_or_not_or_none_at_all():
    for whole in (finding(EXCESS), finding(TOO_FEW), finding()):
        assert is_whole(whole, POLICY)


@pytest.mark.parametrize(
    "other",
    [
        finding(EXCESS, version=1),
        finding(EXCESS, test="divination"),
        finding(test="divination"),
        finding(EXCESS, threat=Threat(sees="little", knows="little")),
        finding(EXCESS, TOO_FEW),
        finding(EXCESS.model_copy(update={"score": "loss"})),
        finding(TOO_FEW.model_copy(update={"metric": "auc"})),
    ],
)
def test_another_test_version_or_set_of_scores_is_not_whole(other):
    assert not is_whole(other, POLICY)


def test_a_model_of_an_extension_says_no_tokens():
    forest = ExtensionModel(name="forest", options={}, seed=POLICY.model.seed)
    policy = POLICY.model_copy(update={"model": forest})
    assert listed("sensitive-disclosure", policy) is None
    assert listed("membership", policy).metrics["auc"] == frozenset({"loss"})


def test_without_a_ladder_there_is_one_score_and_with_one_a_score_for_each_rung():
    sensitive = POLICY.audit.sensitive.model_copy(update={"ladder": ("nothing", "age-and-sex")})
    trajectories = TrajectoryPlan(prompt_events=2, horizon=8, chains=2)
    audit = POLICY.audit.model_copy(update={"sensitive": sensitive, "trajectories": trajectories})
    policy = POLICY.model_copy(update={"audit": audit})
    assert listed("sensitive-disclosure", policy).metrics["excess"] == {"nothing", "age-and-sex"}
    assert listed("sensitive-disclosure", POLICY).metrics["excess"] == {"emission"}
    assert listed("trajectory-recall", policy) == CATALOGUE["trajectory-recall"]


def test_what_is_sensitive_must_be_listed_to_be_measured():
    assert listed("sensitive-disclosure", WITHOUT_SENSITIVE) is None
    assert listed("membership", WITHOUT_SENSITIVE) == listed("membership", POLICY)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"test": "divination", "metric": "auc"}, "no audit test is called divination"),
        ({"test": "membership", "metric": "excess"}, "membership does not measure excess"),
        ({"test": "membership", "metric": "tail"}, "membership does not measure tail"),
        ({"test": "sensitive-disclosure", "metric": "excess"}, "cannot be measured in this study"),
    ],
)
def test_a_gate_that_nothing_could_meet_is_refused(gate, said):
    policy = WITHOUT_SENSITIVE.model_copy(
        update={"gates": (POLICY.gates[0].model_copy(update=gate), *POLICY.gates)}
    )
    check_gates(WITHOUT_SENSITIVE)
    with pytest.raises(WrongInput, match=said):
        check_gates(policy)


def test_a_gate_on_no_test_is_shown_the_tests_that_there_are_and_no_source_of_that_name():
    code = {"distribution": "oracle", "version": "1", "digest": "sha256:" + "0" * 64}
    extensions = [
        {"group": "sources", "name": "registry", **code},
        {"group": "audits", "name": "oracle", **code, "measures": {"auc": ["loss"]}},
    ]
    gate = {"test": "divination", "metric": "auc", "at_most": "0.6"}
    with pytest.raises(WrongInput) as refused:
        check_gates(policy_for(SECRETS, extensions=extensions, gates=[gate]))
    assert refused.value.hint == f"one of: {', '.join(CATALOGUE)}, oracle"
    assert battery_of(policy_for(SECRETS, extensions=extensions)) == ("membership", "oracle")


def test_what_did_not_run_is_a_test_of_the_study_or_one_that_a_gate_names():
    gates = (Gate(test="divination", metric="auc", at_most=Decimal("0.5")),)
    assert not is_whole(finding(test="divination"), POLICY)
    assert is_whole(finding(test="divination"), POLICY.model_copy(update={"gates": gates}))
