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
from typing import ClassVar, Protocol

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
from oathbound.audit.work import Do, Done, each
from oathbound.core.audit_plan import SensitiveSet
from oathbound.core.errors import WrongInput


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the attacker gives the model, and the true continuation, which the auditor alone knows."""

    tokens: tuple[int, ...]
    path: tuple[int, ...] = ()


class Estimator(Protocol):
    """One way to estimate P; findings say its `name`."""

    name: ClassVar[str]

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
    name: ClassVar[str] = "set-avoiding"

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
        return _estimated(self.target, _avoided, prompts, sets, horizon=horizon, chains=chains, rng=rng)


@dataclass(frozen=True, slots=True)
class FirstHit:
    """Estimates from free chains, which serve all sets; at most the horizon, `first_hit` has the proof.

    With M the hit (0 or 1) less the sum, which has mean 0, the estimate is the sum plus `counted` times M: 0
    is the sum alone, 1 is counting. `counted` must not come from the same chains.
    """

    target: SteppingTarget
    counted: Floats
    """For each set; shape (sets,), in [0, 1]."""
    name: ClassVar[str] = "first-hit"

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
        met = np.zeros((3, len(sets), len(prompts), chains))
        for places, found in _asked(
            self.target, _walked, prompts, sets, horizon=horizon, chains=chains, rng=rng
        ):
            met[:, :, places] = found
        return Walked(*met)


@dataclass(frozen=True, slots=True)
class Departing:
    """Estimates in [0, 1]: exact along each prompt's path, set-avoiding for what departs from it.

    `on_path` and `departing` have the proof. A path may be any tokens, or none; the true continuation finds
    what the model memorised.
    """

    target: SteppingTarget
    name: ClassVar[str] = "departing"

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
        return _estimated(self.target, _departed, prompts, sets, horizon=horizon, chains=chains, rng=rng)

    def bounds(
        self, prompts: Sequence[Prompt], sets: Sequence[CodeSet], *, horizon: int
    ) -> tuple[Floats, Floats]:
        """Return what P is at least and at most, each of shape (sets, prompts); nothing is drawn.

        What states S from the path, and that with all that leaves the path otherwise than by EOS. Every
        estimate lies between them.
        """
        lower, upper = np.zeros((2, len(sets), len(prompts)))
        for batch in _batches(self.target, prompts, horizon, 1):
            steps = self.target.begin(batch.prompts, 1)
            along = on_path(steps, batch.paths, sets=sets, eos=self.target.eos)
            lower[:, batch.places] = [one.bound for one in along]
            upper[:, batch.places] = [one.bound + one.departure.sum(axis=1) for one in along]
        return lower, upper


@dataclass(frozen=True, slots=True)
class Counting:
    """Estimates of 0 or 1 from what the model says: all that can be had where no probability is seen."""

    target: SamplingTarget
    name: ClassVar[str] = "counting"

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
        return _estimated(self.target, _counted, prompts, sets, horizon=horizon, chains=chains, rng=rng)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompts of one length, which grow together: `places` says which, `reach` how far the context lets them.

    `prompts` has shape (prompts, tokens), `paths` (prompts, reach).
    """

    places: list[int]
    prompts: Tokens
    paths: Tokens
    reach: int


def _batches(target: HasTokens, prompts: Sequence[Prompt], horizon: int, chains: int) -> Iterator[_Batch]:
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
    for length, same in groupby(by_length, key=lambda i: len(prompts[i].tokens)):
        reach = min(horizon, target.length - length)
        group = list(same) if reach > 0 else []
        size = max(PROBABILITIES // (target.size * chains), 1)
        for places in (group[start : start + size] for start in range(0, len(group), size)):
            tokens = np.array([prompts[i].tokens for i in places], dtype=np.int64)
            yield _Batch(places, tokens, _paths([prompts[i] for i in places], reach), reach)


def _paths(prompts: Sequence[Prompt], reach: int) -> Tokens:
    """Return the beginning of every path, shape (prompts, reach)."""
    paths = np.full((len(prompts), reach), NO_TOKEN, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        path = prompt.path[:reach]
        paths[row, : len(path)] = path
    return paths


@dataclass(frozen=True, slots=True)
class _Asked:
    """A piece of work; its estimates have shape (sets, prompts, chains)."""

    prompts: Tokens
    paths: Tokens
    chains: int
    sets: tuple[CodeSet, ...]
    seed: int

    @property
    def count(self) -> int:
        """All chains together."""
        return len(self.prompts) * self.chains

    @property
    def reach(self) -> int:
        return int(self.paths.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.sets), len(self.prompts), self.chains


def _avoided(target: SteppingTarget, asked: _Asked) -> Done:
    rng = np.random.default_rng(asked.seed)
    found = [
        set_avoiding(
            target.begin(asked.prompts, asked.chains),
            asked.count,
            codes=codes,
            eos=target.eos,
            horizon=asked.reach,
            rng=rng,
        )
        for codes in asked.sets
    ]
    return (np.reshape(found, asked.shape),)


def _walked(target: SteppingTarget, asked: _Asked) -> Done:
    """Return what free chains met: the parts of `Walked`."""
    met = first_hit(
        target.begin(asked.prompts, asked.chains),
        asked.count,
        sets=asked.sets,
        eos=target.eos,
        horizon=asked.reach,
        rng=np.random.default_rng(asked.seed),
    )
    return met.hit.reshape(asked.shape), met.total.reshape(asked.shape), met.squares.reshape(asked.shape)


def _departed(target: SteppingTarget, asked: _Asked) -> Done:
    rng = np.random.default_rng(asked.seed)
    along = on_path(target.begin(asked.prompts, 1), asked.paths, sets=asked.sets, eos=target.eos)
    found = [
        departing(
            target.begin(asked.prompts, asked.chains),
            path,
            asked.paths,
            chains=asked.chains,
            codes=codes,
            eos=target.eos,
            rng=rng,
        )
        for codes, path in zip(asked.sets, along, strict=True)
    ]
    return (np.array(found),)


def _counted(target: SamplingTarget, asked: _Asked) -> Done:
    said = target.sample(asked.prompts, asked.chains, asked.reach, asked.seed)
    if said.shape != (asked.count, asked.reach):
        raise WrongInput(
            "the model gave other continuations than it was asked for", hint="its adapter is wrong"
        )
    return (counted(said, sets=asked.sets, eos=target.eos).reshape(asked.shape),)


def _asked(
    target: HasTokens,
    do: Do,
    prompts: Sequence[Prompt],
    sets: Sequence[CodeSet],
    *,
    horizon: int,
    chains: int,
    rng: np.random.Generator,
) -> Iterator[tuple[list[int], Done]]:
    """Yield what `do` makes of every batch, and which prompts those are."""
    batches = list(_batches(target, prompts, horizon, chains))
    pieces = (
        (_Asked(batch.prompts, batch.paths, chains, tuple(sets), int(rng.integers(2**63))),)
        for batch in batches
    )
    for batch, done in zip(batches, each(target, do, pieces), strict=True):
        yield batch.places, done


def _estimated(
    target: HasTokens,
    do: Do,
    prompts: Sequence[Prompt],
    sets: Sequence[CodeSet],
    *,
    horizon: int,
    chains: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the estimates that `do` makes of all batches, shape (sets, prompts, chains)."""
    estimates = np.zeros((len(sets), len(prompts), chains))
    for places, (found,) in _asked(target, do, prompts, sets, horizon=horizon, chains=chains, rng=rng):
        estimates[:, places] = found
    return estimates


def states_of(target: HasTokens, sensitive: SensitiveSet) -> frozenset[int]:
    """Return every token that states a code of S; `WrongInput` if the model does not know one."""
    return frozenset[int]().union(*(target.tokens_of(code) for code in sensitive.codes))
