"""Chains of tokens that look for sensitive codes, one step of the model at a time.

p_t(S) is the probability, given all tokens before, that the token at t states a code of the set S. P is the
probability that any does so within the horizon and before EOS. `audit/emission.py` makes estimates of these.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.target import Floats, HasTokens, SteppingTarget, Steps, Tokens
from oathbound.audit.work import Done, each
from oathbound.core.errors import NothingExamined, WrongInput

Flags = NDArray[np.bool_]
Spelling = tuple[int, ...]
"""The tokens that state a code when they follow each other."""

NO_TOKEN: Final = -1
"""Stands in an array of tokens where there is none, such as beyond the end of a path."""


PROBABILITIES: Final = 2**20
"""The most next-token probabilities held at once; 8 MiB in float64."""


def drawn(target: SteppingTarget, prompts: Tokens, chains: int, horizon: int, seed: int) -> Tokens:
    """Return `chains` adjacent continuations of each prompt, shape (prompts x chains, horizon).

    From the whole distribution, at temperature 1. After EOS, and beyond the context, every entry is EOS.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    size = max(PROBABILITIES // (target.size * chains), 1)
    starts = range(0, len(prompts), size)
    pieces = ((prompts[at : at + size], chains, horizon, int(rng.integers(2**63))) for at in starts)
    said = [tokens for (tokens,) in each(target, _continued, pieces)]
    return np.concatenate([np.zeros((0, horizon)), *said]).astype(np.int64)


def _probabilities(steps: Steps) -> Floats:
    """Return the probability of every next token, (continuations, size); `WrongInput` where one is none."""
    probabilities: Floats = np.exp(steps.logprobs())
    if np.isnan(probabilities).any():  # a patient left out for it would be no random one
        raise WrongInput("a probability of the model is not a number", hint="the training diverged")
    return probabilities


def _continued(target: SteppingTarget, prompts: Tokens, chains: int, horizon: int, seed: int) -> Done:
    """Return `drawn` of prompts that are few enough, as float64, which holds every token exactly."""
    rng = np.random.default_rng(seed)
    rows = np.full((len(prompts) * chains, horizon), target.eos, dtype=np.int64)
    alive = np.ones(len(rows), dtype=bool)
    steps = target.begin(prompts, chains)
    for step in range(min(horizon, target.length - prompts.shape[1])):
        if step:
            steps.append(rows[:, step - 1])
        cumulative = _probabilities(steps).cumsum(axis=1)
        uniform = rng.random((len(rows), 1)) * cumulative[:, -1:]
        rows[alive, step] = (cumulative > uniform).argmax(axis=1)[alive]
        alive &= rows[:, step] != target.eos
        if not alive.any():
            break
    return (rows.astype(np.float64),)


@dataclass(frozen=True, slots=True)
class CodeSet:
    """The codes of S as a model spells them; `of` makes one.

    A code of several tokens is stated by its last, where the others stand before it in the continuation. A
    run of tokens that begins in the prompt states nothing.
    """

    alone: Tokens
    completed: tuple[tuple[int, tuple[Spelling, ...]], ...] = ()

    @classmethod
    def of(cls, target: HasTokens, spellings: Iterable[Spelling]) -> Self:
        """Return the set of these spellings.

        Raises `NothingExamined` without any, and `WrongInput` for a spelling that the model cannot say before
        the end of a record.
        """
        distinct = set(spellings)
        if not distinct:
            raise NothingExamined("the set has no codes", hint="name at least one code that the model knows")
        for spelling in distinct:
            if not (spelling and all(0 <= token < target.size and token != target.eos for token in spelling)):
                raise WrongInput(
                    "a code is spelled with no token, one beyond the vocabulary, or the end of a record",
                    hint="the adapter's vocabulary is wrong",
                )
        alone = sorted(spelling[0] for spelling in distinct if len(spelling) == 1)
        beginnings: dict[int, list[Spelling]] = {}
        for spelling in sorted(distinct):
            if spelling[-1] not in alone:
                beginnings.setdefault(spelling[-1], []).append(spelling[:-1])
        completed = tuple((token, tuple(ways)) for token, ways in beginnings.items())
        return cls(np.array(alone, dtype=np.int64), completed)

    def mass(self, probabilities: Floats, said: Tokens) -> Floats:
        """Return p_t(S) of each chain, shape (chains,), after `said`, shape (chains, t)."""
        mass = probabilities[:, self.alone].sum(axis=1)
        for token, rows in self._completing(said):
            mass += np.where(rows, probabilities[:, token], 0)
        return np.asarray(mass.clip(0, 1))

    def forbid(self, probabilities: Floats, said: Tokens) -> None:
        """Set to zero, in place, the probability of every token that would state a code."""
        probabilities[:, self.alone] = 0
        for token, rows in self._completing(said):
            probabilities[rows, token] = 0

    def stated(self, tokens: Tokens, said: Tokens) -> Flags:
        """Return which of these next tokens state a code, shape (chains,)."""
        stated: Flags = np.isin(tokens, self.alone)
        for token, rows in self._completing(said):
            stated |= (tokens == token) & rows
        return stated

    def _completing(self, said: Tokens) -> Iterator[tuple[int, Flags]]:
        """Yield each last token of a longer code, and the chains in which it would complete one."""
        for token, beginnings in self.completed:
            rows = np.zeros(len(said), dtype=bool)
            for beginning in beginnings:
                if len(beginning) <= said.shape[1]:
                    rows |= (said[:, said.shape[1] - len(beginning) :] == beginning).all(axis=1)
            yield token, rows


def set_avoiding(
    steps: Steps, chains: int, *, codes: CodeSet, eos: int, horizon: int, rng: np.random.Generator
) -> Floats:
    """Return 1 - W of each chain, shape (chains,), where W is the product of 1 - p_t(S).

    Tokens are drawn from the model's distribution without S; EOS is never avoided, and freezes W. A
    continuation x that never states S has probability prod p_t(x_t) under the model and
    prod p_t(x_t) / (1 - p_t(S)) here, so E[W] is the probability that S is not stated. W lies in [0, 1], so
    its variance is at most E[W] (1 - E[W]), that of counting.
    """
    weight, alive = np.ones(chains), np.ones(chains, dtype=bool)
    said = np.full((chains, horizon), NO_TOKEN, dtype=np.int64)
    for step in range(horizon):
        if step:
            steps.append(said[:, step - 1])
        probabilities, before = _probabilities(steps), said[:, :step]
        weight = np.where(alive, weight * (1 - codes.mass(probabilities, before)), weight)
        codes.forbid(probabilities, before)
        said[:, step], possible = _drawn(probabilities, rng)
        alive &= possible & (said[:, step] != eos)
        if not alive.any():
            break
    return 1 - weight


@dataclass(frozen=True, slots=True)
class Walked:
    """What free chains met, (sets, chains) or (sets, prompts, chains): `hit` 0 or 1, and sums up to it.

    `total` sums p_t(S), `squares` its square.
    """

    hit: Floats
    total: Floats
    squares: Floats


def first_hit(
    steps: Steps, chains: int, *, sets: Sequence[CodeSet], eos: int, horizon: int, rng: np.random.Generator
) -> Walked:
    """Walk chains drawn from the model as it is, and sum p_t(S) for every set up to its own first hit.

    Let o_t be 1 while neither S nor EOS came before t; it is known before the token at t is drawn, so
    E[o_t p_t(S)] is the probability that t is the first hit. Those events exclude each other: the sum over
    t has mean P. The proof is the same for every set, so one chain serves all. The sum may exceed 1.
    """
    open_ = np.ones((len(sets), chains), dtype=bool)
    hit, total, squares = np.zeros((3, len(sets), chains))
    said = np.full((chains, horizon), NO_TOKEN, dtype=np.int64)
    for step in range(horizon):
        if step:
            steps.append(said[:, step - 1])
        probabilities, before = _probabilities(steps), said[:, :step]
        drawn, _ = _drawn(probabilities, rng)
        for i, codes in enumerate(sets):
            mass = np.where(open_[i], codes.mass(probabilities, before), 0)
            stated = codes.stated(drawn, before)
            total[i] += mass
            squares[i] += mass**2
            hit[i] += open_[i] & stated
            open_[i] &= ~stated & (drawn != eos)
        said[:, step] = drawn
        if not open_.any():
            break
    return Walked(hit, total, squares)


def counted(said: Tokens, *, sets: Sequence[CodeSet], eos: int) -> Floats:
    """Return whether each continuation states each set before EOS, 0 or 1, shape (sets, continuations)."""
    hit = np.zeros((len(sets), len(said)))
    alive = np.ones(len(said), dtype=bool)
    for step in range(said.shape[1]):
        for i, codes in enumerate(sets):
            hit[i, alive & codes.stated(said[:, step], said[:, :step])] = 1
        alive &= said[:, step] != eos
    return hit


@dataclass(frozen=True, slots=True)
class OnPath:
    """What is exact about P along one path a prompt."""

    bound: Floats
    """The probability of following the path and then stating S, whatever code: at most P. (prompts,)"""
    departure: Floats
    """The probability of leaving the path at t with a token that is neither S nor EOS. (prompts, horizon)"""


def on_path(steps: Steps, paths: Tokens, *, sets: Sequence[CodeSet], eos: int) -> list[OnPath]:
    """Follow each prompt's path once, and return for every set what is exact about it.

    `paths` has shape (prompts, horizon), -1 beyond the end of a path. With c_t = prod_{s<t} p_s(x_s) the
    probability of being on the path x before t, the bound is sum_t c_t p_t(S), up to the first token of the
    path that states S or ends the record: behind it nothing is on the path. A path that ends otherwise is
    left there for certain.
    """
    prompts, horizon = paths.shape
    found = [OnPath(np.zeros(prompts), np.zeros((prompts, horizon))) for _ in sets]
    on = np.ones((len(sets), prompts))
    everyone = np.arange(prompts)
    for step in range(horizon):
        if step:
            steps.append(np.maximum(paths[:, step - 1], 0))
        probabilities, before, following = _probabilities(steps), paths[:, :step], paths[:, step]
        known = (following != NO_TOKEN) & (following != eos)
        for i, codes in enumerate(sets):
            found[i].bound[:] += on[i] * codes.mass(probabilities, before)
            left = _leaving(probabilities, before, following, codes, eos)
            found[i].departure[:, step] = on[i] * left.sum(axis=1)
            stays = known & ~codes.stated(following, before)
            on[i] *= np.where(stays, probabilities[everyone, following], 0)
        if not on.any():
            break
    return found


def departing(
    steps: Steps,
    along: OnPath,
    paths: Tokens,
    *,
    chains: int,
    codes: CodeSet,
    eos: int,
    rng: np.random.Generator,
) -> Floats:
    """Return B + R (1 - W) of each chain, shape (prompts, chains).

    A continuation that states S does so from the path (B, the bound) or after having left it at some t with a
    token that is neither S nor EOS. R is the probability of leaving so at all. Each chain draws t in
    proportion to the probability of leaving there, follows the path until then, leaves it with a token drawn
    from the model without x_t, S and EOS, and then goes on set-avoiding: 1 - W has the mean of P(S | left).
    Hence E[B + R (1 - W)] = B + R P(S | left) = P, and the estimate lies between B and B + R. Its variance is
    R^2 var(W): nothing of it is about whether the path is followed.
    """
    leave = _departures(along.departure, chains, rng).reshape(-1)
    followed = paths.repeat(chains, axis=0)
    weight, alive = np.ones(leave.size), leave < paths.shape[1]
    said = np.full_like(followed, NO_TOKEN)
    for step in range(paths.shape[1]):
        if not alive.any():
            break
        if step:
            steps.append(np.maximum(said[:, step - 1], 0))
        probabilities, before = _probabilities(steps), said[:, :step]
        leaving, free = alive & (leave == step), alive & (leave < step)
        weight = np.where(free, weight * (1 - codes.mass(probabilities, before)), weight)
        left = _leaving(probabilities[leaving], before[leaving], followed[leaving, step], codes, eos)
        codes.forbid(probabilities, before)
        probabilities[leaving] = left
        drawn, possible = _drawn(probabilities, rng)
        said[:, step] = np.where(leave <= step, drawn, followed[:, step])
        alive &= ~free | (possible & (drawn != eos))
    rest = along.departure.sum(axis=1)[:, None]
    estimates = along.bound[:, None] + rest * (1 - weight.reshape(-1, chains))
    return np.asarray(estimates.clip(0, 1))  # rounding


def _departures(departure: Floats, chains: int, rng: np.random.Generator) -> Tokens:
    """Draw where each chain leaves, shape (prompts, chains); the horizon if the path is never left."""
    cumulative = departure.cumsum(axis=1)
    total = cumulative[:, -1:]
    drawn = rng.random((len(departure), chains)) * total
    leave = (cumulative[:, None, :] > drawn[:, :, None]).argmax(axis=2)
    return np.asarray(np.where(total > 0, leave, departure.shape[1]))


def _leaving(probabilities: Floats, before: Tokens, following: Tokens, codes: CodeSet, eos: int) -> Floats:
    """Return the probabilities of the tokens that leave the path and neither state S nor end the record."""
    left = probabilities.copy()
    codes.forbid(left, before)
    left[:, eos] = 0
    rows = np.flatnonzero(following != NO_TOKEN)
    left[rows, following[rows]] = 0
    return left


def _drawn(probabilities: Floats, rng: np.random.Generator) -> tuple[Tokens, Flags]:
    """Draw a token of each row in proportion, and say in which rows there was one to draw."""
    cumulative = probabilities.cumsum(axis=1)
    total = cumulative[:, -1:]
    drawn = (cumulative > rng.random((len(probabilities), 1)) * total).argmax(axis=1)
    return drawn, total[:, 0] > 0
