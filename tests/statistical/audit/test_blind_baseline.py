"""The record-only classifier: silent about a fair draw, loud about another hospital, and the bold ways to it.

A check is a count of misses compared with the 99.99 % quantile of the binomial at the claimed rate.
"""

import csv
import datetime as dt
import logging
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.baseline import fitted, record_features, record_scores
from oathbound.audit.catalog.membership import Membership
from oathbound.audit.statistics import baseline, delong
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.catalogue import MEMBERSHIP_THREAT
from oathbound.core.claims import SHIFTED, Verdict
from oathbound.core.finding import Finding
from oathbound.core.gates import Attempted, judge
from oathbound.core.patient import Event, Patient
from oathbound.core.study import Gate
from oathbound.core.usable import tells_apart

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)
HEART = Path(__file__).resolve().parents[4] / "shared/data/heart_uci_4sites/heart_uci_4sites.csv"
ALPHA = 0.025
DIGEST = "sha256:" + "0" * 64


def tolerated(repetitions, rate=ALPHA):
    return stats.binom.ppf(0.9999, repetitions, rate)


def invented(n, rng, *, later=0.0):
    """People with six events of ten codes; `later` years later."""
    first = dt.datetime.fromisoformat("2010-01-01") + dt.timedelta(days=365 * later)
    return [
        Patient(
            number,
            tuple(
                Event(first + dt.timedelta(days=int(day)), f"C{rng.integers(10)}", float(rng.normal()))
                for day in np.sort(rng.integers(0, 1000, 6))
            ),
        )
        for number in range(n)
    ]


def measured(members, held_out, rng):
    return baseline("records", *record_scores([*members, *held_out], len(members), rng), minimum=10)


def cross_fitted(features, member, rng):
    fold, odds = rng.permutation(len(member)) % 5, np.empty(len(member))
    for each in range(5):
        asked = fold == each
        odds[asked] = features[asked] @ fitted(features[~asked], member[~asked])
    return delong(odds[member], odds[~member])


def test_a_fair_draw_is_not_called_a_shift_and_cross_fitting_would_call_it_one():
    rng = np.random.default_rng(1)
    right, bold = np.zeros(2, int), 0
    for _ in range(200):
        people = invented(200, rng)
        area = measured(people[:120], people[120:], rng)
        distance = (float(area.estimate) - 0.5) / float(area.standard_error)
        right += [distance > 1.96, distance < -1.96]
        assert tells_apart(area, ALPHA) <= (abs(distance) > 1.8)
        estimate, error = cross_fitted(record_features(people), np.arange(200) < 120, rng)
        bold += abs(estimate - 0.5) > 1.96 * error
    log.info("fair draws, 200: %s told apart; cross-fitted %d", right, bold)
    assert right.max() <= tolerated(200)
    assert bold > tolerated(200, 2 * ALPHA)


@pytest.mark.parametrize(("later", "found"), [(0.0, False), (3.0, True)])
def test_other_years_are_a_shift(later, found):
    rng = np.random.default_rng(2)
    area = measured(invented(150, rng), invented(150, rng, later=later), rng)
    assert tells_apart(area, 0.001) is found


def hearts():
    if not HEART.exists():
        pytest.skip(f"no {HEART.name}: the folder `shared` is not beside the repository")
    with HEART.open() as file:
        rows = list(csv.DictReader(file))
    by_hospital = {}
    for number, row in enumerate(rows):
        events = []
        for column, value in row.items():
            if column in {"id", "site", "dataset"}:
                continue
            try:
                events.append(Event(None, column, float(value)))
            except ValueError:
                if value:
                    events.append(Event(None, f"{column}//{value}", None))
        by_hospital.setdefault(row.get("site") or row["dataset"], []).append(Patient(number, tuple(events)))
    return by_hospital


def test_patients_of_two_hospitals_are_told_apart_and_of_one_they_are_not():
    rng, groups = np.random.default_rng(4), sorted(hearts().items())
    for name, patients in groups:
        shuffled = [patients[i] for i in rng.permutation(len(patients))]
        half = len(shuffled) // 2
        area = measured(shuffled[:half], shuffled[half:], rng)
        if area.kind == "baseline":
            log.info("%s against itself: %s (%s)", name, area.estimate, area.standard_error)
            assert not tells_apart(area, 0.001)
    (_, first), (_, second) = groups[:2]
    area = measured(first, second, rng)
    log.info("%s against %s: %s", groups[0][0], groups[1][0], area.estimate)
    assert tells_apart(area, 0.001)


class Guessing:
    """A model that learnt nothing: what it says of a record is drawn at random."""

    tokens_pushed = 0

    def record_logprobs(self, patients):
        return -np.random.default_rng(len(patients)).exponential(size=len(patients))


def test_a_model_that_learnt_nothing_is_undecided_between_two_hospitals():
    first, second = (group for _, group in sorted(hearts().items())[:2])
    plan = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20)
    outcome = Membership().run(Guessing(), AuditedPatients(tuple(first), tuple(second)), plan, bytes(32))
    facts = {"version": 2, "model": DIGEST, "seed": DIGEST, "threat": MEMBERSHIP_THREAT}
    found = Finding(test="membership", site="a", outcome=outcome, **facts)
    gate = Gate(test="membership", metric="auc", at_most=Decimal("0.95"))
    judged = judge((gate,), plan, ("a",), [Attempted(found, 1)])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.sentence == f"undecided: membership AUC of loss at all sites: {SHIFTED}"
