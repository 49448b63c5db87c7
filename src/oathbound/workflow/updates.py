"""What a study's training sends of a site's patients, for the audit that tries to bring recordings back.

By the code of `train`: the plan, the gradient, `quantise` and `DiscreteGaussian`. Not the same: all patients
are one site's, for others' are not here; without a budget nothing is rounded to the ring, which helps an
attacker; and the noise comes from the committed seed, so that a run can be repeated. It leaves the site no
more than the sum does, which is thrown away.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from oathbound.audit.target import Floats
from oathbound.core.accounting import square_norm
from oathbound.core.study import Policy
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import Words
from oathbound.hazmat.ring import quantise
from oathbound.models.family import Family
from oathbound.models.model import Rows, flat
from oathbound.train.clip import plain_sums
from oathbound.train.plan import Plan
from oathbound.workflow.families import family_of


@dataclass(frozen=True)
class Updates:
    """The first step of a policy: `audit.catalog.gradient_reconstruction.SeesUpdates`."""

    policy: Policy

    @cached_property
    def family(self) -> Family:
        """The model with its first weights, and its encoder."""
        return family_of(self.policy)

    @cached_property
    def _plan(self) -> Plan:
        return Plan.of(self.policy, flat(self.family.model).size)

    @property
    def together(self) -> int:
        """The expected patients of a step in whom a target can hide: those of sites that do not collude.

        Of `min_sites` sites with equal shares of the members; who colludes takes its own patients out.
        """
        training, honest = self.policy.training, self.policy.min_sites - self.policy.colluding
        return max(int(training.sampling_rate * training.members * honest / len(self.policy.sites)), 1)

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the noise of the shares that no attacker knows; 0 without a budget."""
        privacy = self._plan.privacy
        return float(privacy.share_sigma) * math.sqrt(privacy.honest_shares) if privacy else 0.0

    def gradient(self, row: Rows) -> Floats:
        """Return a patient's gradient, neither clipped nor rounded: [d]; one that is not finite is 0."""
        found, _ = plain_sums(self.family.model, row[None])
        return found if np.isfinite(found).all() else np.zeros_like(found)

    def clipped(self, gradient: Floats) -> Floats:
        """Return what a gradient adds to the sum of a study with a budget, in ring units: [d].

        With bands it is in several sums, times a coefficient in each; who knows the other groups' sums adds
        these up in proportion, and sees it times the coefficients' norm in the noise of one.
        """
        training = self._plan.training
        alone = gradient.astype(np.float32)[None]
        vector = quantise(alone, clip=float(training.clip), ring_norm=training.ring_norm)
        return vector.astype(np.float64) * math.sqrt(square_norm(self._plan.coefficients))

    def noise(self, words: Words) -> Floats:
        """Return the noise of the shares that no attacker knows, in ring units: [d]."""
        plan, total = self._plan, np.zeros(self._plan.dimension)
        if plan.privacy is not None:
            share = DiscreteGaussian(plan.privacy.share_sigma)
            for _ in range(plan.privacy.honest_shares):
                total += share.sample(plan.dimension, words=words)
        return total
