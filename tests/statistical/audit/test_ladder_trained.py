"""A ladder on a model that was really trained: more is given away to whoever knows more, of members alone."""

import datetime as dt
import logging
from decimal import Decimal

import numpy as np
import pytest
from planted import planted

from oathbound.audit.catalog.sensitive_disclosure import disclosed
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import SensitiveSet
from oathbound.core.claims import Verdict
from oathbound.core.ladder import levels, risk, sentence, state
from oathbound.core.patient import Event, Patient
from oathbound.core.rungs import ladder_of
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import BIRTH, Tokenizer

pytestmark = pytest.mark.statistical
CODES = tuple(f"C{i}" for i in range(24))
TOKENIZER = Tokenizer(
    Vocabulary(
        codes=(*CODES, "S", "GENDER//F", "GENDER//M"),
        edges={},
        ages=(Decimal(40), Decimal(60)),
        gaps=(Decimal(10), Decimal(100)),
    )
)
SENSITIVE = SensitiveSet(name="S", codes=("S",), implied_by=(), prompt_events=4, horizon=2, chains=8)
LADDER = ladder_of(("nothing", "age-and-sex", "codes-1", "codes-2", "codes-4", "codes-4-dates"), 4)
GATE = Decimal("0.05")
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone


def invented(first, n, seed):
    """People whose fifth event is, for six in ten, the secret S: a coin, which no beginning tells."""
    rng = np.random.default_rng(seed)
    return tuple(person(first + i, rng) for i in range(n))


def person(number, rng):
    day = FIRST + dt.timedelta(days=int(rng.integers(1000)))
    born = day - dt.timedelta(days=int(rng.integers(20 * 365, 80 * 365)))
    record = [Event(None, str(rng.choice(["GENDER//F", "GENDER//M"])), None), Event(born, BIRTH, None)]
    illness, secret = rng.integers(24), rng.random() < 0.6
    for place in range(8):
        code = CODES[int(illness + abs(rng.normal(0, 5))) % 24]
        record.append(Event(day, "S" if secret and place == 4 else code, None))
        day += dt.timedelta(days=int(rng.choice([0, 3, 30, 300])))
    return Patient(number, tuple(record))


MEMBERS, HELD_OUT = invented(0, 200, 1), invented(1000, 200, 2)


def climbed(epochs):
    """Train a model of one layer on the members, and return its risk along the ladder."""
    target = planted(TOKENIZER, MEMBERS, length=24, epochs=epochs, seed=1, rate=0.01)
    found = disclosed(
        target,
        AuditedPatients(MEMBERS, HELD_OUT),
        SENSITIVE,
        ladder=LADDER,
        minimum=20,
        seed=bytes(32),
    )
    for measure in found.measures:
        logging.getLogger(__name__).info(
            "%d epochs, %s: %s (%s)", epochs, measure.score, measure.estimate, measure.standard_error
        )
    risks = risk(levels(found.measures, 0.025))
    logging.getLogger(__name__).info("%s", sentence(risks, GATE))
    return found.measures, risks


def test_a_model_that_saw_nobody_exceeds_the_gate_at_no_rung():
    _, risks = climbed(0)
    assert not any(state(level, GATE) is Verdict.FAIL for level in risks)


def test_a_model_that_remembers_gives_away_more_to_whoever_knows_more():
    measures, risks = climbed(100)
    estimates = [measure.estimate for measure in measures]
    assert state(risks[-1], GATE) is Verdict.FAIL
    assert not any(state(level, GATE) is Verdict.FAIL for level in risks[:3])
    assert estimates[-1] > estimates[-2] > max(estimates[:3])
