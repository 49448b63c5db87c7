"""Siblings of a study's model: other models by the same procedure, for the audit that plants patients.

The procedure is the one of `train`, by its own code: the plan, the sampling, `Trainer` and what it clips,
`DiscreteGaussian`, the ring, `Descent` and Adam. The accounting relies on the noise of `honest_shares` sites
in a sum; so many trainers there are here, of which one has records, and the others have none and add their
noise.

Not the same: records are those of one site; shares are added without masks and messages, for all are made
here, and masks change no sum; there is one round; nothing is charged or logged, and a sibling lives in memory
until the test that asked for it returns. It is as private as the study's own model, and its
epsilon comes on top of what is charged (LIMITATIONS.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from oathbound.audit.adapters.own import target_of
from oathbound.audit.target import Target
from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.core.one_run import delta_of
from oathbound.core.patient import Patient
from oathbound.core.shape import Seen
from oathbound.core.study import Policy
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import random_words
from oathbound.hazmat.ring import check_headroom
from oathbound.models.family import Family
from oathbound.models.model import Rows, flat, load_flat
from oathbound.train.descent import Descent
from oathbound.train.ftrl import Turns
from oathbound.train.plan import Plan
from oathbound.train.trainer import Trainer
from oathbound.workflow.families import family_of
from oathbound.workflow.members import Groups, Members

_RUN = digest(b"oathbound/sibling")
"""In the place of the checkpoint that a training starts from."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """The procedure of a policy at one of its sites: `audit.catalog.canary.TrainsSiblings`."""

    policy: Policy
    site: str

    @property
    def delta(self) -> Decimal:
        """The delta at which it is bounded."""
        return delta_of(self.policy)

    @property
    def seen(self) -> Seen:
        """What the model sees of a patient."""
        return self.policy.seen

    def untrained(self) -> Target:
        """Return the model with its first weights."""
        family = family_of(self.policy)
        return target_of(family.model, family.encoder)

    def trained(self, people: Sequence[Patient]) -> Target:
        """Return a model that was trained on these people, all steps of the plan.

        Raises `WrongInput` where their sum could wrap around the ring, `ProtocolRefused` where training
        diverges, and what `family_of` raises.
        """
        family = family_of(self.policy)
        plan = _plan_of(self.policy, self.site, flat(family.model).size, len(people))
        rows = family.encoder.encode_all(people)
        descent = Descent(plan=plan, run=_RUN, weights=flat(family.model))
        trainers = [
            _trainer(name, plan, family, rows if name == self.site else rows[:0]) for name in plan.sites
        ]
        while not descent.finished:
            step = descent.begin()
            total = np.zeros(plan.words, dtype=np.uint32)
            for trainer in trainers:
                total += trainer.share(trainer.check(step))  # modulo 2^32
            descent.take(total)
        load_flat(family.model, descent.weights)
        return target_of(family.model, family.encoder)


class Uncharged:
    """A ledger in memory: nothing is charged to anybody, and still no attempt comes twice."""

    def __init__(self) -> None:
        self._highest = 0

    def charge(self, attempt: int) -> None:
        """Remember the attempt."""
        if attempt <= self._highest:
            raise ProtocolRefused("an attempt that was charged before")
        self._highest = attempt

    def highest(self) -> int:
        """Return the highest attempt, 0 if none."""
        return self._highest


class Unkept:
    """The sums of the last steps, in memory alone."""

    def __init__(self) -> None:
        self._sums: dict[int, bytes] = {}

    def steps(self) -> tuple[int, ...]:
        """Return the steps of which there is the sum."""
        return tuple(self._sums)

    def sums(self) -> dict[int, bytes]:
        """Return the sums, by step."""
        return self._sums

    def keep(self, step: int, total: bytes, *, most: int) -> None:
        """Take a sum, and forget those before the last `most`."""
        self._sums[step] = total
        self._sums.pop(step - most, None)


def _plan_of(policy: Policy, site: str, dimension: int, people: int) -> Plan:
    """Return the study's plan with as many sites as the accounting relies on, this one first."""
    plan = Plan.of(policy, dimension)
    if plan.privacy is None:
        return replace(plan, sites=(site,))
    others = (each for each in plan.sites if each != site)
    sites = (site, *others)[: plan.privacy.honest_shares]
    check_headroom(
        patients=people,
        sampling_rate=plan.training.sampling_rate,
        ring_norm=plan.training.ring_norm * sum(plan.coefficients),
        total_sigma=plan.privacy.share_sigma * Decimal(len(sites)).sqrt(),
    )
    return replace(plan, sites=sites)


def _sampler(plan: Plan, rows: Rows) -> Members | Turns:
    """Return who is in which step: by coins, or, with bands, by turns, each in a group drawn alone."""
    everybody = np.arange(len(rows))
    if plan.training.bands is None:
        return Members(rows, everybody)
    numbers = (random_words(len(rows)) % np.uint64(plan.training.bands)).astype(np.int64)
    return Turns(Groups(rows, everybody, numbers), Unkept(), plan.coefficients)


def _trainer(name: str, plan: Plan, family: Family, rows: Rows) -> Trainer:
    return Trainer(
        site=name,
        run=_RUN,
        plan=plan,
        last_step=plan.training.steps,
        model=family.model,
        sampler=_sampler(plan, rows),
        ledger=Uncharged(),
        noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
    )
