"""Canaries: a lower bound on epsilon of the training procedure, from one run. `docs/audits/canary.md`.

Invented patients are planted in a sibling of the model, each by a fair coin; the sibling is trained by the
study's own procedure, and an attacker who knows the records guesses the coins. How often he is right bounds
epsilon from below (`core.one_run`). The model under audit never sees a canary: there is nothing to forget
before it is released.
"""

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.canaries import invented
from oathbound.audit.catalog.membership import examined
from oathbound.audit.statistics import Scores, published_cost
from oathbound.audit.target import AuditedPatients, AuditTest, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.catalogue import CANARY_THREAT
from oathbound.core.errors import NothingExamined, Unavailable
from oathbound.core.finding import Measured, NotMeasurable, OneRun
from oathbound.core.patient import Patient
from oathbound.core.shape import Seen

_SCORE: Final = "loss-difference"


class TrainsSiblings(Protocol):
    """The study's training procedure, at one site: `workflow.sibling`."""

    @property
    def delta(self) -> Decimal:
        """The delta at which it is bounded."""
        ...

    @property
    def seen(self) -> Seen:
        """What the model sees of a patient."""
        ...

    def trained(self, people: Sequence[Patient]) -> Target:
        """Return a new model that was trained on these people, with all of the procedure's noise."""
        ...

    def untrained(self) -> Target:
        """Return the model before its first step."""
        ...


class Canary:
    """How many coins are guessed right. Without `siblings` it cannot run: the model is somebody else's."""

    id = "canary"
    version = 1
    threat = CANARY_THREAT

    def __init__(self, siblings: TrainsSiblings | None = None) -> None:
        self._siblings = siblings

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:  # noqa: ARG002 - the model under audit is not attacked
        """Train a sibling on the site's members and the canaries whose coin says so, and guess the coins.

        Canaries and coins come from `seed`. What the sibling samples and its noise do not: they stay secret,
        for the seed is published, and who knows the noise can subtract it.
        """
        if self._siblings is None:
            raise Unavailable("canaries are planted in a study alone: its procedure trains the sibling")
        if plan.canaries is None:
            raise NothingExamined("the plan plants no canaries", hint="add [policy.audit.canaries]")
        if len(patients.members) < plan.minimum_patients:
            too_few = NotMeasurable(
                kind="not-measurable", metric="one-run", score=_SCORE, reason="too few members"
            )
            return Measured(kind="measured", measures=(too_few,), tokens=0)
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        canaries = invented(self._siblings.seen, plan.canaries.planted, rng)
        coins = rng.integers(2, size=len(canaries)) == 1
        sibling = self._siblings.trained((*patients.members, *itertools.compress(canaries, coins)))
        scores = learnt(self._siblings.untrained(), sibling, canaries)
        found = OneRun(
            kind="one-run",
            score=_SCORE,
            planted=len(canaries),
            guesses=plan.canaries.guesses,
            right=guessed_right(scores, coins, plan.canaries.guesses),
            delta=self._siblings.delta,
        )
        return Measured(
            kind="measured", measures=(found,), tokens=published_cost(sibling.tokens_pushed, (found,))
        )


def learnt(before: Target, after: Target, canaries: Sequence[Patient]) -> Scores:
    """Return by how much training made each record more likely, in nats a token: shape (canaries,).

    Against the first weights, which are public and the same for all coins: they take away what makes one
    record likelier than another without adding noise of their own, as a trained model would.
    """
    first, last = (examined(target, canaries)[1].logprob for target in (before, after))
    difference: Scores = last - first
    return difference


def guessed_right(scores: Scores, coins: NDArray[np.bool_], guesses: int) -> int:
    """Return how many coins are guessed right: in, of the `guesses` / 2 highest scores; out, of the lowest.

    Ties fall by place, which says nothing of a coin.
    """
    order = np.argsort(scores, kind="stable")
    half = guesses // 2
    return int((~coins[order[:half]]).sum() + coins[order[len(order) - half :]].sum())


TEST: Final[AuditTest] = Canary()
