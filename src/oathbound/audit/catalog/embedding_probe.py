"""Embedding probe: what a classifier reads of a secret from the model's inner representation of a prompt.

`docs/audits/embedding-probe.md` has the estimand, the interval and its calibration.

A record's beginning foretells some of what follows, and a representation is there to hold that. The probe is
fitted on reference patients, of whom nobody is evaluated, so it has learnt what a representation tells of
anybody. Where it then reads the secrets of members better than those of held-out patients, the model put the
difference there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.baseline import fitted
from oathbound.audit.catalog.sensitive_disclosure import cut
from oathbound.audit.emission import states_of
from oathbound.audit.statistics import Scores, auc_difference, published_cost
from oathbound.audit.target import AuditedPatients, AuditTest, EmbeddingTarget, Floats, Target, embedding
from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.catalogue import PROBE_THREAT
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.finding import Measured
from oathbound.core.patient import Patient
from oathbound.core.usable import LEAST_FOR_AUC_DIFFERENCE

_FLAT: Final = 1e-6
"""A deviation below which a column of embeddings is constant, and tells nothing."""


class EmbeddingProbe:
    """AUC of the probe among members, carriers of S against others, less that among held-out patients."""

    id = "embedding-probe"
    version = 1
    threat = PROBE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:  # noqa: ARG002 - part of AuditTest; nothing is drawn
        """Fit the probe on the reference patients, and ask it about all others."""
        model = embedding(target)
        sensitive, asked = plan.sensitive, plan.probe
        if sensitive is None or asked is None:
            raise NothingExamined("the plan names no sensitive codes, or no prompts to probe")
        if not patients.reference:
            raise NothingExamined(
                "there are no reference patients, on whom the probe is fitted",
                hint="set reference in [policy.drawing], or give reference patients",
            )
        before = model.tokens_pushed
        strangers = embedded(model, patients.reference, sensitive, asked.prompt_events)
        fewest = min(int(strangers.carries.sum()), int((~strangers.carries).sum()))
        if fewest < max(plan.minimum_patients, LEAST_FOR_AUC_DIFFERENCE):
            raise NothingExamined(
                "too few reference patients have, or lack, a sensitive code after the prompt"
            )
        probe = Probe.of(strangers)
        members, held_out = (
            probe.answers(embedded(model, group, sensitive, asked.prompt_events))
            for group in (patients.members, patients.held_out)
        )
        measure = auc_difference("probe", members, held_out, minimum=plan.minimum_patients)
        cost = published_cost(model.tokens_pushed - before, [measure])
        return Measured(kind="measured", measures=(measure,), tokens=cost)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What the model makes of prompts, shape (patients, width), and whether S follows, shape (patients,)."""

    states: Floats
    carries: NDArray[np.bool_]


def embedded(
    model: EmbeddingTarget, patients: Sequence[Patient], sensitive: SensitiveSet, prompt_events: int
) -> Embedded:
    """Return the representations of the prompts of whose records something follows that the model sees.

    A prompt is made as the disclosure test makes it: without the codes of S and what implies them.
    """
    states = states_of(model, sensitive)
    stripped = {*sensitive.codes, *sensitive.implied_by}
    cuts = [cut(model, patient, stripped, prompt_events) for patient in patients]
    asked = [each for each in cuts if each.prompt and each.continuation]
    carries = np.array([not states.isdisjoint(each.continuation) for each in asked], dtype=np.bool_)
    if not asked:
        return Embedded(np.zeros((0, 0)), carries)
    found = model.embed([each.prompt for each in asked])
    if not np.isfinite(found).all():
        raise WrongInput(
            "a representation of the model is not of finite numbers", hint="the training diverged"
        )
    return Embedded(found, carries)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Ridge logistic regression on standardised representations, each column with a weight of its own."""

    mean: Floats
    scale: Floats
    weights: Floats

    @classmethod
    def of(cls, known: Embedded) -> "Probe":
        """Return the probe that fits people of whom it is known whether they carry S.

        Columns are divided by the root of their number too. So the penalty asks the same of models of any
        width: that the log-odds be about 1, unless people say otherwise.
        """
        mean, deviation = known.states.mean(axis=0), known.states.std(axis=0)
        scale = np.where(deviation > _FLAT, deviation, np.inf) * np.sqrt(known.states.shape[1])
        features = _with_constant((known.states - mean) / scale)
        return cls(mean, scale, fitted(features, known.carries))

    def answers(self, asked: Embedded) -> tuple[Scores, Scores]:
        """Return the log-odds of S, never a label: those of carriers, and those of others."""
        if not len(asked.carries):
            return np.zeros(0), np.zeros(0)
        odds = _with_constant((asked.states - self.mean) / self.scale) @ self.weights
        return odds[asked.carries], odds[~asked.carries]


def _with_constant(columns: Floats) -> Floats:
    return np.concatenate([np.ones((len(columns), 1)), columns], axis=1)


TEST: Final[AuditTest] = EmbeddingProbe()
