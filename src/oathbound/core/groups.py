"""Whether findings about groups count no more patients than there are: the groups are disjoint."""

from collections.abc import Sequence
from typing import Final

from oathbound.core.finding import Auc, Baseline, Excess, Measure, NotMeasurable
from oathbound.core.pooling import COUNT_SLACK

SUPPRESSED: Final = "too few patients in this group, or in one that this one would give away"
"""Why nothing is said of a group; which of those is the small one is a fact about it."""

OF_GROUPS: Final = frozenset({"rare-subgroup"})
"""Tests whose scores are groups of one partition, and not attacks on everybody."""


def counts_fit(measures: Sequence[Measure], members: int, held_out: int, *, all_of_them: bool) -> bool:
    """Return whether the groups of each metric could be parts of so many patients.

    All counts are rounded, these two as well. With `all_of_them`, groups that were all measured by an AUC
    make up everybody; a classifier's may lack those without a label, and an excess is of carriers. One group
    is never hidden alone.
    """
    unsaid = [each for each in measures if isinstance(each, NotMeasurable) and each.metric == "auc"]
    if (
        sum(each.reason == SUPPRESSED for each in unsaid) == 1
    ):  # its number of patients would follow from the others'
        return False
    asked = (each for each in measures if isinstance(each, Baseline))
    if any(each.members > members + COUNT_SLACK or each.held_out > held_out + COUNT_SLACK for each in asked):
        return False
    whole = all_of_them and not unsaid
    for kind in (Auc, Excess):
        groups = [measure for measure in measures if isinstance(measure, kind)]
        slack = COUNT_SLACK * (len(groups) + 1)
        for total, counted in (
            (members, sum(group.members for group in groups)),
            (held_out, sum(group.held_out for group in groups)),
        ):
            if counted > total + slack:
                return False
            if kind is Auc and whole and groups and counted < total - slack:
                return False
    return True
