"""How far a generated trajectory is from the true one: earth mover's distances over code and time.

Both move the events of one trajectory onto those of the other at the least mean cost:

    published   d(code, code') (|dt| + 1), dt in hours (Tonekaboni et al. 2025, section 3.1)
    additive    d(code, code') + min(|dt|, 30 days) / 30 days

The published cost of the right code is 0 at any wrong time, since it multiplies; that of a wrong code grows
without end. The additive one is a metric, bounded by what no code at all would cost. d is looked up in a
`CodeTable`, computed once for all the tokens that occur.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from oathbound.audit.target import Floats, Tokens
from oathbound.audit.timeline import Trajectory
from oathbound.core.errors import WrongInput

CAP_HOURS: Final = 30 * 24.0
"""Farther apart in time than this is as far as it gets; a wrong time then costs as much as a wrong code."""


@dataclass(frozen=True, slots=True)
class CodeTable:
    """The distance of every two of some tokens, in [0, `farthest`], 0 of a token to itself.

    `place`, shape (size,), is where a token stands in `table`, shape (tokens, tokens).
    """

    place: Tokens
    table: NDArray[np.float32]
    farthest: float

    @classmethod
    def of_paths(cls, tokens: Tokens, paths: Mapping[int, tuple[str, ...]], size: int) -> Self:
        """Return the tree distance of codes: 1 less their shared steps over the steps of either (Jaccard).

        A token without a path stands alone, at distance 1 from all others.
        """
        ids: dict[tuple[str, ...], int] = {}
        longest = max((len(paths[token]) for token in tokens.tolist() if token in paths), default=1)
        nodes = np.full((len(tokens), longest), -1, dtype=np.int64)
        for row, token in enumerate(tokens.tolist()):
            path = paths.get(token, (f"token {token}",))
            nodes[row, : len(path)] = [ids.setdefault(path[: k + 1], len(ids)) for k in range(len(path))]
        steps = (nodes >= 0).sum(axis=1, dtype=np.float32)
        shared = np.zeros((len(tokens), len(tokens)), dtype=np.float32)
        for level in nodes.T:  # a node says all that is above it
            shared += (level[:, None] == level) & (level >= 0)
        return cls._of(tokens, 1 - shared / (steps[:, None] + steps - shared), size, farthest=1.0)

    @classmethod
    def of_embeddings(cls, tokens: Tokens, embeddings: NDArray[np.floating]) -> Self:
        """Return the cosine distance of the tokens' rows of `embeddings`, shape (size, width)."""
        rows = embeddings[tokens].astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(rows).all() and (lengths > 0).all()):
            raise WrongInput(
                "an embedding is not a finite direction",
                hint="give every token of the model a row that is not zero",
            )
        rows /= lengths
        return cls._of(tokens, np.clip(1 - rows @ rows.T, 0, 2), len(embeddings), farthest=2.0)

    @classmethod
    def _of(cls, tokens: Tokens, table: NDArray[np.float32], size: int, *, farthest: float) -> Self:
        np.fill_diagonal(table, 0)
        place = np.full(size, -1, dtype=np.int64)
        place[tokens] = np.arange(len(tokens))
        return cls(place, table, farthest)

    def between(self, one: Tokens, other: Tokens) -> NDArray[np.float32]:
        """Return the distance of every token of `one` to every token of `other`, shape (one, other)."""
        return self.table[self.place[one][:, None], self.place[other]]


def published(one: Trajectory, other: Trajectory, codes: CodeTable) -> float:
    """Return the published distance; both are cut to the shorter, as the paper cuts both to 100 events.

    Infinite where one of the two is empty.
    """
    events = min(len(one), len(other))
    if not events:
        return 0.0 if len(one) == len(other) else float("inf")
    one, other = one.first(events), other.first(events)
    apart = np.abs(one.hours[:, None] - other.hours)
    return least_mean(codes.between(one.tokens, other.tokens) * (apart + 1))


def additive(one: Trajectory, other: Trajectory, codes: CodeTable) -> float:
    """Return the additive distance, in [0, codes.farthest + 1]: a metric if d is.

    An event of the longer one that has no partner costs the most that a pair could (Schuhmacher, Vo, Vo
    2008, with p = 1): to say less is not to be nearer.
    """
    longer = max(len(one), len(other))
    if not longer:
        return 0.0
    cost = np.full((longer, longer), codes.farthest + 1.0)
    apart = np.abs(one.hours[:, None] - other.hours)
    cost[: len(one), : len(other)] = codes.between(one.tokens, other.tokens)
    cost[: len(one), : len(other)] += np.minimum(apart, CAP_HOURS) / CAP_HOURS
    return least_mean(cost)


def least_mean(cost: Floats) -> float:
    """Return the least mean cost of moving n equal weights onto n equal weights; `cost` has shape (n, n).

    The optimum of that transport is an assignment (Birkhoff 1946), so no linear program is solved.
    """
    easier = cost - cost.min(axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(easier - easier.min(axis=0))  # the same optimum, sooner found
    return float(cost[rows, columns].mean())


def exact_recall(true: Trajectory, said: Trajectory) -> float:
    """Return the share of the true events of which code, value bin and time gap are said in their place."""
    n = min(len(true), len(said))
    same = (true.tokens[:n] == said.tokens[:n]) & (true.gaps[:n] == said.gaps[:n])
    return float(same.sum()) / len(true)


def tokens_in(trajectories: Sequence[Trajectory]) -> Tokens:
    """Return every token that occurs, ascending."""
    return np.unique(np.concatenate([each.tokens for each in trajectories]))
