"""What the audit tests measure: a finding that left some of it out would show the rest in a false light."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from oathbound.core.errors import WrongInput
from oathbound.core.finding import DidNotRun, Finding, Measure, OneRun, Reconstruction, Threat
from oathbound.core.gates import LINKED_BY_THEMSELVES, OF_LINKAGE_ALONE
from oathbound.core.one_run import delta_of
from oathbound.core.pooling import COUNT_SLACK
from oathbound.core.shape import EventTransformer, Recogniser
from oathbound.core.study import Policy


@dataclass(frozen=True, slots=True)
class Listed:
    """A test's version, and of each metric the scores that every finding reports, measured or not.

    `threat` is what its attacker sees and knows; None for an extension's test, which says it itself.
    """

    version: int
    metrics: Mapping[str, frozenset[str]]
    threat: Threat | None


_TOKENS: Final = frozenset({"loss", "min-k", "min-k-plus-plus"})
_WHOLE: Final = frozenset({"loss"})
_REFERRED: Final = frozenset({"lira", "reference-difference", "rmia"})

_OF_RECORDINGS: Final = frozenset({"gradient-reconstruction", "image-linkage"})

UNGATED: Final = frozenset({"tail", "baseline", "one-run"})
"""Metrics that are reported, and that no gate can ask for."""

MEMBERSHIP_THREAT: Final = Threat(
    sees="the probability of every token, or of the label, of a record that it presents",
    knows="the whole record of a person, and asks whether it was trained on; has no other models",
)
REFERENCE_THREAT: Final = Threat(
    sees="the probability of every token, or of the label, of a record that it presents",
    knows="the whole record of a person, and asks whether it was trained on; trains like models on others",
)
DISCLOSURE_THREAT: Final = Threat(
    sees="continuations of a prompt, and the probability of every next token where the model says it",
    knows="sex, age and the first events of a person's record, without what implies the sensitive fact",
)

TRAJECTORY_THREAT: Final = Threat(
    sees="continuations of a prompt, drawn at temperature 1",
    knows="sex, age and the first events of a person's record, with their dates and values",
)
PERTURBATION_THREAT: Final = Threat(
    sees="the probabilities of the next token, or continuations drawn at temperature 1",
    knows="sex, age and the first events of a person's record, and asks with other sex, age or dates too",
)
CANARY_THREAT: Final = Threat(
    sees="the probability of every token, or of the label, of a record that it presents",
    knows="the whole record of an invented person, and how a model of the same plan was trained",
)
SUBGROUP_THREAT: Final = Threat(
    sees="the probability of every token, or of the label, of a record; for an excess, what follows a prompt",
    knows="the whole record of a person, and so the group; for an excess, its beginning without what implies "
    "the sensitive fact",
)
SUBGROUP_REFERENCE_THREAT: Final = Threat(
    sees=SUBGROUP_THREAT.sees, knows=f"{SUBGROUP_THREAT.knows}; trains like models on others"
)
PROBE_THREAT: Final = Threat(
    sees="the model's inner representation of a prompt that it presents",
    knows="the first events of a person's record, without what implies the sensitive fact; has a probe "
    "fitted on others of whom the fact is known",
)
ATTRIBUTE_THREAT: Final = Threat(
    sees="the probability of every token of a record that it presents",
    knows="the whole record of a person but one attribute, and the candidates for that",
)
RECONSTRUCTION_THREAT: Final = Threat(
    sees="one patient's gradient at the first weights; or what a step opens: the sum of its patients' "
    "gradients, with a budget clipped and noised",
    knows="the model's weights, the policy, and labelled recordings of other people",
)
LINKAGE_THREAT: Final = Threat(
    sees="the model's inner representation of a recording that it presents",
    knows="one recording of each person of a group with the name, and another of one of them without",
)
TRAJECTORY_SCORES: Final = frozenset({"closeness", "closeness-published", "exact-recall"})


def _membership(scores: frozenset[str], *, references: bool) -> Listed:
    blind = frozenset({"records", "references"} if references else {"records"})
    told = scores | _REFERRED if references else scores
    metrics = {"auc": told, "tpr-at-1-percent": told, "tail": told, "baseline": blind}
    return Listed(2, metrics, REFERENCE_THREAT if references else MEMBERSHIP_THREAT)


def _subgroups(names: frozenset[str], *, references: bool, excess: bool) -> Listed:
    blind = frozenset({"records", "references"} if references else {"records"})
    metrics = {"auc": names, "baseline": blind} | ({"excess": names} if excess else {})
    return Listed(1, metrics, SUBGROUP_REFERENCE_THREAT if references else SUBGROUP_THREAT)


CATALOGUE: Final[Mapping[str, Listed]] = MappingProxyType(
    {
        "membership": _membership(_TOKENS, references=True),
        "sensitive-disclosure": Listed(2, {"excess": frozenset({"emission"})}, DISCLOSURE_THREAT),
        "identifier-perturbation": Listed(
            1, {"excess": frozenset({"age", "dates", "sex"})}, PERTURBATION_THREAT
        ),
        "trajectory-recall": Listed(1, {"excess": TRAJECTORY_SCORES}, TRAJECTORY_THREAT),
        "embedding-probe": Listed(1, {"auc-difference": frozenset({"probe"})}, PROBE_THREAT),
        "attribute-inference": Listed(1, {"excess": frozenset({"sex"})}, ATTRIBUTE_THREAT),
        "canary": Listed(1, {"one-run": frozenset({"loss-difference"})}, CANARY_THREAT),
        "gradient-reconstruction": Listed(
            1, {"reconstruction": frozenset({"cosine"})}, RECONSTRUCTION_THREAT
        ),
        "image-linkage": Listed(
            1,
            {
                "excess": frozenset({"verification", LINKED_BY_THEMSELVES}),
                "baseline": frozenset({OF_LINKAGE_ALONE}),
            },
            LINKAGE_THREAT,
        ),
        "rare-subgroup": _subgroups(
            frozenset({"oldest", "others", "rare-code"}), references=True, excess=True
        ),
    }
)
"""What is measured where a study keeps reference patients, of a model that sees what the test attacks."""


def listed(test: str, policy: Policy) -> Listed | None:  # noqa: PLR0911 - one return for each kind of test
    """Return what a test measures of the policy's model; None where it is no test of this study."""
    if test not in CATALOGUE:
        extension = policy.extension("audits", test)
        measures = extension.measures if extension else None
        metrics: dict[str, frozenset[str]] = {
            metric: frozenset(scores) for metric, scores in (measures or {}).items()
        }
        return Listed(1, metrics, threat=None) if metrics else None
    tokens = isinstance(policy.model, EventTransformer)
    if test == "membership":
        return _membership(_TOKENS if tokens else _WHOLE, references=policy.drawing.reference > 0)
    if test == "canary":
        return CATALOGUE[test] if policy.audit.canaries else None
    if test in _OF_RECORDINGS:
        planned = policy.audit.linkage if test == "image-linkage" else policy.audit.reconstruction
        return CATALOGUE[test] if planned and isinstance(policy.model, Recogniser) else None
    sensitive = policy.audit.sensitive
    if test == "rare-subgroup":
        groups, references = policy.audit.groups, policy.drawing.reference > 0
        names = frozenset(groups.names) if groups else frozenset[str]()
        excess = tokens and sensitive is not None
        return _subgroups(names, references=references, excess=excess) if names else None
    tables = {
        "sensitive-disclosure": sensitive,
        "identifier-perturbation": sensitive and policy.audit.perturbation,
        "trajectory-recall": policy.audit.trajectories,
        "embedding-probe": sensitive and policy.audit.probe,
        "attribute-inference": policy.audit.attributes,
    }
    if not tokens or tables[test] is None:  # a classifier sees a record as a whole, and says no codes
        return None
    rungs = sensitive.ladder if sensitive else None
    if test == "sensitive-disclosure" and rungs:
        return replace(CATALOGUE[test], metrics={"excess": frozenset(rungs)})
    if test == "attribute-inference":
        names = frozenset(attribute.name for attribute in policy.audit.attributes or ())
        return replace(CATALOGUE[test], metrics={"excess": names})
    return CATALOGUE[test]


def battery_of(policy: Policy) -> tuple[str, ...]:
    """Return the tests of a study, by name: those that it plans, its extensions', and what a gate names."""
    planned = (name for name in CATALOGUE if listed(name, policy) is not None)
    brought = (extension.name for extension in policy.extensions if extension.group == "audits")
    return tuple(sorted({*planned, *brought, *(gate.test for gate in policy.gates)}))


def check_gates(policy: Policy) -> None:
    """Raise `WrongInput` for a gate that no finding could ever meet, because no test measures it."""
    for gate in policy.gates:
        own = listed(gate.test, policy)
        if own is None and gate.test in CATALOGUE:
            raise WrongInput(
                f"{gate.test} cannot be measured in this study",
                hint=(
                    f"it needs a model of {'recordings' if gate.test in _OF_RECORDINGS else 'sequences'}, "
                    "and its table in [policy.audit]; take the gate out"
                ),
            )
        if own is None:
            known = [*CATALOGUE, *(each.name for each in policy.extensions if each.group == "audits")]
            raise WrongInput(f"no audit test is called {gate.test}", hint=f"one of: {', '.join(known)}")
        if gate.metric not in own.metrics or gate.metric in UNGATED:
            gated = ", ".join(name for name in own.metrics if name not in UNGATED)
            raise WrongInput(
                f"{gate.test} does not measure {gate.metric}",
                hint=f"one of: {gated}" if gated else "take the gate out: what it finds fails by itself",
            )


def is_whole(finding: Finding, policy: Policy) -> bool:
    """Return whether the finding reports all that its test measures, and nothing else, or did not run.

    Its attacker must be the test's own, in the test's own words.
    """
    own = listed(finding.test, policy)
    if isinstance(finding.outcome, DidNotRun):
        return own is not None or any(gate.test == finding.test for gate in policy.gates)
    if own is None or finding.version != own.version or own.threat not in {None, finding.threat}:
        return False
    if not all(_as_planned(measure, policy) for measure in finding.outcome.measures):
        return False
    reported = [
        (measure.metric if measure.kind == "not-measurable" else measure.kind, measure.score)
        for measure in finding.outcome.measures
    ]
    return sorted(reported) == sorted(
        (metric, score) for metric in own.metrics for score in own.metrics[metric]
    )


def _as_planned(measure: Measure, policy: Policy) -> bool:
    """Whether what the plan fixes is as planned: numbers that are chosen afterwards prove nothing."""
    if isinstance(measure, OneRun):
        plan = policy.audit.canaries
        asked = (plan.planted, plan.guesses, delta_of(policy)) if plan else None
        return (measure.planted, measure.guesses, measure.delta) == asked
    if isinstance(measure, Reconstruction):
        how = policy.audit.reconstruction
        if how is None or measure.members > how.targets + COUNT_SLACK:
            return False
        return (measure.decoys, measure.noised is None) == (how.decoys, policy.budget is None)
    return True
