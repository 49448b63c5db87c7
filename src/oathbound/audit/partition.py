"""One partition of a site's patients into groups, and which groups may be spoken of.

The rules are the plan's (`GroupPlan`), and read records alone: never who is a member, never what a model
says. `docs/audits/rare-subgroup.md` says why that matters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Final

from oathbound.core.audit_plan import GroupPlan
from oathbound.core.patient import Patient
from oathbound.models.tokenizer import BIRTH

_YEAR: Final = timedelta(days=365.25)


def partition(patients: Sequence[Patient], plan: GroupPlan) -> list[str]:
    """Return the group of each of `patients`, who are members and held-out together.

    How many state a code is counted among all of them, each once. Counted among members alone, as a code
    that "occurs once in training" is, a member with a rare code would belong to the group, and a held-out
    patient with the same code might not: a model that learnt nothing would seem to know the difference.
    """
    stated = [{event.code for event in patient.events} - {BIRTH} for patient in patients]
    among = Counter(chain.from_iterable(stated))
    rare = {code for code, patients_of in among.items() if patients_of <= (plan.rare or 0)}
    ruled = {
        "oldest": [plan.oldest is not None and _age(patient) >= plan.oldest * _YEAR for patient in patients],
        "rare-code": [not rare.isdisjoint(codes) for codes in stated],
        **{group.name: [not codes.isdisjoint(group.codes) for codes in stated] for group in plan.listed},
        "others": [True] * len(patients),
    }
    return [
        next(group for group, belongs in zip(ruled, row, strict=True) if belongs)
        for row in zip(*ruled.values(), strict=True)
    ]


def _age(patient: Patient) -> timedelta:
    """Return the time from birth to the last dated event; none where the record has no birth."""
    times = [event.time for event in patient.events if event.time is not None]
    born = [event.time for event in patient.events if event.code == BIRTH and event.time is not None]
    return max(times) - min(born) if born else timedelta(0)


def hidden(
    sizes: Mapping[str, tuple[int, int]],
    *,
    measurable: int,
    minimum: int,
    already: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Return the groups of which nothing is said; `sizes` has each group's members and held-out patients.

    Those with fewer than `measurable` members or held-out, and those that are hidden `already`. Other tests
    tell how many patients there are in all, so that one hidden group alone would follow by subtraction, and
    of a few that are together few each is few: the smallest of the others are hidden too, until two at least
    are, with `minimum` members and `minimum` held-out among them. Who knows this rule, all totals exactly,
    and what is said of the others, knows no hidden count to within `minimum`.
    """
    ascending = sorted(sizes, key=lambda group: min(sizes[group]))
    chosen = [group for group in ascending if group in already or min(sizes[group]) < measurable]
    left = [group for group in ascending if group not in chosen]
    while chosen and left and not _hide_each_other([sizes[group] for group in chosen], minimum):
        chosen.append(left.pop(0))
    return frozenset(chosen)


def _hide_each_other(sizes: Sequence[tuple[int, int]], minimum: int) -> bool:
    return len(sizes) > 1 and all(sum(side) >= minimum for side in zip(*sizes, strict=True))
