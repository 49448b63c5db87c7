"""The probe and the attribute on models that were trained: silent about strangers, loud about the memorised.

`docs/audits/embedding-probe.md` and `docs/audits/attribute-inference.md` quote the numbers that are logged
here, with `--log-cli-level=INFO`.

Nulls redraw, 1,000 times, who of people that a model never saw is called a member. An end that is wrong in
2.5 % of redraws exceeds 38 once in two hundred runs. Seeds are fixed.
"""

import datetime as dt
import logging
from decimal import Decimal

import numpy as np
import pytest
from planted import planted
from scipy import stats

from oathbound.audit.catalog import attribute_inference, embedding_probe
from oathbound.audit.catalog.attribute_inference import inferred
from oathbound.audit.catalog.embedding_probe import Probe, embedded
from oathbound.audit.statistics import Group, auc_difference, delong, excess, standardised_difference
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import Attribute, AuditPlan, ProbePlan, SensitiveSet
from oathbound.core.patient import Event, Patient
from oathbound.core.pooling import pool
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import BIRTH, Tokenizer

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)

REDRAWS, TOLERATED, ALPHA = 1000, 38, 0.025
CODES = tuple(f"C{i}" for i in range(10))
SEXES = ("GENDER//F", "GENDER//M")
TOKENIZER = Tokenizer(
    Vocabulary(
        codes=(*CODES, "S", *SEXES),
        edges={},
        ages=tuple(Decimal(age) for age in range(21, 80)),
        gaps=(Decimal(10), Decimal(100)),
    )
)
LENGTH = 14
SEX = Attribute(name="sex", codes=SEXES)
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    sensitive=SensitiveSet(name="S", codes=("S",), implied_by=(), prompt_events=3, horizon=2, chains=2),
    probe=ProbePlan(prompt_events=3),
    attributes=(SEX,),
)
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone


def invented(n, *, seed, foretold=0.8, later=0):
    """People with four events, the last `later` days after the third.

    The last is the secret S of a share `foretold` of those whose third code is below C5, and of the rest of
    the others. The second code is below C5 of two women in three, and of one man in three.
    """
    rng = np.random.default_rng(seed)
    return tuple(person(1_000_000 * seed + i, rng, foretold, later) for i in range(n))


def person(number, rng, foretold, later):
    day = FIRST + dt.timedelta(days=int(rng.integers(1000)))
    born = day - dt.timedelta(days=int(rng.integers(20 * 365, 80 * 365)))
    first, second, third, last = rng.integers(10, size=4)
    woman = rng.random() < (2 / 3 if second < 5 else 1 / 3)
    secret = rng.random() < (foretold if third < 5 else 1 - foretold)
    record = [Event(None, SEXES[0] if woman else SEXES[1], None), Event(born, BIRTH, None)]
    for code in (CODES[first], CODES[second], CODES[third]):
        day += dt.timedelta(days=int(rng.choice([3, 30, 300])))
        record.append(Event(day, code, None))
    record.append(Event(day + dt.timedelta(days=later), "S" if secret else CODES[last], None))
    return Patient(number, tuple(record))


def learnt(patients, *, epochs, seed):
    return planted(TOKENIZER, patients, length=LENGTH, epochs=epochs, seed=seed, rate=0.003)


def lower_end(measure):
    return pool([measure]).interval(ALPHA).lower


def counted(wrong, ends, standardised):
    """Count a redraw whose truth is 0: the ends, and those of half the error."""
    wrong += ends.lower > 0, ends.upper < 0, 2 * standardised > stats.norm.isf(ALPHA)


def redraws(n):
    rng = np.random.default_rng(3)
    for _ in range(REDRAWS):
        order = rng.permutation(n)
        yield order[: n // 2], order[n // 2 :]


def test_a_model_that_saw_nobody_is_not_accused_and_half_the_error_would_accuse():
    target = learnt(invented(200, seed=1), epochs=40, seed=1)  # it remembers others
    people, reference = invented(600, seed=2), invented(300, seed=4)
    probe = Probe.of(embedded(target, reference, PLAN.sensitive, 3))
    asked = embedded(target, people, PLAN.sensitive, 3)
    odds = np.empty(len(people))
    odds[asked.carries], odds[~asked.carries] = probe.answers(asked)
    wrong = np.zeros(3, int)
    for halves in redraws(len(people)):
        groups = [(odds[at][asked.carries[at]], odds[at][~asked.carries[at]]) for at in halves]
        ends = pool([auc_difference("probe", *groups, minimum=20)]).interval(ALPHA)
        (own, own_error), (others, others_error) = (delong(*group) for group in groups)
        counted(wrong, ends, (own - others) / np.hypot(own_error, others_error))
    log.info("null, probe: lower %d, upper %d, half the error %d of %d", *wrong, REDRAWS)
    assert wrong[:2].max() <= TOLERATED < wrong[2]

    everybody = inferred(target, people, SEX, SEXES)
    wrong = np.zeros(3, int)
    for halves in redraws(len(everybody.values)):
        groups = [Group(everybody.values[at], [everybody.strata[i] for i in at]) for at in halves]
        ends = pool([excess("sex", *groups, minimum=20, strata="s")]).interval(ALPHA)
        difference, error, _ = standardised_difference(*groups)
        counted(wrong, ends, difference / error)
    log.info("null, attribute: lower %d, upper %d, half the error %d of %d", *wrong, REDRAWS)
    assert wrong[:2].max() <= TOLERATED < wrong[2]


def test_a_model_that_knows_its_members_by_heart_is_caught_and_its_strangers_are_not():
    for seed in range(3):
        members, held_out, others, reference = (
            invented(200, seed=10 * seed + part) for part in range(10, 14)
        )
        target = learnt(members, epochs=40, seed=seed)
        for module in (attribute_inference, embedding_probe):
            for who, caught in ((members, True), (others, False)):
                patients = AuditedPatients(who, held_out, reference)
                (measure,) = module.TEST.run(target, patients, PLAN, bytes(32)).measures
                ends = pool([measure]).interval(ALPHA)
                log.info("%s %d, planted %s: %s to %s", measure.score, seed, caught, ends.lower, ends.upper)
                assert (ends.lower > Decimal("0.02")) == caught


def probed(seed, **secret):
    """Return what the probe reads of a model that knows its members by heart, and its ends."""
    members, held_out, reference = (invented(200, seed=10 * seed + part, **secret) for part in (10, 11, 13))
    target = learnt(members, epochs=40, seed=seed)
    patients = AuditedPatients(members, held_out, reference)
    (measure,) = embedding_probe.TEST.run(target, patients, PLAN, bytes(32)).measures
    ends = pool([measure]).interval(ALPHA)
    log.info("%s: %s, %s: %s to %s", secret, measure.member_auc, measure.held_out_auc, ends.lower, ends.upper)
    return measure, ends


def test_a_secret_that_nothing_foretells_has_no_direction_and_is_read_by_luck():
    found = [probed(seed, foretold=0.5) for seed in range(3)]
    away = [abs(measure.member_auc - Decimal("0.5")) for measure, _ in found]
    assert max(away) > Decimal("0.3")
    assert min(away) < Decimal("0.1")  # so the page does not promise that it is seen


@pytest.mark.parametrize("seed", range(2))
def test_a_secret_that_does_not_follow_the_prompt_at_once_is_not_seen_here_and_the_page_says_so(seed):
    _, ends = probed(seed, later=30)
    assert ends.lower < 0 < ends.upper
