"""Both tests on models that were really trained: silent about strangers, and loud about the memorised.

`docs/audits/` quotes the numbers that are logged here: `pytest tests/statistical/audit --log-cli-level=INFO`.

The null: a model scores, once, people whom it never saw, and who is called a member is redrawn 1,000 times.
An end that is wrong in 2.5 % of redraws exceeds 38 once in two hundred runs, and most are wrong less often.
Seeds are fixed.
"""

import datetime as dt
import itertools
import logging
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest
from planted import planted
from scipy import stats

from oathbound.audit.catalog import membership, sensitive_disclosure
from oathbound.audit.catalog.membership import scores_of
from oathbound.audit.catalog.sensitive_disclosure import carriers
from oathbound.audit.emission import Prompt
from oathbound.audit.pilot import emission
from oathbound.audit.statistics import (
    Group,
    auc,
    delong,
    excess,
    standardised_difference,
    true_positive_rate,
)
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, SensitiveSet
from oathbound.core.claims import Verdict
from oathbound.core.finding import Finding, Measured, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.intervals import normal
from oathbound.core.patient import Event, Patient
from oathbound.core.pooling import pool
from oathbound.core.shape import Vocabulary
from oathbound.core.study import Gate
from oathbound.models.tokenizer import BIRTH, Tokenizer

pytestmark = pytest.mark.statistical
log = logging.getLogger(__name__)

REDRAWS, TOLERATED, ALPHA = 1000, 38, 0.025
SCORES = ("loss", "min-k", "min-k-plus-plus")
SITES = {1: ("north",), 3: ("north", "east", "south")}
PEOPLE, MEMBERS = 1000, 560  # of a site; the others are held out, enough for a rate at 1 %

CODES = tuple(f"C{i}" for i in range(24))
VOCABULARY = Vocabulary(
    codes=(*CODES, "S", "GENDER//F", "GENDER//M"),
    edges={},
    ages=(Decimal(40), Decimal(60)),
    gaps=(Decimal(10), Decimal(100)),
)
TOKENIZER = Tokenizer(VOCABULARY)
LENGTH = 24
SENSITIVE = SensitiveSet(name="S", codes=("S",), implied_by=(), prompt_events=4, horizon=2, chains=2)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=10, sensitive=SENSITIVE)
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
DIGEST = "sha256:" + "0" * 64


def invented(n, *, seed, events=8, carriers=0.3):
    """People with some events about an illness; the fifth is, for this share of them, the secret S.

    Who carries S is a coin: no beginning of a record tells, only a memory of that record.
    """
    rng = np.random.default_rng(seed)
    return tuple(person(1_000_000 * seed + i, rng, events, carriers) for i in range(n))


def person(number, rng, events, carriers):
    day = FIRST + dt.timedelta(days=int(rng.integers(1000)))
    born = day - dt.timedelta(days=int(rng.integers(20 * 365, 80 * 365)))
    record = [Event(None, str(rng.choice(["GENDER//F", "GENDER//M"])), None), Event(born, BIRTH, None)]
    illness, secret = rng.integers(24), rng.random() < carriers
    for place in range(events):
        code = CODES[int(illness + abs(rng.normal(0, 5))) % 24]
        record.append(Event(day, "S" if secret and place == 4 else code, None))
        day += dt.timedelta(days=int(rng.choice([0, 3, 30, 300])))
    return Patient(number, tuple(record))


def learnt(patients, *, epochs, seed):
    return planted(TOKENIZER, patients, length=LENGTH, epochs=epochs, seed=seed, rate=0.01)


def verdict(findings, gates):
    """The verdict on {(test, site): measures}, by gates {(test, metric): at most}."""
    told = [
        Finding(
            test=test,
            version=1,
            site=site,
            model=DIGEST,
            seed=DIGEST,
            threat=Threat(sees="s", knows="k"),
            outcome=Measured(kind="measured", measures=tuple(measures), tokens=1),
        )
        for (test, site), measures in findings.items()
    ]
    asked = tuple(Gate(test=t, metric=metric, at_most=Decimal(most)) for (t, metric), most in gates.items())
    sites = tuple(dict.fromkeys(site for _, site in findings))
    return judge(asked, PLAN, sites, [Attempted(finding, 1) for finding in told]).verdict


class Strangers:
    """The scores of one site's people, whom the model never saw; shapes (people,) and (carriers,)."""

    def __init__(self, target, patients):
        self.scores = scores_of(target.token_logprobs([target.tokenize(patient) for patient in patients]))
        at = [(i, c) for i, patient in enumerate(patients) for c in carriers(target, [patient], SENSITIVE)]
        self.carriers = np.array([i for i, _ in at])
        self.strata = [c.stratum for _, c in at]
        rng = np.random.default_rng(0)
        starts = [Prompt(c.prompt, c.continuation) for _, c in at]
        self.emitted, _ = emission(target, starts, SENSITIVE, horizon=SENSITIVE.horizon, rng=rng)

    def auc(self, score, members, held_out):
        return auc(score, self.scores[score][members], self.scores[score][held_out], minimum=20)

    def rate(self, score, members, held_out):
        return true_positive_rate(
            score, self.scores[score][members], self.scores[score][held_out], minimum=20
        )

    def excess(self, members, held_out, *, emitted=None):
        """The excess of carriers at these places; `emitted` if it is not what the model gives."""
        groups = self.group(members, emitted), self.group(held_out)
        return excess("emission", *groups, minimum=20, strata="s")

    def group(self, at, emitted=None):
        return Group(self.emitted[at] if emitted is None else emitted, [self.strata[i] for i in at])

    def measured(self, members, held_out):
        """All that the site publishes when these people are called members, and those held out."""
        parts = (np.flatnonzero(np.isin(self.carriers, group)) for group in (members, held_out))
        return [
            *(self.auc(score, members, held_out) for score in SCORES),
            *(self.rate(score, members, held_out) for score in SCORES),
            self.excess(*parts),
        ]


@pytest.fixture(scope="module")
def strangers():
    target = learnt(invented(400, seed=1), epochs=8, seed=1)
    return [Strangers(target, invented(PEOPLE, seed=seed)) for seed in (2, 3, 4)]


def split(rng):
    order = rng.permutation(PEOPLE)
    return order[:MEMBERS], order[MEMBERS:]


CHANCE = {"auc": Decimal("0.5"), "tpr-at-1-percent": Decimal("0.01"), "excess": Decimal(0)}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_that_saw_nobody_is_not_accused(strangers, count):
    rng, below, above, verdicts = np.random.default_rng(10 + count), np.zeros(7, int), np.zeros(7, int), []
    for redraw in range(REDRAWS):
        measures = [site.measured(*split(rng)) for site in strangers[:count]]
        for i, of_sites in enumerate(zip(*measures, strict=True)):
            ends, truth = pool(of_sites).interval(ALPHA), CHANCE[of_sites[0].kind]
            below[i] += ends.lower > truth
            above[i] += ends.upper < truth
        if redraw % 5 == 0:
            told = {("membership", name): m[:3] for name, m in zip(SITES[count], measures, strict=True)}
            told |= {("sensitive-disclosure", n): m[6:] for n, m in zip(SITES[count], measures, strict=True)}
            gates = {("membership", "auc"): "0.5", ("sensitive-disclosure", "excess"): "0"}
            verdicts.append(verdict(told, gates))
    log.info("null, %d site(s): lower ends above chance %s, upper below %s", count, below, above)
    log.info("null, %d site(s): %d of 200 judged a fail", count, verdicts.count(Verdict.FAIL))
    assert max(below.max(), above.max()) <= TOLERATED
    assert max(verdicts.count(Verdict.FAIL), verdicts.count(Verdict.PASS)) <= 11  # 99.5 % of 200 at 2.5 %


def test_an_error_that_is_too_small_accuses_a_model_that_saw_nobody(strangers):
    rng, site = np.random.default_rng(20), strangers[0]
    right, wrong = np.zeros(2, int), np.zeros(2, int)
    for _ in range(REDRAWS):
        members, held_out = split(rng)
        area, own = delong(site.scores["loss"][members], site.scores["loss"][held_out])
        parts = (np.flatnonzero(np.isin(site.carriers, group)) for group in (members, held_out))
        difference, error, _ = standardised_difference(*(site.group(at) for at in parts))
        scaled = np.array([(area - 0.5) / own, difference / error])
        right += scaled > stats.norm.isf(ALPHA)
        wrong += scaled / 0.5 > stats.norm.isf(ALPHA)
    log.info("null, unrounded: AUC %d, excess %d accusations; with half the error %d, %d", *right, *wrong)
    assert right.max() <= TOLERATED < wrong.min()


def test_held_out_people_who_were_not_drawn_at_random_accuse(strangers):
    # Of the fifth of people who score highest, one in five is never held out.
    rng, wrong, site = np.random.default_rng(21), 0, strangers[0]
    high = site.scores["loss"] > np.quantile(site.scores["loss"], 0.8)
    for _ in range(REDRAWS):
        order = rng.permutation(PEOPLE)
        first = high[order] & (rng.random(PEOPLE) < 0.2)
        order = order[np.argsort(~first, kind="stable")]
        wrong += pool([site.auc("loss", order[:MEMBERS], order[MEMBERS:])]).interval(ALPHA).lower > 0.5
    log.info("null, not at random: %d accusations", wrong)
    assert wrong > TOLERATED


def share_of_higher(values, effect):
    """How many members must score as the higher of two draws, for an AUC of exactly 1/2 + `effect`."""
    _, counts = np.unique(values, return_counts=True)
    upto = np.cumsum(counts) / len(values)
    beneath = upto - counts / len(values)
    area = ((upto**2 - beneath**2) * (upto + beneath) / 2).sum()
    return effect / (area - 0.5)


@pytest.mark.parametrize("count", [1, 3])
def test_an_auc_at_the_gate_does_not_pass(strangers, count):
    # One score's end at 2.5 %; a verdict passes less often, for it asks all three at half that rate.
    rng, sites, passed, failed = np.random.default_rng(30 + count), strangers[:count], 0, 0
    shares = [share_of_higher(site.scores["loss"], 0.05) for site in sites]
    for _ in range(REDRAWS):
        measures = []
        for site, share in zip(sites, shares, strict=True):
            one, other, held_out = (rng.integers(PEOPLE, size=n) for n in (MEMBERS, MEMBERS, 440))
            higher = site.scores["loss"][other] > site.scores["loss"][one]
            swap = higher & (rng.random(MEMBERS) < share)
            measures.append(site.auc("loss", np.where(swap, other, one), held_out))
        ends = pool(measures).interval(ALPHA)
        passed += float(ends.upper) <= 0.55
        failed += float(ends.lower) > 0.55
    log.info("AUC at its gate, %d site(s): %d passed, %d failed", count, passed, failed)
    assert max(passed, failed) <= TOLERATED


def at_the_gate(site, rng):
    """What a site publishes when a few member carriers are memorised, so that the excess is 0.01."""
    order = rng.integers(len(site.emitted), size=len(site.emitted))
    members, held_out = order[: len(order) // 2], order[len(order) // 2 :]
    memorised = rng.random(len(members)) < 0.01 / (0.99 - site.emitted.mean())
    return site.excess(members, held_out, emitted=np.where(memorised, 0.99, site.emitted[members]))


@pytest.mark.parametrize("count", [1, 3])
def test_an_excess_at_the_gate_does_not_pass(strangers, count):
    rng, passed, failed, bolder = np.random.default_rng(40 + count), 0, 0, 0
    for _ in range(REDRAWS):
        pooled = pool([at_the_gate(site, rng) for site in strangers[:count]])
        ends = pooled.interval(ALPHA)
        passed += float(ends.upper) <= 0.01
        failed += float(ends.lower) > 0.01
        usual = normal(pooled.estimate, Decimal(pooled.standard_error(float(pooled.estimate))), ALPHA)
        bolder += float(usual.upper) <= 0.01
    log.info("excess at its gate, %d site(s): %d passed, %d failed", count, passed, failed)
    log.info("excess at its gate, %d site(s), a normal upper end: %d passed", count, bolder)
    assert max(passed, failed) <= TOLERATED < bolder


@dataclass(frozen=True)
class Plant:
    """How models are planted for a test: the records, the times that they are read, and the gate."""

    test: object
    metric: str
    gate: str
    events: int
    carriers: float
    weakly: int
    strongly: int


# A record that ends with the secret leaves little else to learn. An excess takes 40 carriers of each group.
PLANTS = {
    "membership": Plant(membership.TEST, "auc", "0.55", 8, 0.3, 8, 20),
    "sensitive-disclosure": Plant(sensitive_disclosure.TEST, "excess", "0.01", 5, 0.6, 30, 45),
}
AUDITED = (40, 80, 120)


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_planted_models_are_caught(plant):
    """16 models, 8 of each strength, each of 120 members of its own; audited with ever more of them."""
    caught = {}
    for epochs, seed in itertools.product((plant.weakly, plant.strongly), range(8)):
        people = invented(2 * AUDITED[-1], seed=100 + seed, events=plant.events, carriers=plant.carriers)
        members, held_out = people[: AUDITED[-1]], people[AUDITED[-1] :]
        target = learnt(members, epochs=epochs, seed=seed)
        for n in AUDITED:
            patients = AuditedPatients(members[:n], held_out[:n])
            measures = plant.test.run(target, patients, PLAN, bytes(32)).measures
            told, gates = {(plant.test.id, "north"): measures}, {(plant.test.id, plant.metric): plant.gate}
            failed = verdict(told, gates) is Verdict.FAIL
            caught.setdefault((epochs, n), []).append(failed)
            log.debug("%s, read %d times, %d: %s", plant.test.id, epochs, n, measures[0])
    for (epochs, n), failed in caught.items():
        log_caught(f"{plant.test.id}, read {epochs} times, {n} and {n}", failed)
    log_caught(f"{plant.test.id}, all, 120 and 120", caught[plant.weakly, 120] + caught[plant.strongly, 120])
    assert (
        sum(caught[plant.strongly, 120]) >= 7
    )  # all and six were; other processors learn a little otherwise
    assert sum(caught[plant.weakly, 120]) >= 4
    assert sum(caught[plant.weakly, 40]) <= sum(caught[plant.weakly, 120])


def log_caught(what, failed):
    ends = stats.binomtest(sum(failed), len(failed)).proportion_ci(0.95)
    log.info("%s: %d of %d [%.2f, %.2f]", what, sum(failed), len(failed), *ends)
