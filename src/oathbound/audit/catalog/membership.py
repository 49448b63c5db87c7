"""Membership, tier 0: was this patient in the training set? `docs/audits/membership.md`.

Three scores from one pass of each record: the mean log-probability (`loss`), that of the fifth of its
tokens that are least likely (`min-k`; Shi et al. 2024), and the same after standardising each by what was
likely there (`min-k-plus-plus`; Zhang et al. 2025). A model without tokens has the first only: the
log-probability of the label. Members are compared with held-out patients of the same
site, who were set aside by a uniform random draw before training; there is no other baseline.
"""

from typing import Final

import numpy as np

from oathbound.audit.statistics import Scores, auc, published_cost, true_positive_rate
from oathbound.audit.target import AuditedPatients, AuditTest, Floats, RecordTarget, Target, TokenScores
from oathbound.core.catalogue import MEMBERSHIP_THREAT
from oathbound.core.finding import Measured
from oathbound.core.study import AuditPlan

_LEAST_LIKELY: Final = 0.2
_FLAT: Final = 1e-6
"""A deviation below which a distribution has one token only, and a z-score would divide by nothing."""


class Membership:
    """AUC, and true positive rate at a false positive rate of 1 %, of each score."""

    id = "membership"
    version = 1
    threat = MEMBERSHIP_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:  # noqa: ARG002 - part of AuditTest; nothing here is random
        """Score every patient once."""
        before = target.tokens_pushed
        people = (*patients.members, *patients.held_out)
        if isinstance(target, RecordTarget):
            by_name = {"loss": target.record_logprobs(people)}
        else:
            by_name = scores_of(target.token_logprobs([target.tokenize(patient) for patient in people]))
        boundary = len(patients.members)
        measures = [
            measure(name, _known(scores[:boundary]), _known(scores[boundary:]), minimum=plan.minimum_patients)
            for name, scores in by_name.items()
            for measure in (auc, true_positive_rate)
        ]
        cost = published_cost(target.tokens_pushed - before, measures)
        return Measured(kind="measured", measures=tuple(measures), tokens=cost)


def _known(scores: Scores) -> Scores:
    """Return the scores of those of whom there was something to learn, by a rule that no draw knows."""
    return scores[~np.isnan(scores)]


def scores_of(scored: TokenScores) -> dict[str, Scores]:
    """Return each score by name, one for each sequence, higher for what looks more like a member."""
    standardised = (scored.logprob - scored.mean) / np.maximum(scored.deviation, _FLAT)
    return {
        "loss": _mean_of_least(scored.logprob, scored, 1.0),
        "min-k": _mean_of_least(scored.logprob, scored, _LEAST_LIKELY),
        "min-k-plus-plus": _mean_of_least(standardised, scored, _LEAST_LIKELY),
    }


def _mean_of_least(values: Floats, scored: TokenScores, share: float) -> Scores:
    """Return the mean of the least `share` of each row's values, of one at least."""
    columns = np.arange(values.shape[1])
    counted = np.where(columns < scored.counts[:, None], values, np.inf)
    counted.sort(axis=1)
    taken = np.maximum(np.ceil(share * scored.counts), 1)[:, None]
    means: Scores = np.where(columns < taken, counted, 0).sum(axis=1) / taken[:, 0]
    return means


TEST: Final[AuditTest] = Membership()
