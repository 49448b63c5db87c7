"""How probable it is that a model states a sensitive code: unbiased estimates from continuations of a prompt.

P is the probability that any code of a set S is stated within `horizon` tokens after the prompt and before
EOS, from the whole distribution, at temperature 1. p_t(S) is the probability, given all tokens before, that
the token at t states a code of S. Every estimator here has mean P; they differ in spread, cost and in what
they ask of the model:

    SetAvoiding   probabilities   one chain for each set; never more spread than counting
    FirstHit      probabilities   one chain for all sets
    Departing     probabilities   and the true continuation: exact where one memorised path carries the risk
    Counting      samples alone   one chain for all sets

`audit/pilot.py` chooses. `docs/audits/sensitive-disclosure.md` has their derivation and their measured gains.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np

from oathbound.audit.chains import (
    NO_TOKEN,
    PROBABILITIES,
    CodeSet,
    Walked,
    counted,
    departing,
    first_hit,
    on_path,
    set_avoiding,
)
from oathbound.audit.target import Floats, HasTokens, SamplingTarget, SteppingTarget, Tokens
from oathbound.core.audit_plan import SensitiveSet
from oathbound.core.errors import WrongInput


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the attacker gives the model, and the true continuation, which the auditor alone knows."""

    tokens: tuple[int, ...]
    path: tuple[int, ...] = ()


class Estimator(Protocol):
    """One way to estimate P."""

    def estimate(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return `chains` independent, unbiased estimates of every P, shape (sets, prompts, chains).

        What does not fit in the model's context is not asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class SetAvoiding:
    """Estimates in [0, 1] from chains that never say S; `set_avoiding` has the proof."""

    target: SteppingTarget

    def estimate(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return the estimates, from chains of its own for every set."""
        estimates = np.zeros((len(sets), len(prompts), chains))
        for batch, tokens, reach in _batches(self.target, prompts, horizon, chains):
            for i, codes in enumerate(sets):
                steps = self.target.begin(tokens, chains)
                each = set_avoiding(
                    steps, len(batch) * chains, codes=codes, eos=self.target.eos, horizon=reach, rng=rng
                )
                estimates[i, batch] = each.reshape(-1, chains)
        return estimates


@dataclass(frozen=True, slots=True)
class FirstHit:
    """Estimates from free chains, which serve all sets; at most the horizon, `first_hit` has the proof.

    With M the hit (0 or 1) less the sum, which has mean 0, the estimate is the sum plus `counted` times M: 0
    is the sum alone, 1 is counting. `counted` must not come from the same chains.
    """

    target: SteppingTarget
    counted: Floats
    """For each set; shape (sets,), in [0, 1]."""

    def estimate(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return the estimates, from the same chains for every set."""
        walked = self.walk(prompts, sets, horizon=horizon, chains=chains, rng=rng)
        return walked.total + self.counted[:, None, None] * (walked.hit - walked.total)

    def walk(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Walked:
        """Return what the chains met, each of shape (sets, prompts, chains)."""
        met = Walked(*np.zeros((3, len(sets), len(prompts), chains)))
        for batch, tokens, reach in _batches(self.target, prompts, horizon, chains):
            steps, count = self.target.begin(tokens, chains), len(batch) * chains
            each = first_hit(steps, count, sets=sets, eos=self.target.eos, horizon=reach, rng=rng)
            met.hit[:, batch] = each.hit.reshape(len(sets), -1, chains)
            met.total[:, batch] = each.total.reshape(len(sets), -1, chains)
            met.squares[:, batch] = each.squares.reshape(len(sets), -1, chains)
        return met


@dataclass(frozen=True, slots=True)
class Departing:
    """Estimates in [0, 1]: exact along each prompt's path, set-avoiding for what departs from it.

    `on_path` and `departing` have the proof. A path may be any tokens, or none; the true continuation finds
    what the model memorised.
    """

    target: SteppingTarget

    def estimate(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return the estimates, from one pass along every path and then chains for every set."""
        estimates = np.zeros((len(sets), len(prompts), chains))
        for batch, tokens, reach in _batches(self.target, prompts, horizon, chains):
            paths = _paths([prompts[i] for i in batch], reach)
            along = on_path(self.target.begin(tokens, 1), paths, sets=sets, eos=self.target.eos)
            for i, codes in enumerate(sets):
                estimates[i, batch] = departing(
                    self.target.begin(tokens, chains),
                    along[i],
                    paths,
                    chains=chains,
                    codes=codes,
                    eos=self.target.eos,
                    rng=rng,
                )
        return estimates

    def bounds(
        self, prompts: Sequence[Prompt], sets: Sequence[CodeSet], *, horizon: int
    ) -> tuple[Floats, Floats]:
        """Return what P is at least and at most, each of shape (sets, prompts); nothing is drawn.

        What states S from the path, and that with all that leaves the path otherwise than by EOS. Every
        estimate lies between them.
        """
        lower, upper = np.zeros((2, len(sets), len(prompts)))
        for batch, tokens, reach in _batches(self.target, prompts, horizon, 1):
            paths = _paths([prompts[i] for i in batch], reach)
            along = on_path(self.target.begin(tokens, 1), paths, sets=sets, eos=self.target.eos)
            lower[:, batch] = [each.bound for each in along]
            upper[:, batch] = [each.bound + each.departure.sum(axis=1) for each in along]
        return lower, upper


@dataclass(frozen=True, slots=True)
class Counting:
    """Estimates of 0 or 1 from what the model says: all that can be had where no probability is seen."""

    target: SamplingTarget

    def estimate(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[CodeSet],
        *,
        horizon: int,
        chains: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return the estimates, from the same chains for every set; `WrongInput` if they are not as asked."""
        estimates = np.zeros((len(sets), len(prompts), chains))
        for batch, tokens, reach in _batches(self.target, prompts, horizon, chains):
            said = self.target.sample(tokens, chains, reach, int(rng.integers(2**63)))
            if said.shape != (len(batch) * chains, reach):
                raise WrongInput(
                    "the model gave other continuations than it was asked for", hint="its adapter is wrong"
                )
            hit = counted(said, sets=sets, eos=self.target.eos)
            estimates[:, batch] = hit.reshape(len(sets), -1, chains)
        return estimates


def _batches(
    target: HasTokens, prompts: Sequence[Prompt], horizon: int, chains: int
) -> Iterator[tuple[list[int], Tokens, int]]:
    """Yield which prompts grow together, of one length; their tokens; and how far the context lets them."""
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
    for length, same in groupby(by_length, key=lambda i: len(prompts[i].tokens)):
        reach = min(horizon, target.length - length)
        group = list(same) if reach > 0 else []
        size = max(PROBABILITIES // (target.size * chains), 1)
        for batch in (group[start : start + size] for start in range(0, len(group), size)):
            yield batch, np.array([prompts[i].tokens for i in batch], dtype=np.int64), reach


def _paths(prompts: Sequence[Prompt], reach: int) -> Tokens:
    """Return the beginning of every path, shape (prompts, reach)."""
    paths = np.full((len(prompts), reach), NO_TOKEN, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        path = prompt.path[:reach]
        paths[row, : len(path)] = path
    return paths


def states_of(target: HasTokens, sensitive: SensitiveSet) -> frozenset[int]:
    """Return every token that states a code of S; `WrongInput` if the model does not know one."""
    return frozenset[int]().union(*(target.tokens_of(code) for code in sensitive.codes))
