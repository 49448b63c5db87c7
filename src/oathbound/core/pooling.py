"""Measures of one metric from several sites as one estimate with an interval; of one site, as itself.

Contrasts stay within a site: what is averaged are the sites' own contrasts, weighted by their published
numbers of members (for an excess, of carriers), so that no site's case mix is held against another's.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Protocol

from oathbound.core.finding import Auc, AucDifference, Excess, Reconstruction, TruePositiveRate
from oathbound.core.intervals import (
    UNIT,
    Interval,
    clopper_pearson,
    hanley_mcneil,
    logit,
    normal,
    quantile,
    score_limits,
)

COUNT_SLACK: Final = 2
"""The most by which a count rounded to a multiple of 5 differs from the true one."""

_CHANCE: Final = Decimal("0.5")
_CONTROL: Final = 0.025
"""The error rate of finding that an attack works where it does not."""

FEWEST_HITS: Final = 10
"""Fewer members found, or all but fewer, are published as none, or as all."""

_LEAST_EXCESS: Final = Decimal(-1)

_HALF_A_UNIT: Final = 0.0005
"""The most by which a published mean differs from the true one."""

Usable = Auc | AucDifference | TruePositiveRate | Excess | Reconstruction


class Pool(Protocol):
    """An estimate that several sites make together. `members` and `held_out` are sums of rounded counts."""

    members: int
    held_out: int
    estimate: Decimal

    def interval(self, alpha: float) -> Interval:
        """Return both one-sided ends, each wrong with probability at most `alpha` below one half."""
        ...

    def standard_error(self, value: float) -> float:
        """Return the standard error of the estimate if the truth were `value`, or the estimate if larger."""
        ...

    def published_error(self, value: float) -> float:
        """Return the standard error that these sites would publish with an estimate of `value`, as above."""
        ...


def pool(measures: Sequence[Usable]) -> Pool:
    """Return the pool of measures of one kind, one for each site; `ValueError` on none or several kinds."""
    aucs = [measure for measure in measures if isinstance(measure, Auc)]
    differences = [measure for measure in measures if isinstance(measure, AucDifference)]
    rates = [measure for measure in measures if isinstance(measure, TruePositiveRate)]
    excesses = [measure for measure in measures if isinstance(measure, Excess)]
    if aucs and len(aucs) == len(measures):
        return Aucs(aucs, [auc.members for auc in aucs])
    if differences and len(differences) == len(measures):
        return AucDifferences(differences)
    if rates and len(rates) == len(measures):
        return _Rates(rates)
    if excesses and len(excesses) == len(measures):
        return Excesses(excesses)
    brought_back = [measure for measure in measures if isinstance(measure, Reconstruction)]
    if brought_back and len(brought_back) == len(measures):
        return Reconstructions(brought_back)
    raise ValueError("a pool holds measures of one kind, and at least one")


def worst(measures: Sequence[Usable]) -> Usable:
    """Return the measure that speaks most against the model."""
    return max(measures, key=lambda measure: pool([measure]).estimate)


class Aucs:
    """Weighted mean of AUCs; SE = sqrt(sum (w SE) ** 2), for the sites' patients are different people.

    `weights` of the sites are in any unit.
    """

    def __init__(self, aucs: Sequence[Auc], weights: Sequence[int]) -> None:
        self.sites = aucs
        self.members = sum(auc.members for auc in aucs)
        self.held_out = sum(auc.held_out for auc in aucs)
        total = sum(weights)
        self._weights = [weight / total for weight in weights]
        weighted = (auc.estimate * weight for auc, weight in zip(aucs, weights, strict=True))
        self.estimate = sum(weighted, Decimal(0)) / total

    def interval(self, alpha: float) -> Interval:
        """Return logit limits, and where they are wider the score limits with Hanley and McNeil's error.

        DeLong's error is itself estimated. Forty patients of a group often miss the few that an AUC near 1
        loses to, or a rare high score among many ties, and then it is too small (decision 12).

        Where every site's members all outrank its held-out, sites i with m_i pairs and AUC A_i do so with
        probability prod A_i ** m_i, which the inequality of the means bounds by A ** m for the weighted
        mean A and m = min(m_i / w_i): the exact limit of `intervals.logit` with m pairs. Where only some
        do, their DeLong error of zero is replaced by the reach of their own exact limit.
        """
        if self.estimate in (0, 1) and all(auc.standard_error == 0 for auc in self.sites):
            pairs = min(_pairs(auc) / weight for auc, weight in zip(self.sites, self._weights, strict=True))
            return logit(self.estimate, Decimal(0), math.floor(pairs), alpha)
        own = logit(self.estimate, Decimal(self._error(alpha)), 0, alpha)
        assumed = score_limits(self.estimate, self._error_at, alpha, least=0)
        return Interval(min(own.lower, assumed.lower), max(own.upper, assumed.upper))

    def turned(self, alpha: float) -> Decimal:
        """Return how high the AUC may be of an attacker who turns the score round, with error rate `alpha`.

        Which way to turn it an attacker may learn at each site by itself, so a site where it surely lies
        below one half counts by itself, too.
        """
        alone = (Aucs([auc], [1]).interval(alpha) for auc in self.sites)
        surely = (1 - ends.lower for ends in alone if ends.upper < _CHANCE)
        return max((1 - self.interval(alpha).lower, *surely))

    def standard_error(self, value: float) -> float:  # noqa: ARG002 - part of Pool; DeLong's is what it is
        """Return the standard error of the mean, at a two-sided 5 % where a site's members outrank all."""
        return self._error(0.025)

    published_error = standard_error

    def _error(self, alpha: float) -> float:
        errors = [
            float(auc.standard_error) if auc.standard_error > 0 else _reach(auc, alpha) for auc in self.sites
        ]
        return math.hypot(*(weight * error for weight, error in zip(self._weights, errors, strict=True)))

    def _error_at(self, value: float) -> float:
        """Return the standard error of the mean if every site's AUC were `value`."""
        return math.hypot(
            *(
                weight * hanley_mcneil(value, _at_least(auc.members), _at_least(auc.held_out))
                for weight, auc in zip(self._weights, self.sites, strict=True)
            )
        )


def _at_least(count: int) -> int:
    """Return the least number of patients that a published count stands for, and 1 where that is none."""
    return max(count - COUNT_SLACK, 1)


def _pairs(auc: Auc) -> int:
    return max(min(auc.members, auc.held_out) - COUNT_SLACK, 0)


def _reach(auc: Auc, alpha: float) -> float:
    exact = logit(auc.estimate, Decimal(0), _pairs(auc), alpha)
    return float(exact.upper - exact.lower) / quantile(alpha)


class AucDifferences:
    """Weighted mean of the sites' own differences, as that of two means of AUCs of different people."""

    def __init__(self, differences: Sequence[AucDifference]) -> None:
        weights = [difference.members for difference in differences]
        self._own = Aucs([difference.of_members for difference in differences], weights)
        self._others = Aucs([difference.of_held_out for difference in differences], weights)
        self.members, self.held_out = self._own.members, self._others.members
        self.estimate = self._own.estimate - self._others.estimate

    def interval(self, alpha: float) -> Interval:
        """Return the limits that follow from those of either AUC.

        Each AUC has its variance near either limit recovered from the distance to that limit (Newcombe 1998,
        method 10; Zou and Donner 2008): the ends are as far from the estimate as the hypotenuse of the two
        distances that it moves towards. So they are not symmetric where an AUC is near 0 or 1, and
        stay honest where all carriers of a group outrank its others, and its error is 0.
        """
        own, others = self._own.interval(alpha), self._others.interval(alpha)
        here, there = self._own.estimate, self._others.estimate
        return Interval(
            (self.estimate - _hypotenuse(here - own.lower, others.upper - there)).quantize(UNIT, ROUND_FLOOR),
            (self.estimate + _hypotenuse(own.upper - here, there - others.lower)).quantize(
                UNIT, ROUND_CEILING
            ),
        )

    def turned(self, alpha: float) -> Decimal:
        """Return how far below one half the AUC among members may lie, with error rate `alpha`.

        An attacker turns such a score round, and so far above one half it is right then: `Aucs.turned`.
        """
        return self._own.turned(alpha) - _CHANCE

    def standard_error(self, value: float) -> float:
        """Return the standard error of the difference, at a two-sided 5 % where all carriers outrank."""
        return math.hypot(self._own.standard_error(value), self._others.standard_error(value))

    published_error = standard_error


def _hypotenuse(one: Decimal, other: Decimal) -> Decimal:
    return (one**2 + other**2).sqrt()


class _Rates:
    """Hits of all sites over members of all sites; each site's threshold is its own."""

    def __init__(self, rates: Sequence[TruePositiveRate]) -> None:
        self.members = sum(rate.members for rate in rates)
        self.held_out = sum(rate.held_out for rate in rates)
        self._slack = COUNT_SLACK * len(rates)
        self._lower_hits = sum(rate.lower_hits for rate in rates)
        self._upper_hits = sum(rate.upper_hits for rate in rates)
        self.estimate = Decimal(self._lower_hits + self._upper_hits) / (2 * self.members)

    def interval(self, alpha: float) -> Interval:
        """Return Clopper-Pearson limits at `alpha` / 2; the thresholds' own 1.25 % are the other half.

        Rounded counts are moved outward first. Members of several sites hit with different probabilities;
        their sum then varies less than a binomial, so the limits hold for the mean (Hoeffding 1956).
        """
        least, most = max(self.members - self._slack, 1), self.members + self._slack
        lower = clopper_pearson(max(self._lower_hits - self._slack, 0), most, alpha / 2).lower
        upper = clopper_pearson(min(self._upper_hits + self._slack, least), least, alpha / 2).upper
        return Interval(lower, upper)

    def standard_error(self, value: float) -> float:
        """Return the binomial standard error at the estimate or `value`, whichever is larger."""
        rate = min(max(float(self.estimate), value), 0.5)
        return math.sqrt(rate * (1 - rate) / self.members)

    published_error = standard_error


class Reconstructions:
    """Members found in what the study opens over members attacked, less what guessing finds."""

    def __init__(self, sites: Sequence[Reconstruction]) -> None:
        self.members = sum(site.members for site in sites)
        self.held_out = sum(site.held_out for site in sites)
        self._slack = COUNT_SLACK * len(sites)
        ends = [hits_between(site.opened, site.members) for site in sites]
        self._least_hits, self._most_hits = sum(low for low, _ in ends), sum(high for _, high in ends)
        self._share = min(_own_share(site) for site in sites)
        self._chance = sum((site.chance * site.members for site in sites), Decimal(0)) / self.members
        self._bare = sum(hits_between(site.bare, site.members)[0] for site in sites)
        # a count that is suppressed is taken for the middle of what it can be
        shown = [
            Decimal(low + high) / 2 if site.opened in (0, site.members) else Decimal(site.opened)
            for site, (low, high) in zip(sites, ends, strict=True)
        ]
        self.estimate = min(sum(shown, Decimal(0)) / self.members, Decimal(1)) - self._chance

    @property
    def control(self) -> Decimal:
        """The lower end, with error rate .025, of what is found in bare gradients, less chance."""
        found = _lower_rate(self._bare, self.members + self._slack, self._share, _CONTROL)
        return found - self._chance

    def interval(self, alpha: float) -> Interval:
        """Return Clopper-Pearson limits of the rate, less chance; counts are moved outward first.

        Members of several sites are found with different probabilities; see `_Rates`.
        """
        least, most = max(self.members - self._slack, 1), self.members + self._slack
        lower = _lower_rate(self._least_hits, most, self._share, alpha) - self._chance
        upper = _upper_rate(min(self._most_hits, least), least, self._share, alpha) - self._chance
        return Interval(lower.quantize(UNIT, ROUND_FLOOR), upper.quantize(UNIT, ROUND_CEILING))

    def standard_error(self, value: float) -> float:
        """Return the binomial standard error at the estimate or `value`, whichever is larger."""
        rate = min(max(float(self.estimate), value) + float(self._chance), 0.5)
        return math.sqrt(rate * (1 - rate) / (self.members * self._share))

    published_error = standard_error


def hits_between(hits: int, members: int) -> tuple[int, int]:
    """Return the least and the most that a published number of members found can stand for."""
    low = members - COUNT_SLACK - FEWEST_HITS + 1 if hits == members else hits - COUNT_SLACK
    high = FEWEST_HITS - 1 if hits == 0 else hits + COUNT_SLACK
    return max(low, 0), min(high, members + COUNT_SLACK)


def controlled(measure: Reconstruction) -> bool:
    """Whether the attack surely does better than guessing where it sees one patient's bare gradient.

    One that does not shows nothing by finding nobody in a sum.
    """
    return Reconstructions([measure]).control > 0


def _own_share(measure: Reconstruction) -> float:
    """Return of what share of the targets it is as if each had decoys of its own.

    Targets share the h people of whom decoys are drawn, so they are found together, or not. An image that is
    nobody's beats u ** d of d decoys, u uniform: the people add a variance of Var(u ** d) / h to that of m
    coins, 1 / (d + 1) (1 - 1 / (d + 1)) / m, where Var(u ** d) is less than half of the coin's variance for
    every d. So they are worth 1 / (1 / m + 1 / 2h) coins.
    """
    held_out = 2 * max(measure.held_out - COUNT_SLACK, 1)
    return held_out / (held_out + measure.members)


def _lower_rate(hits: int, members: int, share: float, alpha: float) -> Decimal:
    """Return the lower end of a rate where only a share of the members counts."""
    most = math.ceil(members * share)
    return clopper_pearson(min(math.floor(hits * share), most), most, alpha).lower


def _upper_rate(hits: int, members: int, share: float, alpha: float) -> Decimal:
    """Return the upper end of a rate where only a share of the members counts."""
    least = max(math.floor(members * share), 1)
    return clopper_pearson(min(math.ceil(hits * share), least), least, alpha).upper


class Excesses:
    """Mean of excesses, weighted by member carriers."""

    def __init__(self, excesses: Sequence[Excess]) -> None:
        self.sites = excesses
        self.members = sum(excess.members for excess in excesses)
        self.held_out = sum(excess.held_out for excess in excesses)
        weighted = (excess.estimate * excess.members for excess in excesses)
        self.estimate = sum(weighted, Decimal(0)) / self.members
        self._error = math.hypot(
            *(excess.members / self.members * float(excess.standard_error) for excess in excesses)
        )
        self._least = max(self.members - COUNT_SLACK * len(excesses), 1)
        weights = [excess.members / self.members for excess in excesses]
        self._scarce = max(
            weight / _at_least(excess.held_out) for weight, excess in zip(weights, excesses, strict=True)
        )
        self._held_out_mean = _HALF_A_UNIT + sum(
            weight * float(excess.held_out_mean) for weight, excess in zip(weights, excesses, strict=True)
        )
        self._foreseen = sum(
            (excess.members / self.members) ** 2 * _published_variance(excess) for excess in excesses
        )

    def interval(self, alpha: float) -> Interval:
        """Return a normal lower end, and the upper score limit with the variance of what was missed.

        One member in a hundred whose code the model states for certain adds an excess of 1 %, and sixty
        members hold none of those more often than not: estimate and error are then both near nothing
        (decision 12). So it is where one held-out patient in a hundred is answered otherwise than all others,
        and forty of them hold none (decision 18). The upper end is normal only in the limit; with no excess
        and no error it is z ** 2 / members, as Wilson's, where the held-out are not fewer.
        """
        lower = max(normal(self.estimate, Decimal(self._error), alpha).lower, _LEAST_EXCESS)
        return Interval(lower, score_limits(self.estimate, self.standard_error, alpha, least=-1).upper)

    def turned(self, alpha: float) -> Decimal:
        """Return how far below nothing the excess may lie, with error rate `alpha`; a site as in `Aucs`."""
        alone = (Excesses([excess]).interval(alpha) for excess in self.sites)
        surely = (-ends.lower for ends in alone if ends.upper < 0)
        return max((-self.interval(alpha).lower, *surely))

    def standard_error(self, value: float) -> float:
        """Return the standard error of the mean if the excess were `value` or the estimate, the larger.

        What the members fall short of `value` by, they have missed: a probability is at most 1, so patients
        who would have added d to the mean add at most d to the variance of one member. Or the held-out have
        missed it: patients who would have taken d from their mean, at most all of it, add at most d to the
        variance of one of them. Whoever has the fewer patients is taken to have missed what they can.
        """
        missed = max(value - float(self.estimate), 0.0)
        below = min(missed, self._held_out_mean) if self._scarce > 1 / self._least else 0.0
        return math.sqrt(self._error**2 + (missed - below) / self._least + below * self._scarce)

    def published_error(self, value: float) -> float:
        """Return the standard error that the sites would publish with an excess of `value`."""
        missed = max(value - float(self.estimate), 0.0)
        return math.sqrt(self._error**2 + missed * self._foreseen)


def _published_variance(excess: Excess) -> float:
    """Return what one more unit of a member's variance adds to the variance that a site publishes.

    1 / m for the members' mean; and as the variance of the h held-out is taken from both groups together,
    m / (m + h) of it over h for theirs.
    """
    members, held_out = _at_least(excess.members), _at_least(excess.held_out)
    return 1 / members + members / (members + held_out) / held_out
