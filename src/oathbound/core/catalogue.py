"""What the audit tests measure: a finding that left some of it out would show the rest in a false light."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from oathbound.core.errors import WrongInput
from oathbound.core.finding import DidNotRun, Finding, Threat
from oathbound.core.shape import EventTransformer
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

UNGATED: Final = frozenset({"tail", "baseline"})
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
TRAJECTORY_SCORES: Final = frozenset({"closeness", "closeness-published", "exact-recall"})


def _membership(scores: frozenset[str], *, references: bool) -> Listed:
    blind = frozenset({"records", "references"} if references else {"records"})
    told = scores | _REFERRED if references else scores
    metrics = {"auc": told, "tpr-at-1-percent": told, "tail": told, "baseline": blind}
    return Listed(2, metrics, REFERENCE_THREAT if references else MEMBERSHIP_THREAT)


CATALOGUE: Final[Mapping[str, Listed]] = MappingProxyType(
    {
        "membership": _membership(_TOKENS, references=True),
        "sensitive-disclosure": Listed(2, {"excess": frozenset({"emission"})}, DISCLOSURE_THREAT),
        "identifier-perturbation": Listed(
            1, {"excess": frozenset({"age", "dates", "sex"})}, PERTURBATION_THREAT
        ),
        "trajectory-recall": Listed(1, {"excess": TRAJECTORY_SCORES}, TRAJECTORY_THREAT),
    }
)
"""What is measured of a model that sees sequences, where a study keeps reference patients: every test."""


def listed(test: str, policy: Policy) -> Listed | None:
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
    sensitive = policy.audit.sensitive
    tables = {
        "sensitive-disclosure": sensitive,
        "identifier-perturbation": sensitive and policy.audit.perturbation,
        "trajectory-recall": policy.audit.trajectories,
    }
    if not tokens or tables[test] is None:  # a classifier sees a record as a whole, and says no codes
        return None
    rungs = sensitive.ladder if sensitive else None
    if test == "sensitive-disclosure" and rungs:
        return replace(CATALOGUE[test], metrics={"excess": frozenset(rungs)})
    return CATALOGUE[test]


def check_gates(policy: Policy) -> None:
    """Raise `WrongInput` for a gate that no finding could ever meet, because no test measures it."""
    for gate in policy.gates:
        own = listed(gate.test, policy)
        if own is None and gate.test in CATALOGUE:
            raise WrongInput(
                f"{gate.test} cannot be measured in this study",
                hint="it needs a model of sequences, and its table in [policy.audit]; take the gate out",
            )
        if own is None:
            known = [*CATALOGUE, *(each.name for each in policy.extensions if each.group == "audits")]
            raise WrongInput(f"no audit test is called {gate.test}", hint=f"one of: {', '.join(known)}")
        if gate.metric not in own.metrics or gate.metric in UNGATED:
            raise WrongInput(
                f"{gate.test} does not measure {gate.metric}",
                hint=f"one of: {', '.join(name for name in own.metrics if name not in UNGATED)}",
            )


def is_whole(finding: Finding, policy: Policy) -> bool:
    """Return whether the finding reports all that its test measures, and nothing else, or did not run.

    Its attacker must be the test's own, in the test's own words.
    """
    if isinstance(finding.outcome, DidNotRun):
        return True
    own = listed(finding.test, policy)
    if own is None or finding.version != own.version or own.threat not in {None, finding.threat}:
        return False
    reported = [
        (measure.metric if measure.kind == "not-measurable" else measure.kind, measure.score)
        for measure in finding.outcome.measures
    ]
    return sorted(reported) == sorted(
        (metric, score) for metric in own.metrics for score in own.metrics[metric]
    )
