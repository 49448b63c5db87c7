"""The draw of the three parts is uniform; a skewed draw is caught. Error rate of each verdict: 1e-6."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from scipy.stats import chi2

from oathbound.data.cohort import Shares, Terms, Window, admit
from oathbound.data.consent import Consent, Provision, Request
from oathbound.hazmat.random import permutation

SUBJECTS = tuple(range(20))
ROUNDS = 1500
AT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = {subject: hashlib.sha256(bytes([subject])).digest() for subject in SUBJECTS}
RULE = Provision(effect="permit", purposes=("HRESCH",))
CONSENTS = {s: (Consent(id=str(s), patient=s, status="active", provision=RULE),) for s in SUBJECTS}
TERMS = Terms(
    study="study",
    policy_digest="sha256:0",
    training=Request("HRESCH"),
    audit=Request("HRESCH"),
    window=Window(Decimal(0), Decimal(1)),
    shares=Shares(Decimal("0.25"), Decimal("0.25")),
)


class Source:
    def subjects(self):
        return SUBJECTS

    def unreadable(self):
        return frozenset()

    def duplicates(self, subjects):
        return subjects - subjects


def p_value(permute):
    held_out = Counter()
    for _ in range(ROUNDS):
        cohort = admit(Source(), TERMS, consents=CONSENTS, keys=KEYS, at=AT, permute=permute).cohort
        held_out.update(cohort.held_out)
    expected = ROUNDS * 5 / 20
    # Draws without replacement: each count's variance is n p (1 - p), and the counts sum to a constant.
    statistic = sum((held_out[s] - expected) ** 2 for s in SUBJECTS) / (ROUNDS * 0.25 * 0.75) * 19 / 20
    return chi2.sf(statistic, 19)


@pytest.mark.statistical
def test_every_patient_is_held_out_equally_often():
    assert p_value(permutation) > 1e-6


@pytest.mark.statistical
@pytest.mark.parametrize(
    "skewed",
    [
        np.arange,  # no draw at all
        lambda n: np.roll(np.arange(n), np.random.default_rng().integers(n - 4)),  # some places are likelier
    ],
)
def test_a_skewed_draw_is_caught(skewed):
    assert p_value(skewed) < 1e-6
