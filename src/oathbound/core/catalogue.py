"""What the audit tests measure: a finding that left some of it out would show the rest in a false light."""

from collections.abc import Mapping
from dataclasses import dataclass
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

MEMBERSHIP_THREAT: Final = Threat(
    sees="the probability of every token, or of the label, of a record that it presents",
    knows="the whole record of a person, and asks whether it was trained on",
)
DISCLOSURE_THREAT: Final = Threat(
    sees="the probabilities of the next token, at every step of a continuation",
    knows="sex, age and the first events of a person's record, without what implies the sensitive fact",
)

CATALOGUE: Final[Mapping[str, Listed]] = MappingProxyType(
    {
        "membership": Listed(1, {"auc": _TOKENS, "tpr-at-1-percent": _TOKENS}, MEMBERSHIP_THREAT),
        "sensitive-disclosure": Listed(1, {"excess": frozenset({"emission"})}, DISCLOSURE_THREAT),
    }
)
"""What is measured of a model that sees sequences: every test."""

OF_OTHERS: Final[Mapping[str, Listed]] = MappingProxyType(
    {"membership": Listed(1, {"auc": _WHOLE, "tpr-at-1-percent": _WHOLE}, MEMBERSHIP_THREAT)}
)
"""What is measured of a model that sees a record as a whole: it has no tokens, and says no codes."""


def listed(test: str, policy: Policy) -> Listed | None:
    """Return what a test measures of the policy's model; None where it is no test of this study."""
    if test not in CATALOGUE:
        extension = policy.extension("audits", test)
        measures = extension.measures if extension else None
        metrics: dict[str, frozenset[str]] = {
            metric: frozenset(scores) for metric, scores in (measures or {}).items()
        }
        return Listed(1, metrics, threat=None) if metrics else None
    if not isinstance(policy.model, EventTransformer):
        return OF_OTHERS.get(test)
    if test == "sensitive-disclosure" and policy.audit.sensitive is None:
        return None
    return CATALOGUE[test]


def check_gates(policy: Policy) -> None:
    """Raise `WrongInput` for a gate that no finding could ever meet, because no test measures it."""
    for gate in policy.gates:
        own = listed(gate.test, policy)
        if own is None and gate.test in CATALOGUE:
            raise WrongInput(
                f"{gate.test} cannot be measured in this study",
                hint="it needs a model of sequences, and [policy.audit.sensitive]; take the gate out",
            )
        if own is None:
            known = [*CATALOGUE, *(each.name for each in policy.extensions if each.group == "audits")]
            raise WrongInput(f"no audit test is called {gate.test}", hint=f"one of: {', '.join(known)}")
        if gate.metric not in own.metrics:
            raise WrongInput(
                f"{gate.test} does not measure {gate.metric}", hint=f"one of: {', '.join(own.metrics)}"
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
