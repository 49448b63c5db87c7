"""Every estimator of emission against exact enumeration of small models with a long memory."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from oathbound.audit import chains as walks
from oathbound.audit.chains import CodeSet, set_avoiding
from oathbound.audit.emission import Counting, Departing, FirstHit, Prompt, SetAvoiding
from oathbound.audit.pilot import choose, counted_share, limits
from oathbound.core.errors import NothingExamined

pytestmark = pytest.mark.statistical
EOS, SIZE, HORIZON, CHAINS = 0, 5, 4, 8_000
SURE = stats.norm.isf(1e-4 / 2)
"""Standard errors; a test that compares one right estimate fails once in 10,000 seeds."""


class Tree:
    """A model whose next token depends on all tokens before; `memorised` is followed with probability .97."""

    eos, size, length = EOS, SIZE, 100

    def tokenize(self, patient):
        raise NotImplementedError

    def tokens_of(self, code):
        raise NotImplementedError

    def __init__(self, seed, concentration=0.6, memorised=()):
        self.seed, self.concentration, self.memorised = seed, concentration, tuple(memorised)
        self.tokens_pushed, self._known = 0, {}

    def nexts(self, history):
        if history not in self._known:
            rng = np.random.default_rng([self.seed, *history])
            probabilities = rng.dirichlet(np.full(SIZE, self.concentration))
            t = len(history) - 1
            if t < len(self.memorised) and history[1:] == self.memorised[:t]:
                probabilities = 0.03 * probabilities + 0.97 * np.eye(SIZE)[self.memorised[t]]
            self._known[history] = probabilities
        return self._known[history]

    def begin(self, prompts, chains):
        return Grown(self, prompts.repeat(chains, axis=0))

    def sample(self, prompts, chains, horizon, seed):
        rng, steps = np.random.default_rng(seed), self.begin(prompts, chains)
        for _ in range(horizon):
            drawn = (np.exp(steps.logprobs()).cumsum(axis=1) > rng.random((len(steps.said), 1))).argmax(
                axis=1
            )
            steps.append(drawn)
        said = steps.said[:, prompts.shape[1] :]
        return np.where((said == EOS).cumsum(axis=1) > 0, EOS, said)


class Grown:
    def __init__(self, tree, said):
        self.tree, self.said = tree, said

    def logprobs(self):
        histories, inverse = np.unique(self.said, axis=0, return_inverse=True)
        with np.errstate(divide="ignore"):
            return np.log([self.tree.nexts(tuple(map(int, each))) for each in histories])[inverse]

    def append(self, tokens):
        self.tree.tokens_pushed += tokens.size
        self.said = np.concatenate([self.said, tokens[:, None]], axis=1)


def exact(tree, prompt, spellings, horizon=HORIZON):
    """P by adding up every continuation that states a spelling before EOS."""
    total = 0.0
    for said in product(range(SIZE), repeat=horizon):
        heard = said[: said.index(EOS)] if EOS in said else said
        runs = {heard[i:j] for i in range(horizon) for j in range(i + 1, horizon + 1)}
        if runs & set(spellings):
            total += np.prod([tree.nexts((*prompt, *said[:t]))[said[t]] for t in range(horizon)])
    return total


SETS = {
    "one token": [(4,)],
    "two tokens": [(3,), (4,)],
    "a pair": [(2, 3)],
    "pairs that overlap": [(2, 2), (3, 2), (1, 3, 2), (4, 4)],
    "a token, and a pair that it ends": [(4,), (2, 4), (1, 1)],
}
ESTIMATORS = {
    "set-avoiding": SetAvoiding,
    "first-hit": lambda tree: FirstHit(tree, np.zeros(1)),
    "first-hit, half counted": lambda tree: FirstHit(tree, np.full(1, 0.5)),
    "departing": Departing,
    "counting": Counting,
}
PATHS = {"none": (), "into S": (1, 2, 3), "to the end": (2, 1, EOS), "cut": (1, 1), "on and on": (1, 1, 2, 1)}


def check(estimates, truth):
    """Off by less than chance allows; returns the variance of one chain."""
    error = estimates.std(ddof=1) / np.sqrt(estimates.size)
    assert abs(estimates.mean() - truth) <= SURE * error + 1e-9
    return estimates.var()


@pytest.mark.parametrize("spellings", SETS.values(), ids=SETS)
@pytest.mark.parametrize("way", ESTIMATORS)
def test_every_estimator_is_unbiased(way, spellings):
    for seed in (1, 2):
        tree = Tree(seed, memorised=(1, 2, 3))
        (codes,), prompt = [CodeSet.of(tree, spellings)], Prompt((1,), (1, 2, 3))
        estimates = ESTIMATORS[way](tree).estimate(
            [prompt], [codes], horizon=HORIZON, chains=CHAINS, rng=np.random.default_rng(3)
        )
        truth = exact(tree, (1,), spellings)
        variance = check(estimates, truth)
        assert ((estimates >= 0) & (estimates <= HORIZON)).all()
        if way in {"set-avoiding", "departing"}:
            assert variance <= truth * (1 - truth) * 1.05
            assert estimates.max() <= 1 + 1e-9


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("spellings", SETS.values(), ids=SETS)
def test_departing_is_unbiased_along_any_path(path, spellings):
    tree = Tree(5, memorised=(1, 2))
    codes, prompt = CodeSet.of(tree, spellings), Prompt((1,), path)
    estimates = Departing(tree).estimate(
        [prompt], [codes], horizon=HORIZON, chains=CHAINS, rng=np.random.default_rng(4)
    )
    truth = exact(tree, (1,), spellings)
    check(estimates, truth)
    lower, upper = Departing(tree).bounds([prompt], [codes], horizon=HORIZON)
    assert lower <= truth + 1e-12
    assert truth <= upper + 1e-12
    assert ((lower - 1e-12 <= estimates) & (estimates <= upper + 1e-12)).all()


@pytest.mark.parametrize("path", [(), (1, 2, 3)], ids=["unknown", "memorised"])
def test_limits_of_one_patient_hold_for_few_chains_and_normal_ones_do_not(path):
    tree, alpha, audits, few = Tree(5, memorised=(1, 2, 3)), 0.1, 400, 6
    codes, prompts = CodeSet.of(tree, [(3,)]), [Prompt((1,), path)] * audits
    truth = exact(tree, (1,), [(3,)])
    way, rng = Departing(tree), np.random.default_rng(9)
    lower, upper = limits(way, prompts, codes, horizon=HORIZON, chains=few, alpha=alpha, rng=rng)
    assert ((lower > truth) | (upper < truth)).sum() <= stats.binom.isf(1e-4, audits, alpha)
    (least,), (most,) = way.bounds(prompts[:1], [codes], horizon=HORIZON)
    assert (lower >= least - 1e-9).all()
    assert (upper <= most + 1e-9).all()
    assert (upper - lower).mean() < 0.9 * (most - least)
    counted = rng.random((audits, few)) < truth  # what counting would see, and a normal interval make of it
    error = stats.norm.isf(alpha / 2) * counted.std(axis=1, ddof=1) / np.sqrt(few)
    assert (abs(counted.mean(axis=1) - truth) > error).sum() > 1.5 * alpha * audits


def test_a_memorised_path_is_known_without_a_draw():
    tree, codes = Tree(8, memorised=(1, 2, 2, 3)), [(3,)]
    (lower,), (upper,) = Departing(tree).bounds(
        [Prompt((1,), (1, 2, 2, 3))], [CodeSet.of(tree, codes)], horizon=HORIZON
    )
    assert lower <= exact(tree, (1,), codes) <= upper
    assert upper - lower < 0.1


def test_one_walk_serves_sets_and_prompts_of_several_lengths():
    tree, rng = Tree(6), np.random.default_rng(5)
    prompts = [Prompt((1, 2), (4,)), Prompt((3,)), Prompt((2, 2), (1, EOS))]
    sets = [CodeSet.of(tree, spellings) for spellings in SETS.values()]
    truths = [[exact(tree, prompt.tokens, spellings) for prompt in prompts] for spellings in SETS.values()]
    for estimator in (
        SetAvoiding(tree),
        FirstHit(tree, np.linspace(0, 1, len(sets))),
        Departing(tree),
        Counting(tree),
    ):
        estimates = estimator.estimate(prompts, sets, horizon=HORIZON, chains=CHAINS, rng=rng)
        assert estimates.shape == (len(sets), len(prompts), CHAINS)
        for row, truth in zip(estimates.reshape(-1, CHAINS), np.ravel(truths), strict=True):
            check(row, truth)


def test_on_path_is_what_enumeration_says():
    tree, path, spellings = Tree(7, memorised=(1, 2, 3)), (1, 2, 3), [(3,)]
    steps = tree.begin(np.array([[1]]), 1)
    paths = np.array([[*path, -1]])
    (found,) = walks.on_path(steps, paths, sets=[CodeSet.of(tree, spellings)], eos=EOS)
    on, bound, left = 1.0, 0.0, []
    for t, token in enumerate(path):
        nexts = tree.nexts((1, *path[:t]))
        bound += on * nexts[3]
        left.append(on * (1 - nexts[3] - nexts[EOS] - (nexts[token] if token != 3 else 0)))
        on *= nexts[token]
    np.testing.assert_allclose(found.bound, [bound])
    np.testing.assert_allclose(found.departure, [[*left, 0]])
    assert bound <= exact(tree, (1,), spellings)


def test_departing_has_no_spread_from_the_path_itself():
    """One memorised path carries the risk: what set-avoiding and counting cannot know, it knows."""
    tree = Tree(8, memorised=(1, 2, 2, 3))
    prompt, codes = [Prompt((1,), (1, 2, 2, 3))], [CodeSet.of(tree, [(3,)])]
    spread = {
        way: ESTIMATORS[way](tree)
        .estimate(prompt, codes, horizon=HORIZON, chains=CHAINS, rng=np.random.default_rng(6))
        .var()
        for way in ("set-avoiding", "departing", "counting")
    }
    assert spread["departing"] < spread["set-avoiding"] / 20 < spread["counting"] / 20


def _bound(tree, codes):
    paths = np.array([[1, 2, 3, -1]])
    return walks.on_path(tree.begin(np.array([[1]]), 1), paths, sets=[codes], eos=EOS)[0].bound


def _sum_of_all(tree, codes, rng):
    steps, total = tree.begin(np.array([[1]]), CHAINS), np.zeros(CHAINS)
    for _ in range(HORIZON):
        probabilities = np.exp(steps.logprobs())
        total += codes.mass(probabilities, steps.said[:, 1:])
        steps.append((probabilities.cumsum(axis=1) > rng.random((CHAINS, 1))).argmax(axis=1))
    return total


WRONG = {
    "EOS stops nothing": lambda tree, codes, rng: set_avoiding(
        tree.begin(np.array([[1]]), CHAINS), CHAINS, codes=codes, eos=-9, horizon=HORIZON, rng=rng
    ),
    "first hit goes on after it": _sum_of_all,
    "the bound alone": lambda tree, codes, _: np.repeat(_bound(tree, codes), 2),
    "the path counted twice": lambda tree, codes, rng: (
        _bound(tree, codes)
        + SetAvoiding(tree).estimate([Prompt((1,))], [codes], horizon=HORIZON, chains=CHAINS, rng=rng)
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_estimators_are_caught(wrong):
    tree = Tree(9, memorised=(1, 2))
    codes = CodeSet.of(tree, [(3,), (4,)])
    estimates = wrong(tree, codes, np.random.default_rng(7))
    error = estimates.std(ddof=1) / np.sqrt(estimates.size)
    assert abs(estimates.mean() - exact(tree, (1,), [(3,), (4,)])) > SURE * error + 1e-9


def test_the_counted_share_is_what_the_chains_say():
    """E[F M] and E[M^2] from sums that need no hit, against the hits; and the mixture is never worse."""
    for seed in (1, 2, 3):
        tree = Tree(seed, memorised=(1, 2))
        sets = [CodeSet.of(tree, spellings) for spellings in SETS.values()]
        walked = FirstHit(tree, np.zeros(len(sets))).walk(
            [Prompt((1,))], sets, horizon=HORIZON, chains=CHAINS, rng=np.random.default_rng(8)
        )
        martingale = walked.hit - walked.total
        for value in (
            martingale * walked.total + (walked.total**2 - walked.squares) / 2,
            martingale**2 - (walked.total - walked.squares),
        ):
            error = value.std(axis=2, ddof=1) / np.sqrt(CHAINS)
            assert (abs(value.mean(axis=2)) <= SURE * error + 1e-9).all()
        weights, variance = counted_share(walked)
        mixed = (walked.total + weights[:, None, None] * martingale).var(axis=2).sum()
        assert variance == pytest.approx(mixed, rel=0.05)
        assert mixed <= min(walked.total.var(axis=2).sum(), walked.hit.var(axis=2).sum()) * 1.02


def pilot_then_estimate(tree, codes, rng, *, reuse):
    """The mean of 2 chains of the chosen way; with `reuse`, of whichever trial agrees best."""
    prompt = [Prompt((1,))]
    options = {"horizon": HORIZON, "chains": 2}
    if not reuse:
        way = choose(tree, prompt, [codes], **options, rng=rng)
        return way.estimate(prompt, [codes], **options, rng=rng).mean()
    trials = [
        way.estimate(prompt, [codes], **options, rng=rng)
        for way in (SetAvoiding(tree), FirstHit(tree, np.zeros(1)), Departing(tree))
    ]
    return min(trials, key=np.var).mean()


@pytest.mark.parametrize("reuse", [False, True])
def test_a_choice_by_a_separate_trial_is_unbiased_and_one_by_its_own_chains_is_not(reuse):
    tree, rng = Tree(9), np.random.default_rng(9)
    codes, truth = CodeSet.of(tree, [(3,), (4,)]), exact(tree, (1,), [(3,), (4,)])
    means = np.array([pilot_then_estimate(tree, codes, rng, reuse=reuse) for _ in range(600)])
    off = abs(means.mean() - truth) / (means.std(ddof=1) / np.sqrt(len(means)))
    assert (off > SURE) == reuse


class Only:
    """A model that can do but what `abilities` says."""

    eos, size, length, tokens_pushed = EOS, SIZE, 100, 0
    tokenize = tokens_of = Tree.tokens_of

    def __init__(self, tree, *abilities):
        for ability in abilities:
            setattr(self, ability, getattr(tree, ability))


def test_the_choice_suits():
    rng, memory, diffuse = np.random.default_rng(10), Tree(12, memorised=(1, 2, 2, 3)), Tree(11, 5)
    one, known, unknown = [CodeSet.of(memory, [(3,)])], [Prompt((1,), (1, 2, 2, 3))], [Prompt((1,))]
    many = [CodeSet.of(diffuse, [(token,)]) for token in (1, 2, 3, 4)] * 5

    def chosen(target, prompts, sets):
        return choose(target, prompts, sets, horizon=2, chains=4, rng=rng)

    assert chosen(memory, known, one) == Departing(memory)
    assert memory.tokens_pushed == 0  # not tried
    assert isinstance(chosen(diffuse, unknown * 8, many), FirstHit)
    likely = [CodeSet.of(diffuse, [(1,), (2,), (3,), (4,)])]
    assert chosen(diffuse, unknown * 8, likely) == SetAvoiding(diffuse)
    sampled = Only(memory, "sample")
    assert chosen(sampled, known, one) == Counting(sampled)
    with pytest.raises(NothingExamined, match="does not show continuations"):
        chosen(Only(memory), known, one)
