"""What the audit tests measure: a finding that left some of it out would show the rest in a false light."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from oathbound.core.errors import WrongInput
from oathbound.core.finding import DidNotRun, Finding
from oathbound.core.study import Gate


@dataclass(frozen=True, slots=True)
class Listed:
    """A test's version, and of each metric the scores that every finding reports, measured or not."""

    version: int
    metrics: Mapping[str, frozenset[str]]


_MEMBERSHIP: Final = frozenset({"loss", "min-k", "min-k-plus-plus"})

CATALOGUE: Final[Mapping[str, Listed]] = MappingProxyType(
    {
        "membership": Listed(1, {"auc": _MEMBERSHIP, "tpr-at-1-percent": _MEMBERSHIP}),
        "sensitive-disclosure": Listed(1, {"excess": frozenset({"emission"})}),
    }
)


def check_gates(gates: Iterable[Gate]) -> None:
    """Raise `WrongInput` for a gate that no finding could ever meet, because no test measures it."""
    for gate in gates:
        listed = CATALOGUE.get(gate.test)
        if listed is None:
            raise WrongInput(f"no audit test is called {gate.test}", hint=f"one of: {', '.join(CATALOGUE)}")
        if gate.metric not in listed.metrics:
            raise WrongInput(
                f"{gate.test} does not measure {gate.metric}", hint=f"one of: {', '.join(listed.metrics)}"
            )


def is_whole(finding: Finding) -> bool:
    """Return whether the finding reports all that its test measures, and nothing else, or did not run."""
    listed = CATALOGUE.get(finding.test)
    if isinstance(finding.outcome, DidNotRun):
        return True
    reported = [
        (measure.metric if measure.kind == "not-measurable" else measure.kind, measure.score)
        for measure in finding.outcome.measures
    ]
    if listed is None or finding.version != listed.version:
        return False
    return sorted(reported) == sorted(
        (metric, score) for metric in listed.metrics for score in listed.metrics[metric]
    )
