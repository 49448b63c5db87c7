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

_GLANCED: Final = 5
_ROWS: Final = 4096
"""Patients whose products are in memory at once."""

Matrix = NDArray[np.floating]


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
    odds = (features @ weights.astype(np.float32)).astype(np.float64)
    return odds[asked & member], odds[asked & ~member]


def record_features(patients: Sequence[Patient]) -> Matrix:
    """Return a column of ones, and standardised columns that do not know who is a member, in float32.

    How often a record states each of the commonest codes, and the mean of its values; how many events it has,
    of how many codes, over how many days; when it begins, and at what age.
    """
    spoken = Counter(code for patient in patients for code in {event.code for event in patient.events})
    spoken.pop(_BIRTH, None)
    ranked = sorted(spoken, key=lambda code: (not code.startswith(_SEX), -spoken[code], code))
    place = {code: column for column, code in enumerate(ranked[:_CODES])}
    features = np.ones((len(patients), 1 + 2 * len(place) + _GLANCED), dtype=np.float32)
    for row, patient in zip(features, patients, strict=True):
        counts, sums, valued = np.zeros((3, len(place)))
        for event in patient.events:
            column = place.get(event.code)
            if column is None:
                continue
            counts[column] += 1
            if event.value is not None and math.isfinite(event.value):
                sums[column] += event.value
                valued[column] += 1
        means = np.divide(sums, valued, out=np.full_like(sums, np.nan), where=valued > 0)
        row[1:] = [*np.log1p(counts), *means, *_glance(patient)]
    return features[:, _standardised(features)]


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


def _standardised(features: Matrix) -> NDArray[np.bool_]:
    """Give every column but the first mean 0 and deviation 1, in place, and what is missing 0.

    Returns which columns vary, and the first.
    """
    varying = np.ones(features.shape[1], dtype=bool)
    for number in range(1, features.shape[1]):
        column = features[:, number].astype(np.float64)
        known = ~np.isnan(column)
        n = max(int(known.sum()), 1)
        centred = np.where(known, column - column[known].sum() / n, 0)
        spread = math.sqrt((centred**2).sum() / n)
        varying[number] = spread > _SMALL
        features[:, number] = centred / spread if varying[number] else 0
    return varying


def fitted(features: Matrix, label: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights of ridge logistic regression, the first of them, the constant, not shrunk.

    Newton's method, which is iteratively reweighted least squares (le Cessie, van Houwelingen 1992).
    """
    weights = np.zeros(features.shape[1])
    ridge = np.full(features.shape[1], _RIDGE)
    ridge[0] = _SMALL
    for _ in range(_STEPS):
        slope, curve = -ridge * weights, np.diag(ridge)
        for start in range(0, len(features), _ROWS):
            rows = features[start : start + _ROWS].astype(np.float64)
            chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
            slope = slope + rows.T @ (label[start : start + _ROWS] - chance)
            curve += (rows.T * (chance * (1 - chance))) @ rows
        step = np.linalg.solve(curve, slope)
        weights += step
        if np.abs(step).max() < _SMALL:
            break
    return weights
