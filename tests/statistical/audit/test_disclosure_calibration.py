"""The set-avoiding estimator against exact enumeration, and the excess over its whole way to the verdict."""

from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from oathbound.audit.chains import CodeSet, set_avoiding
from oathbound.audit.statistics import Group, excess, standardised_difference
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import Verdict
from oathbound.core.finding import Finding, Measured, NotMeasurable, Threat
from oathbound.core.gates import Attempted, judge
from oathbound.core.pooling import pool
from oathbound.core.study import Gate

pytestmark = pytest.mark.statistical
ALPHA = 0.025
SURE = 0.9999
EOS = 0


class Markov:
    """Continuations of a Markov chain: rows of `matrix` are the next-token probabilities."""

    def __init__(self, matrix, chains):
        self.logs = np.log(matrix)
        self.state = np.full(chains, 1)

    def logprobs(self):
        return self.logs[self.state]

    def append(self, tokens):
        self.state = tokens.copy()


def matrix(concentration, seed, size=6):
    return np.random.default_rng(seed).dirichlet(np.full(size, concentration), size)


def exact(transition, avoid, horizon):
    """P(a token of `avoid` within `horizon`, before EOS) by dynamic programming."""
    absorbing = np.array(transition)
    absorbing[[EOS, *avoid]] = np.eye(len(transition))[[EOS, *avoid]]
    reached = np.linalg.matrix_power(absorbing, horizon)[1]
    return reached[avoid].sum()


def draws(transition, avoid, horizon, chains, seed, *, eos=EOS):
    rng = np.random.default_rng(seed)
    codes = CodeSet(np.array(avoid))
    return set_avoiding(Markov(transition, chains), chains, codes=codes, eos=eos, horizon=horizon, rng=rng)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("horizon", [1, 3, 12])
def test_set_avoiding_is_unbiased_and_never_worse_than_counting(concentration, horizon):
    transition, avoid, chains = matrix(concentration, 7), [4, 5], 20_000
    estimates = draws(transition, avoid, horizon, chains, seed=8)
    truth = exact(transition, avoid, horizon)
    error = estimates.std(ddof=1) / np.sqrt(chains)
    assert abs(estimates.mean() - truth) <= stats.norm.isf((1 - SURE) / 2) * error + 1e-9
    assert estimates.var() <= truth * (1 - truth) * 1.05
    assert ((estimates >= 0) & (estimates <= 1)).all()


def test_set_avoiding_agrees_with_counting():
    transition, avoid, chains, horizon = matrix(1.0, 9), [4, 5], 20_000, 6
    rng, state = np.random.default_rng(10), np.full(20_000, 1)
    for _ in range(horizon):
        moved = (transition[state].cumsum(axis=1) > rng.random((chains, 1))).argmax(axis=1)
        state = np.where(np.isin(state, [EOS, *avoid]), state, moved)
    hits = np.isin(state, avoid)
    estimates = draws(transition, avoid, horizon, chains, seed=11)
    spread = np.sqrt((hits.var() + estimates.var()) / chains)
    assert abs(hits.mean() - estimates.mean()) <= stats.norm.isf((1 - SURE) / 2) * spread


def test_an_estimator_that_forgets_the_end_of_the_record_is_caught():
    transition, avoid, horizon = matrix(1.0, 7), [4, 5], 12
    estimates = draws(transition, avoid, horizon, 20_000, seed=12, eos=-1)
    error = estimates.std(ddof=1) / np.sqrt(20_000)
    assert abs(estimates.mean() - exact(transition, avoid, horizon)) > stats.norm.isf((1 - SURE) / 2) * error


def group(rng, n, shares, shift=0.0):
    """Skewed probabilities, as models give them; the level, and the mix, differ between strata."""
    strata = rng.choice(3, n, p=shares)
    values = rng.beta(0.5, 8, n) * (1 + strata)
    return Group(np.clip(values + shift, 0, 1), [((int(s),),) for s in strata])


MEMBERS, HELD_OUT = (0.2, 0.3, 0.5), (0.5, 0.3, 0.2)


def excess_misses(sites, shift, repetitions=800):
    rng, below, above = np.random.default_rng(13), 0, 0
    for _ in range(repetitions):
        measures = [
            excess(
                "emission",
                group(rng, members, MEMBERS, shift),
                group(rng, held_out, HELD_OUT),
                minimum=20,
                strata="level",
            )
            for members, held_out in sites
        ]
        ends = pool(measures).interval(ALPHA)
        below += float(ends.upper) < shift
        above += float(ends.lower) > shift
    return below, above


@pytest.mark.parametrize("sites", [[(400, 80)], [(150, 60), (100, 50), (80, 40)]])
@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_excess_limits_cover(sites, shift):
    assert max(excess_misses(sites, shift)) <= stats.binom.ppf(SURE, 800, ALPHA)


def inferred(rng, n, prevalence):
    """What the model infers of anybody: a stratum of this prevalence, for whose people it is all but sure."""
    sure = rng.random(n) < prevalence
    values = np.where(sure, rng.beta(50, 2, n), rng.beta(1, 60, n))
    return Group(values, [((int(s),),) for s in sure])


INFERRED = [(150, 60, 0.08), (300, 60, 0.07), (1000, 100, 0.05), (400, 40, 0.11)]


def bias(members, held_out, prevalence, difference):
    """The mean difference where members and held-out are one random draw, and its standard error."""
    rng = np.random.default_rng(17)
    found = [
        difference(inferred(rng, members, prevalence), inferred(rng, held_out, prevalence))
        for _ in range(1200)
    ]
    return np.mean(found), np.std(found) / len(found) ** 0.5


@pytest.mark.parametrize("case", [*INFERRED, (300, 100, 0.1)])
def test_what_the_model_infers_of_a_rare_stratum_is_no_excess(case):
    mean, error = bias(*case, lambda *groups: standardised_difference(*groups)[0])
    assert abs(mean) <= max(2 * error, 0.002)


def split_where_held_out_fell(members, held_out):
    """The difference where the rare stratum stands alone only if five held-out carriers fell into it."""
    rare, twins = (np.array([s == ((1,),) for s in group.strata]) for group in (members, held_out))
    if twins.sum() < 5:
        return members.values.mean() - held_out.values.mean()
    of_twins, of_others = held_out.values[twins].mean(), held_out.values[~twins].mean()
    return members.values.mean() - rare.mean() * of_twins - (1 - rare.mean()) * of_others


@pytest.mark.parametrize("case", INFERRED)
def test_strata_chosen_by_the_held_out_that_fell_into_them_are_caught(case):
    mean, error = bias(*case, split_where_held_out_fell)
    assert mean > max(2 * error, 0.002)


def test_few_carriers_measure_nothing_and_their_own_variance_alone_is_caught():
    # Most have a probability near .9, and twelve members without any of the others have no spread.
    def skewed(n):
        return np.where(rng.random(n) < 0.85, 0.9, 0.05) + rng.uniform(0, 0.02, n)

    rng, wrong, tail = np.random.default_rng(18), 0, 0.0125 / 4
    for _ in range(400):
        groups = [Group(skewed(n), [((0,),)] * n) for n in (39, 40)]
        assert isinstance(excess("emission", *groups, minimum=10, strata="s"), NotMeasurable)
        groups = [Group(skewed(n), [((0,),)] * n) for n in (12, 100)]
        difference, _, _ = standardised_difference(*groups)
        own = np.sqrt(sum(each.values.var(ddof=1) / len(each.values) for each in groups))
        wrong += difference > stats.norm.isf(tail) * own
    assert wrong > stats.binom.ppf(SURE, 400, tail)


def test_the_variance_of_the_few_held_out_alone_is_caught():
    rng, wrong = np.random.default_rng(16), 0
    for _ in range(800):
        members, held_out = rng.beta(0.5, 8, 400), rng.beta(0.5, 8, 25)
        error = np.sqrt(members.var(ddof=1) / 400 + held_out.var(ddof=1) / 25)
        wrong += members.mean() - held_out.mean() > stats.norm.isf(ALPHA) * error
    assert wrong > stats.binom.ppf(SURE, 800, ALPHA)


def test_a_difference_of_means_without_strata_is_caught():
    rng, wrong = np.random.default_rng(14), 0
    for _ in range(300):
        members, held_out = group(rng, 400, MEMBERS).values, group(rng, 80, HELD_OUT).values
        wrong += stats.ttest_ind(members, held_out, equal_var=False).pvalue < 2 * ALPHA
    assert wrong > stats.binom.ppf(SURE, 300, 2 * ALPHA)


def test_a_planted_excess_is_found():
    rng, found = np.random.default_rng(15), 0
    for _ in range(200):
        members, held_out = group(rng, 800, MEMBERS, 0.08), group(rng, 200, HELD_OUT)
        measure = excess("emission", members, held_out, minimum=20, strata="level")
        found += float(pool([measure]).interval(ALPHA).lower) > 0.01
    assert found >= stats.binom.ppf(1 - SURE, 200, 0.8)


def memorised(rng, n, share):
    return Group(np.where(rng.random(n) < share, 0.95, rng.beta(1, 60, n)), [((0,),)] * n)


def judged(rng, sizes, share):
    """The claim over all sites at gate .01, where this share of members is memorised and nobody else."""
    told = [
        Finding(
            test="sensitive-disclosure",
            version=1,
            site=f"s{i}",
            model="sha256:" + "0" * 64,
            seed="sha256:" + "0" * 64,
            threat=Threat(sees="s", knows="k"),
            outcome=Measured(
                kind="measured",
                measures=(
                    excess(
                        "emission", memorised(rng, m, share), memorised(rng, h, 0), minimum=10, strata="s"
                    ),
                ),
                tokens=1,
            ),
        )
        for i, (m, h) in enumerate(sizes)
    ]
    gate = Gate(test="sensitive-disclosure", metric="excess", at_most=Decimal("0.01"))
    plan = AuditPlan(alpha=Decimal("0.05"), minimum_patients=10)
    sites = tuple(finding.site for finding in told)
    return judge((gate,), plan, sites, [Attempted(finding, 1) for finding in told]).claims[0]


@pytest.mark.parametrize("sizes", [((200, 100),) * 3, ((800, 400),) * 3, ((150, 150),)])
def test_what_is_called_detectable_fails_four_times_in_five(sizes):
    rng = np.random.default_rng(19)
    told = np.median([float(judged(rng, sizes, 0).detectable) for _ in range(30)])
    share = told / (0.95 - 1 / 61)
    failed = sum(judged(rng, sizes, share).state is Verdict.FAIL for _ in range(100))
    assert 65 <= failed <= 95
