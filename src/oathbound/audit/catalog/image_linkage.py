"""Image linkage: whether the model links two recordings of a person more surely if it was trained on them.

`docs/audits/image-linkage.md` has the estimand, the interval and its calibration.

Of each person of a group one recording is in a gallery, and another is a probe. Two recordings of a person
are alike by themselves, and a model that sees what matters keeps that: of anybody. So members and held-out
patients have a gallery each, of one size, and the recordings are matched without the model, too.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from oathbound.audit.statistics import Group, Scores, baseline, excess, published_cost
from oathbound.audit.target import AuditedPatients, AuditTest, Floats, RecordingTarget, Target
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.catalogue import LINKAGE_THREAT
from oathbound.core.errors import NothingExamined
from oathbound.core.finding import Measured
from oathbound.core.patient import Patient

_FLAT: Final = 1e-9
"""A deviation below which a column is constant, and tells nothing."""

_STRATA: Final = "nothing: a group has one gallery"


class ImageLinkage:
    """The excess, over held-out patients, of how surely members are linked; beside it, without the model."""

    id = "image-linkage"
    version = 1
    threat = LINKAGE_THREAT

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:
        """Draw two recordings of each person, and look for the one among the others of the group."""
        if plan.linkage is None:
            raise NothingExamined("the plan links no recordings", hint="add [policy.audit.linkage]")
        if not isinstance(target, RecordingTarget):
            raise NothingExamined("the model sees no recordings")
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        groups = [
            list(_pairs(target, people, plan.linkage.gallery, rng))
            for people in (patients.members, patients.held_out)
        ]
        size = min(map(len, groups))
        if size == 0:
            raise NothingExamined(
                "one recording per patient: there are not two of a member, and of a held-out one, to link",
                hint="list the classes of more recordings, or raise most in [policy.recordings]",
            )
        shown = np.stack([pair for pairs in groups for pair in pairs[:size]])
        pushed = target.tokens_pushed
        inner = target.represent(shown.reshape(-1, shown.shape[-1])).reshape(*shown.shape[:2], -1)
        seen, raw = ([linked(part) for part in np.split(_standard(each), 2)] for each in (inner, shown))
        compared = {"verification": seen, "verification-of-values": raw}
        measures = [
            excess(score, *map(group, values), minimum=plan.minimum_patients, strata=_STRATA)
            for score, values in compared.items()
        ]
        members, held_out = compared["verification-of-values"]
        blind = baseline("recordings", members, held_out, minimum=plan.minimum_patients)
        told = (*measures, blind)
        return Measured(
            kind="measured", measures=told, tokens=published_cost(target.tokens_pushed - pushed, told)
        )


def linked(pairs: Floats) -> Scores:
    """Return how surely standardised pairs (people, 2, columns), gallery and probe, are linked: (people,).

    By cosine: the share of the others who are less alike to the probe than its own, so that the mean is the
    AUC of a person's pairs against others'. A tie is half a loss. How often the own one is the most alike of
    all, rank 1, is not told: it counts people, and small counts stay at the site.
    """
    sizes = np.linalg.norm(pairs, axis=2, keepdims=True)
    gallery, probes = np.moveaxis(np.divide(pairs, sizes, out=np.zeros_like(pairs), where=sizes > 0), 1, 0)
    alike = probes @ gallery.T
    own = np.diag(alike)[:, None]
    others = ~np.eye(len(pairs), dtype=bool)
    worse, equal = (((alike < own) & others).sum(axis=1), ((alike == own) & others).sum(axis=1))
    found: Scores = (worse + equal / 2) / (len(pairs) - 1)
    return found


def _pairs(
    target: RecordingTarget, patients: Sequence[Patient], most: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield two recordings each, (2, numbers), of the first `most` in a random order who have two."""
    found = 0
    for place in rng.permutation(len(patients)):
        recordings = target.recordings(patients[int(place)])
        if len(recordings) > 1:
            yield recordings[rng.choice(len(recordings), 2, replace=False)]
            found += 1
            if found == most:
                return


def _standard(pairs: Floats) -> Floats:
    """Give every column of (people, 2, columns) mean 0 and deviation 1; a constant one stays 0."""
    mean, deviation = pairs.mean(axis=(0, 1)), pairs.std(axis=(0, 1))
    found: Floats = (pairs - mean) / np.where(deviation > _FLAT, deviation, np.inf)
    return found


def group(values: Scores) -> Group:
    """Return the group of people who are linked so surely, in one stratum."""
    return Group(values, [()] * len(values))


TEST: Final[AuditTest] = ImageLinkage()
