"""Whether findings about groups count no more patients than there are: the groups are disjoint."""

from collections.abc import Sequence
from typing import Final

from oathbound.core.finding import Auc, Excess, Measure, NotMeasurable
from oathbound.core.pooling import COUNT_SLACK

OF_GROUPS: Final = frozenset({"rare-subgroup"})
"""Tests whose scores are groups of one partition, and not attacks on everybody."""


def counts_fit(measures: Sequence[Measure], members: int, held_out: int, *, all_of_them: bool) -> bool:
    """Return whether the groups of each metric could be parts of so many patients.

    All counts are rounded, these two as well. With `all_of_them`, groups that were all measured by an AUC
    make up everybody; a classifier's may lack those without a label, and an excess is of carriers.
    """
    whole = all_of_them and not any(
        isinstance(each, NotMeasurable) and each.metric == "auc" for each in measures
    )
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
