"""Trajectory recall on models that were really trained: silent about strangers, loud about the memorised.

`docs/audits/trajectory-recall.md` quotes the numbers that are logged here, with `--log-cli-level=INFO`.

The null: a model goes on with the records of people whom it never saw, once, and who is called a member is
redrawn 1,000 times. An end that is wrong in 2.5 % of redraws exceeds 38 once in two hundred runs. Seeds are
fixed.
"""

import datetime as dt
import logging
from decimal import Decimal

import numpy as np
import pytest
from planted import planted
from scipy import stats

from oathbound.audit.catalog.trajectory_recall import TEST, TrajectoryRecall, begun, continued
from oathbound.audit.statistics import Group, excess, standardised_difference
from oathbound.audit.target import AuditedPatients
from oathbound.audit.timeline import lexicon_of
from oathbound.core.audit_plan import AuditPlan, TrajectoryPlan
from oathbound.core.finding import Excess
from oathbound.core.patient import Event, Patient
from oathbound.core.pooling import pool
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import BIRTH, Tokenizer

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)

REDRAWS, TOLERATED, ALPHA = 1000, 38, 0.025
PEOPLE, MEMBERS = 400, 200
SCORES = ("closeness", "closeness-published", "exact-recall")

CODES = tuple(f"C{i}" for i in range(24))
TOKENIZER = Tokenizer(
    Vocabulary(
        codes=(*CODES, "GENDER//F", "GENDER//M"),
        edges={},
        ages=(Decimal(40), Decimal(60)),
        gaps=(Decimal(10), Decimal(100)),
    )
)
LENGTH = 24
ASKED = TrajectoryPlan(prompt_events=3, horizon=8, chains=2)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, trajectories=ASKED)
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone


def invented(n, *, seed):
    """People with eight events about an illness, days or months apart."""
    rng = np.random.default_rng(seed)
    return tuple(person(1_000_000 * seed + i, rng) for i in range(n))


def person(number, rng):
    day = FIRST + dt.timedelta(days=int(rng.integers(1000)))
    born = day - dt.timedelta(days=int(rng.integers(20 * 365, 80 * 365)))
    record = [Event(None, str(rng.choice(["GENDER//F", "GENDER//M"])), None), Event(born, BIRTH, None)]
    illness = rng.integers(24)
    for _ in range(8):
        record.append(Event(day, CODES[int(illness + abs(rng.normal(0, 5))) % 24], None))
        day += dt.timedelta(days=int(rng.choice([0, 3, 30, 300])))
    return Patient(number, tuple(record))


def learnt(patients, *, epochs, seed):
    return planted(TOKENIZER, patients, length=LENGTH, epochs=epochs, seed=seed, rate=0.01)


class Strangers:
    """How near a model comes to the records of people whom it never saw; of each score, shape (people,)."""

    def __init__(self):
        target, people = learnt(invented(400, seed=1), epochs=6, seed=1), invented(PEOPLE, seed=2)
        lexicon = lexicon_of(target, people)
        everybody = begun(target, lexicon, people, ASKED)
        assert len(everybody) == PEOPLE
        said = continued(target, target, lexicon, everybody, asked=ASKED, rng=np.random.default_rng(0))
        self.near = TrajectoryRecall()._closeness(lexicon, [each.truth for each in everybody], said)
        self.strata = [each.stratum for each in everybody]

    def groups(self, score, members, held_out):
        return (Group(self.near[score][at], [self.strata[i] for i in at]) for at in (members, held_out))


@pytest.fixture(scope="module")
def strangers():
    return Strangers()


def lowers_and_uppers(measure):
    return pool([measure]).interval(ALPHA)


def test_a_model_that_saw_nobody_is_not_accused_and_half_the_error_would_accuse(strangers):
    rng, below, above, bolder = np.random.default_rng(3), *(dict.fromkeys(SCORES, 0) for _ in range(3))
    for _ in range(REDRAWS):
        order = rng.permutation(PEOPLE)
        for score in SCORES:
            groups = list(strangers.groups(score, order[:MEMBERS], order[MEMBERS:]))
            ends = lowers_and_uppers(excess(score, *groups, minimum=20, strata="s"))
            below[score] += ends.lower > 0
            above[score] += ends.upper < 0
            difference, error, _ = standardised_difference(*groups)
            bolder[score] += difference / (error / 2) > stats.norm.isf(ALPHA)
    log.info("null: lower ends above 0 %s, upper below %s; with half the error %s", below, above, bolder)
    assert max(*below.values(), *above.values()) <= TOLERATED < min(bolder.values())


def test_the_interval_covers_the_excess_of_a_share_that_is_known_by_heart(strangers):
    rng, share = np.random.default_rng(4), 0.1
    for score in SCORES:
        values = strangers.near[score]
        truth = share * (1 - values.mean())
        missed = np.zeros(3, int)
        for _ in range(REDRAWS):
            members, held_out = rng.integers(PEOPLE, size=150), rng.integers(PEOPLE, size=100)
            own, others = strangers.groups(score, members, held_out)
            own.values[rng.random(150) < share] = 1
            measure = excess(score, own, others, minimum=20, strata="s")
            ends = lowers_and_uppers(measure)
            missed += (ends.lower > truth, ends.upper < truth, _third(measure).lower > truth)
        log.info(
            "coverage, %s, excess %.3f: lower above %d, upper below %d, a third %d", score, truth, *missed
        )
        assert missed[:2].max() <= TOLERATED < missed[2]


def _third(measure):
    return lowers_and_uppers(
        measure.model_copy(update={"standard_error": (measure.standard_error / 3).quantize(Decimal("0.001"))})
    )


def test_a_model_that_knows_its_members_by_heart_is_caught_and_its_strangers_are_not():
    caught = dict.fromkeys(SCORES, 0)
    for seed in range(4):
        members, held_out, others = (invented(80, seed=10 * seed + part) for part in (10, 11, 12))
        target = learnt(members, epochs=60, seed=seed)
        for measure in TEST.run(target, AuditedPatients(members, held_out), PLAN, bytes(32)).measures:
            assert isinstance(measure, Excess)
            caught[measure.score] += lowers_and_uppers(measure).lower > Decimal("0.02")
            log.info(
                "planted %d: %s %s, error %s", seed, measure.score, measure.estimate, measure.standard_error
            )
        for measure in TEST.run(target, AuditedPatients(others, held_out), PLAN, bytes(32)).measures:
            assert lowers_and_uppers(measure).lower <= Decimal("0.02")
    log.info("planted, lower end above 0.02: %s of 4", caught)
    assert caught["closeness"] == caught["exact-recall"] == 4
