"""Membership: was this patient in the training set? `docs/audits/membership.md`.

Tier 0, from one pass of each record: the mean log-probability (`loss`), that of the fifth of its tokens that
are least likely (`min-k`; Shi et al. 2024), and the same after standardising each by what was likely there
(`min-k-plus-plus`; Zhang et al. 2025). A model without tokens has the first only: the log-probability of the
label.

Tier 1, from reference models, which saw nobody evaluated (`audit.references`): `reference-difference`, `rmia`
and `lira`. Members are compared with held-out patients of the same site, who were set aside by a uniform
random draw before training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.baseline import record_scores
from oathbound.audit.references import References, RefersTo
from oathbound.audit.statistics import Scores, auc, baseline, published_cost, tail, true_positive_rate
from oathbound.audit.target import (
    AuditedPatients,
    AuditTest,
    Floats,
    RecordTarget,
    ScoringTarget,
    Target,
    Tokens,
    TokenScores,
    scoring,
)
from oathbound.audit.work import Done, each
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.catalogue import MEMBERSHIP_THREAT, REFERENCE_THREAT
from oathbound.core.errors import Unavailable
from oathbound.core.finding import Measure, Measured, NotMeasurable
from oathbound.core.patient import Patient

TIER_1: Final = ("lira", "reference-difference", "rmia")

_LEAST_LIKELY: Final = 0.2
_FLAT: Final = 1e-6
"""A deviation below which a distribution has one token only, and a z-score would divide by nothing."""

_SURE: Final = -1e-6
"""The highest log-probability of which log-odds are taken: single precision knows no higher one below 0."""

_TIER_0: Final = ("loss", "min-k", "min-k-plus-plus")
_BLOCK: Final = 1024
"""Patients whose tokens are in memory at once."""

_METRICS: Final = ("auc", "tpr-at-1-percent", "tail")


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds each record, shape (patients,): `logprob` and `logodds`, means over tokens.

    NaN of a patient of whom there was nothing to learn.
    """

    logprob: Floats
    logodds: Floats


class Membership:
    """AUC, true positive rate at a false positive rate of 1 %, and tail of each score; blind baselines.

    Without `refers_to` the scores are those of tier 0.
    """

    id = "membership"
    version = 2

    def __init__(self, refers_to: RefersTo | None = None) -> None:
        self._refers_to = refers_to
        self.threat = MEMBERSHIP_THREAT if refers_to is None else REFERENCE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Score every patient once, by the model and by each reference model."""
        before = target.tokens_pushed
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        people, boundary = patients.evaluated, len(patients.members)
        by_name, own = examined(target, people)
        blind = {"records": record_scores(people, boundary, rng)}
        missing: list[Measure] = []
        if self._refers_to is not None:
            try:
                found = self._refers_to.references(patients.reference, rng)
            except Unavailable as error:
                missing = _missing(TIER_1, error.message, baselines=("references",))
            else:
                strangers = [examined(model, people)[1] for model in found.targets]
                by_name |= tier_1(target, own, strangers, found)
                alone: Scores = np.mean([each.logprob for each in strangers], axis=0)
                blind["references"] = _known(alone[:boundary]), _known(alone[boundary:])
        least = plan.minimum_patients
        everybody = boundary, len(people) - boundary
        measures: list[Measure] = [
            baseline(name, *groups, minimum=least, halves_of=everybody if name == "records" else None)
            for name, groups in blind.items()
        ]
        for name, scores in by_name.items():
            if np.isnan(scores).all():
                missing += _missing((name,), "the model tells too little of its probabilities")
                continue
            groups = _known(scores[:boundary]), _known(scores[boundary:])
            measures += [
                auc(name, *groups, minimum=least),
                true_positive_rate(name, *groups, minimum=least),
                tail(name, *groups, minimum=least, rng=rng),
            ]
        measures += missing
        cost = published_cost(target.tokens_pushed - before, measures)
        return Measured(kind="measured", measures=tuple(measures), tokens=cost)


def _missing(scores: Iterable[str], reason: str, *, baselines: Iterable[str] = ()) -> list[Measure]:
    """Return what stands for the measures of these scores, and baselines."""
    lacking = [("baseline", name) for name in baselines]
    lacking += [(metric, score) for score in scores for metric in _METRICS]
    return [
        NotMeasurable(kind="not-measurable", metric=metric, score=score, reason=reason)
        for metric, score in lacking
    ]


def _known(scores: Scores) -> Scores:
    """Return the scores of those of whom there was something to learn, by a rule that no draw knows."""
    return scores[~np.isnan(scores)]


def examined(target: Target, people: Sequence[Patient]) -> tuple[dict[str, Scores], Likelihood]:
    """Return the scores of tier 0 by name, and what tier 1 needs of the model."""
    if isinstance(target, RecordTarget):
        blocks = (people[start : start + _BLOCK] for start in range(0, len(people), _BLOCK))
        logprob = np.concatenate([target.record_logprobs(block) for block in blocks])
        return {"loss": logprob}, Likelihood(logprob, _log_odds(logprob))
    model = scoring(target)
    blocks = (people[start : start + _BLOCK] for start in range(0, len(people), _BLOCK))
    pieces = (_packed([model.tokenize(patient) for patient in block]) for block in blocks)
    done = list(each(model, _examined, pieces))
    (*tier_0, logodds) = np.concatenate([np.zeros((len(_TIER_0) + 1, 0)), *done], axis=1)
    scores = dict(zip(_TIER_0, tier_0, strict=True))
    return scores, Likelihood(scores["loss"], logodds)


def _packed(sequences: Sequence[Sequence[int]]) -> tuple[Tokens, Tokens]:
    """Return the sequences one behind the other, and where each but the last ends."""
    counts = [len(sequence) for sequence in sequences]
    return np.fromiter(chain.from_iterable(sequences), np.int64), np.cumsum(counts[:-1], dtype=np.int64)


def _examined(target: ScoringTarget, tokens: Tokens, ends: Tokens) -> Done:
    """Return the scores of tier 0 in the order of `_TIER_0`, and the log-odds of tier 1."""
    scored = target.token_logprobs([part.tolist() for part in np.split(tokens, ends)])
    scores = scores_of(scored)
    return *(scores[name] for name in _TIER_0), _mean_of_least(_log_odds(scored.logprob), scored, 1.0)


def scores_of(scored: TokenScores) -> dict[str, Scores]:
    """Return each score of tier 0 by name, one a sequence, higher for what looks more like a member."""
    standardised = (scored.logprob - scored.mean) / np.maximum(scored.deviation, _FLAT)
    return {
        "loss": _mean_of_least(scored.logprob, scored, 1.0),
        "min-k": _mean_of_least(scored.logprob, scored, _LEAST_LIKELY),
        "min-k-plus-plus": _mean_of_least(standardised, scored, _LEAST_LIKELY),
    }


def _mean_of_least(values: Floats, scored: TokenScores, share: float) -> Scores:
    """Return the mean of the least `share` of each row's values, one at least; NaN where one is not told."""
    columns = np.arange(values.shape[1])
    counted = np.where(columns < scored.counts[:, None], values, np.inf)
    untold = np.isnan(counted).any(axis=1)
    counted.sort(axis=1)
    taken = np.maximum(np.ceil(share * scored.counts), 1)[:, None]
    means: Scores = np.where(columns < taken, counted, 0).sum(axis=1) / taken[:, 0]
    means[untold] = np.nan
    return means


def _log_odds(logprob: Floats) -> Floats:
    sure = np.minimum(logprob, _SURE)
    odds: Floats = sure - np.log(-np.expm1(sure))
    return odds


def tier_1(
    target: Target, own: Likelihood, strangers: Sequence[Likelihood], found: References
) -> dict[str, Scores]:
    """Return each score of tier 1 by name, of people of whom target and references gave these likelihoods.

    A patient's score is one number of the whole record. L is the mean log-probability of its tokens.

    * `reference-difference`: L less the mean of the reference models' L.
    * `rmia` (Zarifzadeh, Liu, Shokri 2024, algorithm 1): the share of population patients z with
      (p(x) / mean p'(x)) / (p(z) / mean p'(z)) >= gamma. Here p is exp L, gamma is 1, z are the reference
      patients, and both means are over the reference models that did not train on x or z (offline, and a = 1
      in their equation 10: nothing stands for the models that would have).
    * `lira` (Carlini et al. 2022, algorithm 1 offline): how far the mean log-odds of the tokens lies above
      the mean of the reference models', in deviations. Few models do not give each patient a deviation, so
      all have one, as the paper does then; their z is published for its order, so the one does not matter.
    """
    logprob = np.stack([each.logprob for each in strangers])
    population, *by_reference = (
        examined(model, found.people)[1].logprob for model in (target, *found.targets)
    )
    x = own.logprob - _log_mean(logprob, np.ones_like(logprob, dtype=bool))
    z = np.sort(_known(population - _log_mean(np.stack(by_reference), found.unseen)))
    beaten = np.searchsorted(z, x, side="right") / z.size if z.size else np.full_like(x, np.nan)
    return {
        "lira": own.logodds - np.mean([each.logodds for each in strangers], axis=0),
        "reference-difference": own.logprob - logprob.mean(axis=0),
        "rmia": np.where(np.isnan(x), np.nan, beaten),
    }


def _log_mean(logs: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Return log of the mean of exp over the first axis, of what is counted: shape (patients,)."""
    with np.errstate(invalid="ignore"):  # a patient of whom there is nothing to learn stays NaN
        sums = np.logaddexp.reduce(np.where(counted, logs, -np.inf))
    means: Floats = sums - np.log(counted.sum(axis=0))
    return means


TEST: Final[AuditTest] = Membership()
