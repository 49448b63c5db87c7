"""What findings say about one gate, in numbers and in words: a claim, its state and its sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

from oathbound.core.exits import Exit
from oathbound.core.intervals import UNIT, quantile
from oathbound.core.pooling import AucDifferences, Aucs, Excesses, Pool, Reconstructions
from oathbound.core.study import Gate

SHIFTED: Final = "cannot separate shift from memorisation"
"""What is said where an attacker who never asked the model tells members from held-out patients."""

UNTRIED: Final = "nobody tried whether members and held-out patients differ by themselves"
"""What is said where no baseline was measured: a pass would rest on a draw that nobody looked at."""

UNCONTROLLED: Final = "even in one patient's bare gradient the attack does not surely exceed the gate"
"""What is said where the positive control is too weak: that fewer are found in a sum shows nothing then."""

EVERYWHERE: Final = "all sites"

BROKEN: Final = "one-run"
"""The metric of a claim that the training procedure broke its promise: it fails, or there is none."""

_ANSWERED: Final = frozenset({"attribute-inference"})
"""Tests of excess whose quantity is how often an answer among a few is right: wrong answers tell, too."""

_POWER: Final = 0.8416
"""The standard normal quantile of 80 %: what is said to settle a claim does so that often."""

_HALVINGS: Final = 40
"""Enough for a millionth of a millionth; what they approach is rounded up to a thousandth."""


class Verdict(Enum):
    """What a reader concludes; also the state of one claim."""

    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    INCONCLUSIVE = "inconclusive"

    @property
    def exit(self) -> Exit:
        """The exit code of a release with this verdict."""
        return {
            Verdict.FAIL: Exit.GATE_FAILED,
            Verdict.PASS: Exit.DONE,
            Verdict.INCONCLUSIVE: Exit.INCONCLUSIVE,
        }[self]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the finding of one site, or all sites' together, says about one gate.

    `lower` holds together with the lower ends of all other claims of the round; `upper` holds alone. A true
    value of `detectable` has a lower end above the gate with probability 80 %. `members` and `held_out` are
    rounded counts. `attempt` is the round. Where nothing was measured, `score` may be empty, the numbers are
    None and `note` says why.
    """

    test: str
    metric: str
    score: str
    site: str
    attempt: int
    gate: Decimal
    state: Verdict
    note: str = ""
    estimate: Decimal | None = None
    lower: Decimal | None = None
    upper: Decimal | None = None
    detectable: Decimal | None = None
    confidence: str = ""
    members: int = 0
    held_out: int = 0


def is_needed(claim: Claim) -> bool:
    """Whether a pass needs this claim: all sites together, and whatever was not measured."""
    return claim.site == EVERYWHERE or claim.estimate is None


def turned(pooled: Pool, gate: Gate, side: float) -> bool:
    """Return whether an AUC could be as far below one half as the gate is above: turned round, an attack.

    A site where it surely is below one half counts by itself, however the others fare. Of a difference of two
    it is the AUC among members, and the gate is how far above one half it may lie. A candidate that is found
    less often among members than among others is an answer, too: the other one.
    """
    if isinstance(pooled, Aucs):
        return pooled.turned(side) > max(gate.at_most, 1 - gate.at_most)
    if isinstance(pooled, Excesses) and gate.test not in _ANSWERED:
        return False
    return isinstance(pooled, (AucDifferences, Excesses)) and pooled.turned(side) > gate.at_most


def uncontrolled(pooled: Pool, gate: Gate) -> bool:
    """Return whether the attack could not have broken the gate, whatever the study had opened."""
    return isinstance(pooled, Reconstructions) and pooled.control <= gate.at_most


def note_of(pooled: Pool, gate: Gate, side: float, simultaneous: int) -> str:
    """Return what would settle the claim: held-out patients, and members in proportion, as 1 / gap ** 2."""
    if turned(pooled, gate, side) and pooled.interval(side).upper <= gate.at_most:
        whom = "those with the secret" if isinstance(pooled, AucDifferences) else "members"
        if gate.test in _ANSWERED:
            return "members may be answered wrongly more often than others, which an attacker turns round"
        return f"the score may rank {whom} last, which an attacker turns round"
    error = pooled.standard_error(float(gate.at_most))
    gap = float(gate.at_most - pooled.estimate)
    if abs(gap) <= error:
        return "not settleable at this estimate: it lies within one standard error of the gate"
    reach = quantile(side if gap > 0 else side / simultaneous) + _POWER
    attacked = isinstance(pooled, Reconstructions)
    needed = (pooled.members if attacked else pooled.held_out) * (reach * error / gap) ** 2
    coarse = 10.0 ** max(math.floor(math.log10(needed)) - 1, 0)
    whom = "held-out carriers" if gate.metric in {"auc-difference", "excess"} else "held-out patients"
    number = math.ceil(needed / coarse) * coarse
    if attacked:
        return f"about {number:,.0f} targets would settle it four times in five"
    return f"about {number:,.0f} {whom}, with members in proportion, would settle it four times in five"


def detectable(pooled: Pool, gate: Gate, alpha: float) -> Decimal:
    """Return the least true value that fails four times in five, its lower end at error rate `alpha`.

    The least estimate E that fails is gate + z S(E), S the error that the sites would publish with it. The
    truth D whose estimates reach E so often is E + 0.84 SE(D). Both errors grow with what they are taken
    at, for few members carry an excess, and they come and go with the sample.
    """
    failing = _beyond(float(gate.at_most), quantile(alpha), pooled.published_error)
    found = _beyond(failing, _POWER, pooled.standard_error)
    return Decimal(math.ceil(found / float(UNIT))) * UNIT


def _beyond(start: float, reach: float, error: Callable[[float], float]) -> float:
    """Return the largest x with x = `start` + `reach` * `error`(x), where `error` ** 2 is linear in x.

    From above, each step at least halves the distance.
    """
    x = 1 + start
    for _ in range(_HALVINGS):
        x = start + reach * error(x)
    return x


_METRICS: Final = {
    "auc": "AUC",
    "auc-difference": "AUC difference",
    "tpr-at-1-percent": "true positive rate at 1 % false positives",
    "excess": "excess",
    "reconstruction": "share of patients found by a reconstruction, above chance,",
}


def sentence(verdict: Verdict, claims: tuple[Claim, ...]) -> str:
    """Return the one sentence that says why a round has this verdict."""
    if verdict is Verdict.FAIL:
        claim = max(
            (claim for claim in claims if claim.state is Verdict.FAIL),
            key=lambda claim: (claim.metric == BROKEN, (claim.lower or Decimal(0)) - claim.gate),
        )
        above = f"{_subject(claim)} is at least {claim.lower}, above the gate {claim.gate}"
        return f"refused: {claim.note if claim.metric == BROKEN else above}"
    needed = [claim for claim in claims if is_needed(claim)]
    if verdict is Verdict.PASS:
        claim = max(needed, key=lambda claim: (claim.upper or Decimal(0)) - claim.gate)
        return (
            f"accepted: every gate held over all sites together; the closest is {_subject(claim)}, "
            f"at most {claim.upper} for a gate of {claim.gate}"
        )
    undecided = [claim for claim in needed if claim.state is Verdict.INCONCLUSIVE]
    claim = next((claim for claim in undecided if claim.note == SHIFTED), undecided[0])
    if claim.note == SHIFTED:
        return f"undecided: {_subject(claim)}: {SHIFTED}"
    if claim.estimate is None:
        return f"undecided: {_subject(claim)}: {claim.note}"
    said = f"undecided: {_subject(claim)} lies between {claim.lower} and {claim.upper}"
    if claim.upper is not None and claim.upper <= claim.gate:
        return f"{said}, below the gate {claim.gate}; but {claim.note}"
    return f"{said}, and so does the gate {claim.gate}; {claim.note}"


def _subject(claim: Claim) -> str:
    metric = _METRICS.get(claim.metric, claim.metric)
    of_score = f" of {claim.score}" if claim.score else ""
    return f"{claim.test} {metric}{of_score} at {claim.site}"
