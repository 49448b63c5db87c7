"""Membership by neighbourhood comparison (Mattern et al. 2023).

A model finds what it memorised likelier than what differs from it a little. The score of a record is its
log-probability, less the mean of a few neighbours, each of which lacks one event.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.statistics import auc, published_cost
from oathbound.audit.target import AuditedPatients, AuditTest, RecordTarget, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.finding import Measured, Threat
from oathbound.core.patient import Patient

NEIGHBOURS: Final = 4


class Neighbourhood:
    """The AUC of the score, members against held-out: `measures = { auc = ["neighbourhood"] }`."""

    id = "neighbourhood"
    version = 1
    threat = Threat(
        sees="the probability of a record that it presents, and of records that lack one of its events",
        knows="the whole record of a person, and asks whether it was trained on",
    )

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Score every patient and its neighbours; `seed` draws the events that they lack."""
        before = target.tokens_pushed
        draw = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        people = (*patients.members, *patients.held_out)
        near = [neighbour for person in people for neighbour in neighbours(person, draw)]
        scores = logprobs(target, people) - logprobs(target, near).reshape(-1, NEIGHBOURS).mean(axis=1)
        members = len(patients.members)
        measure = auc(self.id, scores[:members], scores[members:], minimum=plan.minimum_patients)
        cost = published_cost(target.tokens_pushed - before, [measure])
        return Measured(kind="measured", measures=(measure,), tokens=cost)


def neighbours(patient: Patient, draw: np.random.Generator) -> list[Patient]:
    """Return records that lack one event each; a record of one event is its own neighbour."""
    events = patient.events
    if len(events) == 1:
        return [patient] * NEIGHBOURS
    lacking = draw.integers(len(events), size=NEIGHBOURS).tolist()
    return [Patient(patient.subject_id, events[:place] + events[place + 1 :]) for place in lacking]


def logprobs(target: Target, patients: Sequence[Patient]) -> NDArray[np.float64]:
    """Return how likely the model finds each record, shape (patients,): a token's mean, of sequences."""
    if isinstance(target, RecordTarget):
        return target.record_logprobs(patients)
    scored = target.token_logprobs([target.tokenize(patient) for patient in patients])
    known = np.arange(scored.logprob.shape[1]) < scored.counts[:, None]
    means: NDArray[np.float64] = np.where(known, scored.logprob, 0).sum(axis=1) / np.maximum(scored.counts, 1)
    return means


TEST: Final[AuditTest] = Neighbourhood()
