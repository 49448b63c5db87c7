"""A classifier that oathbound did not train, as an audit target; used from Python.

A scikit-learn estimator is one as it is; a torch module is one with a method `predict_proba`.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.target import Floats
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Patient
from oathbound.models.model import Rows

_NORMALISED: Final = 1e-3


class Predicts(Protocol):
    """What scikit-learn calls a classifier. Without `classes_` the columns stand for 0, 1, ..."""

    def predict_proba(self, X: NDArray[Any], /) -> Any:  # noqa: N803 - scikit-learn's name
        """Return the probability of each class, shape (rows, classes), of features (rows, features)."""
        ...


class EncodesRows(Protocol):
    """What turns records into rows; our `FeatureEncoder` is one."""

    def encode_all(self, patients: Sequence[Patient]) -> Rows:
        """Return one row a patient: the features, and last the label, NaN where there is none."""
        ...


class ClassifierTarget:
    """A classifier and what makes its rows: a `RecordTarget`."""

    def __init__(self, classifier: Predicts, encoder: EncodesRows) -> None:
        self._classifier = classifier
        self._encoder = encoder
        self.tokens_pushed = 0

    def record_logprobs(self, patients: Sequence[Patient]) -> Floats:
        """Return the log-probability of each patient's label; NaN without a label.

        Raises `WrongInput` where the answers are no probabilities, or a label is none of the classes.
        """
        self.tokens_pushed += len(patients)
        rows = self._encoder.encode_all(patients)
        features, labels = rows[:, :-1], rows[:, -1]
        labelled = ~np.isnan(labels)
        logprobs = np.full(len(rows), np.nan)
        if labelled.any():
            probabilities = self._probabilities(features[labelled])
            logprobs[labelled] = np.log(self._of_labels(probabilities, labels[labelled]))
        return logprobs

    def _probabilities(self, features: Rows) -> Floats:
        answer = np.asarray(self._classifier.predict_proba(features), dtype=np.float64)
        right = answer.ndim == 2 and len(answer) == len(features) and bool(np.isfinite(answer).all())  # noqa: PLR2004 - rows and classes
        if not right or (answer < 0).any() or (np.abs(answer.sum(axis=1) - 1) > _NORMALISED).any():
            raise WrongInput(
                "the classifier's answers are not one probability for each class",
                hint="predict_proba returns a row for each patient that sums to 1",
            )
        return answer

    def _of_labels(self, probabilities: Floats, labels: Rows) -> Floats:
        classes = np.asarray(getattr(self._classifier, "classes_", np.arange(probabilities.shape[1])))
        matches = labels[:, None] == classes[None, :]
        if classes.shape != (probabilities.shape[1],) or not (matches.sum(axis=1) == 1).all():
            raise WrongInput("a record's label is none of the classes that the classifier predicts")
        # A forest says 0, which has no logarithm: the least number of single precision stands for it.
        known: Floats = probabilities[matches].clip(np.finfo(np.float32).tiny)
        return known
