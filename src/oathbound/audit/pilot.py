"""Which estimator of emission to use: by what the model allows, or by a trial that is then thrown away.

Every estimator is unbiased, and the chains of the trial serve for nothing else: whatever they say, the
estimate that follows is unbiased. The choice is one for all prompts, members and held-out alike.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from oathbound.audit.betting import betting_limits
from oathbound.audit.chains import CodeSet, Walked
from oathbound.audit.emission import (
    Counting,
    Departing,
    Estimator,
    FirstHit,
    Prompt,
    SetAvoiding,
    states_of,
)
from oathbound.audit.target import Floats, HasTokens, SteppingTarget, sampling
from oathbound.core.audit_plan import SensitiveSet

_PROMPTS: Final = 32
_CHAINS: Final = 2
"""The fewest in which a variance shows."""

_TINY: Final = 1e-12


def choose(
    target: HasTokens,
    prompts: Sequence[Prompt],
    sets: Sequence[CodeSet],
    *,
    horizon: int,
    chains: int,
    rng: np.random.Generator,
) -> Estimator:
    """Return the estimator to use for `sets` at `chains` a prompt.

    1. A model that only samples leaves no choice but counting; one that does neither raises
       `NothingExamined`.
    2. One set, and the true continuations known: `Departing`. No trial, because few chains miss what
       matters: where a path is memorised they nearly all follow it, and seem to have no spread. It costs at
       most one chain a prompt more than `SetAvoiding`.
    3. Otherwise what has the least variance at equal cost, summed over sets, in a trial of at most 32 prompts
       drawn at random: `FirstHit`, or `Departing` (`SetAvoiding`, where no prompt has a path).
    """
    if not isinstance(target, SteppingTarget):
        return Counting(sampling(target))
    avoiding: Estimator = SetAvoiding(target)
    if any(prompt.path for prompt in prompts):
        avoiding = Departing(target)
        if len(sets) == 1:
            return avoiding
    tried = [prompts[i] for i in rng.permutation(len(prompts))[:_PROMPTS]]
    chains = max(chains, _CHAINS)
    start = target.tokens_pushed
    walker = FirstHit(target, np.zeros(len(sets)))
    weights, left = counted_share(walker.walk(tried, sets, horizon=horizon, chains=chains, rng=rng))
    between = target.tokens_pushed
    estimates = avoiding.estimate(tried, sets, horizon=horizon, chains=chains, rng=rng)
    spread = float(estimates.var(axis=2, ddof=1).mean(axis=1).sum())
    if left * (between - start) < spread * (target.tokens_pushed - between):
        return FirstHit(target, weights)
    return avoiding


def emission(
    target: HasTokens,
    prompts: Sequence[Prompt],
    sensitive: SensitiveSet,
    *,
    horizon: int,
    rng: np.random.Generator,
) -> tuple[Floats, str]:
    """Return P of each prompt, the mean of `sensitive.chains` estimates, shape (prompts,), and their name."""
    codes = CodeSet.of(target, ((token,) for token in states_of(target, sensitive)))
    way = choose(target, prompts, [codes], horizon=horizon, chains=sensitive.chains, rng=rng)
    (each,) = way.estimate(prompts, [codes], horizon=horizon, chains=sensitive.chains, rng=rng)
    return np.asarray(each.mean(axis=1)), way.name


def limits(
    way: Departing,
    prompts: Sequence[Prompt],
    codes: CodeSet,
    *,
    horizon: int,
    chains: int,
    alpha: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return the limits of P of each prompt, shape (prompts,): what a site can say to one patient.

    Every estimate lies between what is exact along the true continuation and the most that leaves it
    (`Departing.bounds`), so limits by betting on where between them hold for any model and few chains. They
    hold for each prompt with probability 1 - `alpha`, not for all at once, and never leave the site.
    """
    (least,), (most,) = way.bounds(prompts, [codes], horizon=horizon)
    (estimates,) = way.estimate(prompts, [codes], horizon=horizon, chains=chains, rng=rng)
    room = np.maximum(most - least, _TINY)[:, None]
    inside = ((estimates - least[:, None]) / room).clip(0, 1)
    lower, upper = betting_limits(inside, alpha=alpha, rng=rng)
    return least + lower * room[:, 0], np.minimum(least + upper * room[:, 0], 1)


def counted_share(walked: Walked) -> tuple[Floats, float]:
    """Return for each set how much of the hit to mix into the sum, and the variance that is left, all sets.

    With F the sum of p_t(S) up to the first hit, G that of its squares, N the hit and M = N - F: M is a
    martingale that jumps only at the hit, so E[M^2] = E[F - G] and E[F M] = -E[(F^2 - G) / 2]. The variance
    of F + w M is least at w = E[(F^2 - G) / 2] / E[F - G], for which no rare hit has to be met. It is then at
    most that of the sum (w = 0) and of counting (w = 1).
    """
    total, squares = walked.total, walked.squares
    spread = (total - squares).mean(axis=(1, 2))
    shared = ((total**2 - squares) / 2).mean(axis=(1, 2))
    weights = np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0).clip(0, 1)
    variance = total.var(axis=2, ddof=1).mean(axis=1) - 2 * weights * shared + weights**2 * spread
    return weights, float(variance.clip(0).sum())
