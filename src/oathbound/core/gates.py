"""The verdict, recomputed from findings: `release` and `verify` both call `judge`, and nobody reads a stored verdict.

The numbers of the steps below are those of `spec/verdict.md`. Two error rates, each at most the policy's alpha / 2:

* A *fail* is a claim against the model, and there are many, so their lower ends hold together (Bonferroni over all
  claims of the round). The claim of a single site counts: a model that exposes one hospital's patients is refused,
  however well the others fare.
* A *pass* needs the upper end over all sites to hold for every gate and score at once, so no correction is due
  (intersection-union test, Berger 1982). A single site's upper end is not asked for: it would be the model's size,
  not its behaviour, that decided; but a site without a measurement blocks a pass.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import Enum
from typing import Final

from oathbound.core.errors import NotAcceptable, NothingExamined
from oathbound.core.exits import Exit
from oathbound.core.finding import Auc, DidNotRun, Excess, Finding, Measure, NotMeasurable, TruePositiveRate
from oathbound.core.intervals import UNIT, Interval, clopper_pearson, logit, normal, quantile
from oathbound.core.study import AuditPlan, Gate

COUNT_SLACK: Final = 2
"""The most by which a count rounded to a multiple of 5 differs from the true one."""

TAIL_HELD_OUT: Final = 436
"""The least n with 1 - 0.99 ** n >= 0.9875: fewer held-out patients cannot fix a threshold at 1 %."""

EVERYWHERE: Final = "all sites"

_DETECTABLE: Final = 2.80
"""1.96 + 0.84: the effect, in standard errors, that a two-sided test at 5 % finds with probability 80 %."""


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
class Attempted:
    """A finding, and the number of the attempt on the site's held-out patients that made it, from 1."""

    finding: Finding
    attempt: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one finding, or all sites' together, say about one gate.

    `lower` holds together with the lower ends of all other claims of the round; `upper` holds alone. `score` is empty
    where nothing was measured, and then so are the numbers. `members` and `held_out` are rounded counts.
    """

    test: str
    metric: str
    score: str
    site: str
    attempt: int
    gate: Decimal
    state: Verdict
    estimate: Decimal | None = None
    lower: Decimal | None = None
    upper: Decimal | None = None
    confidence: str = ""
    members: int = 0
    held_out: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, every claim it rests on, and one sentence that says why."""

    verdict: Verdict
    claims: tuple[Claim, ...]
    sentence: str


type _Missing = str
