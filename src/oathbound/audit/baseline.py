"""Blind baselines: whether the two groups differ for who never saw the model under audit.

Members and held-out patients are one random draw, so nothing but the model should tell them apart. Two
attackers who do not ask it try: a classifier of records, and models that saw neither group. Where one of them
succeeds, the groups differ by themselves (other hospitals, other years, records that were filtered), or the
models did see one of them; what the model under audit tells of them is then no sign of memory.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.statistics import Scores
from oathbound.core.patient import Patient

_CODES: Final = 64
_RIDGE: Final = 1.0
_STEPS: Final = 25
_SMALL: Final = 1e-6
_DAYS_OF_A_YEAR: Final = 365.25
_BIRTH: Final = "MEDS_BIRTH"
_SEX: Final = "GENDER//"

Matrix = NDArray[np.float64]


def record_scores(
    patients: Sequence[Patient], members: int, rng: np.random.Generator
) -> tuple[Scores, Scores]:
    """Return how much records look like those of the first `members` patients, and the others' the same.

    Logistic regression on what a record shows at a glance, fitted to a random half of either group and asked
    about the other half: the AUC of its answers has DeLong's error. Cross-fitting asks about everybody, but
    its fits share patients: where the groups were one, the AUC of five folds spread 1.4 times as wide as
    DeLong's error says, which is what half of the patients would give, and accused a fair draw four times
    too often.
    """
    features = record_features(patients)
    member = np.arange(len(patients)) < members
    asked = np.empty(len(patients), dtype=bool)
    for group in (member, ~member):
        asked[group] = rng.permutation(int(group.sum())) % 2 == 0
    weights = fitted(features[~asked], member[~asked])
    odds = features @ weights
    return odds[asked & member], odds[asked & ~member]


def record_features(patients: Sequence[Patient]) -> Matrix:
    """Return a column of ones, and standardised columns that do not know who is a member.

    How often a record states each of the commonest codes, and the mean of its values; how many events it has,
    of how many codes, over how many days; when it begins, and at what age.
    """
    spoken = Counter(code for patient in patients for code in {event.code for event in patient.events})
    spoken.pop(_BIRTH, None)
    ranked = sorted(spoken, key=lambda code: (not code.startswith(_SEX), -spoken[code], code))
    place = {code: column for column, code in enumerate(ranked[:_CODES])}
    counts = np.zeros((len(patients), len(place)))
    sums, valued = np.zeros_like(counts), np.zeros_like(counts)
    for row, patient in enumerate(patients):
        for event in patient.events:
            column = place.get(event.code)
            if column is None:
                continue
            counts[row, column] += 1
            if event.value is not None and math.isfinite(event.value):
                sums[row, column] += event.value
                valued[row, column] += 1
    means = np.divide(sums, valued, out=np.full_like(sums, np.nan), where=valued > 0)
    whole = np.array([list(_glance(patient)) for patient in patients])
    columns = [_standardised(part) for part in (np.log1p(counts), means, whole)]
    return np.concatenate([np.ones((len(patients), 1)), *columns], axis=1)


def _glance(patient: Patient) -> Iterator[float]:
    """Yield log numbers of events, codes and days; date, in years, and age at the first dated event."""
    dated = [event for event in patient.events if event.time is not None and event.code != _BIRTH]
    times = [event.time for event in dated if event.time is not None]
    born = [event.time for event in patient.events if event.time is not None and event.code == _BIRTH]
    yield math.log1p(len(patient.events))
    yield math.log1p(len({event.code for event in patient.events}))
    yield math.log1p((times[-1] - times[0]).days) if times else math.nan
    yield times[0].toordinal() / _DAYS_OF_A_YEAR if times else math.nan
    yield (times[0] - born[0]).days / _DAYS_OF_A_YEAR if times and born else math.nan


def _standardised(columns: Matrix) -> Matrix:
    """Return the columns that vary, with mean 0 and deviation 1, and what is missing at 0."""
    known = ~np.isnan(columns)
    n = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, columns - np.where(known, columns, 0).sum(axis=0) / n, 0)
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    varying = spread > _SMALL
    standardised: Matrix = centred[:, varying] / spread[varying]
    return standardised


def fitted(features: Matrix, label: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights of ridge logistic regression, the first of them, the constant, not shrunk.

    Newton's method, which is iteratively reweighted least squares (le Cessie, van Houwelingen 1992).
    """
    weights = np.zeros(features.shape[1])
    ridge = np.full(features.shape[1], _RIDGE)
    ridge[0] = _SMALL
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (label - chance) - ridge * weights
        curve = (features.T * (chance * (1 - chance))) @ features + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        weights += step
        if np.abs(step).max() < _SMALL:
            break
    return weights
