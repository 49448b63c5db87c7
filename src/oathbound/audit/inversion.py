"""Gradient inversion that is learnt: the way back from what training opens of a patient to the recording.

After Wu, Chen, Guo and Weinberger (UAI 2023): an attacker who has other people's recordings computes what
would be seen of them, and of many more that it makes of them, and learns the map from the one to the other.
The learner is kernel ridge regression, in closed form: nothing is searched for, and what it finds depends on
its examples alone. Noise, clipping and strangers in a sum are in the examples, so it adapts to them.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from oathbound.audit.target import Floats

_COLUMNS: Final = 4096
"""Numbers of a gradient that the learner sees: of a longer one, so many random sums."""

_DIRECTIONS: Final = 200
"""The most directions in which recordings are told apart."""

_EXAMINED: Final = 1000
"""Recordings of which the directions are made."""

_LEAST: Final = 0.02
"""A direction's deviation counts as no smaller than this share of the largest."""

_ROUNDING: Final = 1e-6
"""And one of less than this share is none."""

_RIDGE: Final = 1e-3
_REACH: Final = 0.5
"""Of the mean squared distance of two examples, over which the kernel falls to 1 / e."""

_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Random sums of a gradient's coordinates, each in one of them with a random sign.

    Linear, so the sketch of a sum is the sum of sketches, and it keeps distances on average (Charikar, Chen,
    Farach-Colton 2002). A gradient that is short enough stays as it is.
    """

    column: NDArray[np.int64]
    sign: Floats
    width: int

    @classmethod
    def of(cls, dimension: int, rng: np.random.Generator) -> Self:
        """Return the sketch of gradients [dimension]."""
        if dimension <= _COLUMNS:
            return cls(np.arange(dimension), np.ones(dimension), dimension)
        signs = rng.choice(np.array([-1.0, 1.0]), size=dimension)
        return cls(rng.integers(_COLUMNS, size=dimension), signs, _COLUMNS)

    def __call__(self, gradient: Floats) -> Floats:
        """Return the sketch [width] of a gradient [dimension]."""
        return np.bincount(self.column, self.sign * gradient, self.width).astype(np.float64)

    def noise(self, deviation: float, count: int, rng: np.random.Generator) -> Floats:
        """Return sketches [count, width] of Gaussian noise of this standard deviation a coordinate."""
        of_each = deviation * np.sqrt(np.bincount(self.column, minlength=self.width))
        found: Floats = of_each * rng.normal(size=(count, self.width))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """What recordings are compared in: `directions` [n, k] in which they differ, from their `mean` [n].

    Each direction is divided by how much recordings differ in it. Without that what all outlines share, size
    above all, would drown what is one patient's own.
    """

    mean: Floats
    directions: Floats
    back: Floats

    @classmethod
    def of(cls, recordings: Floats) -> Self:
        """Return the space of recordings [m, n], m at least 2, by their principal components."""
        some = recordings[:: math.ceil(len(recordings) / _EXAMINED)]
        mean = some.mean(axis=0)
        centred = some - mean
        count = min(_DIRECTIONS, len(some) - 1)
        squares, vectors = eigh(centred @ centred.T, subset_by_index=(len(some) - count, len(some) - 1))
        sizes = np.sqrt(np.maximum(squares, _TINY))
        kept = sizes > _ROUNDING * sizes[-1]
        axes = centred.T @ (vectors / sizes)[:, kept]
        deviations = np.maximum(sizes[kept], _LEAST * sizes[-1])
        return cls(mean, axes / deviations, (axes * deviations).T)

    def places(self, recordings: Floats) -> Floats:
        """Return where recordings [m, n] lie: [m, k]."""
        found: Floats = (recordings - self.mean) @ self.directions
        return found

    def recordings(self, places: Floats) -> Floats:
        """Return the recordings [m, n] of places [m, k]."""
        found: Floats = self.mean + places @ self.back
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Inversion:
    """A map from what is seen [d] to where the recording lies in a `Space`, learnt from examples."""

    _seen: Floats
    _mean: Floats
    _deviation: Floats
    _reach: float
    _weights: Floats
    _middle: Floats

    @classmethod
    def learnt(cls, seen: Floats, places: Floats) -> Self:
        """Learn from what was seen [m, d] of recordings that lie at `places` [m, k]."""
        lengths = _unit(seen)
        mean, deviation = lengths.mean(axis=0), lengths.std(axis=0)
        deviation = np.maximum(deviation, max(float(deviation.max()) * 1e-6, _TINY))
        standard = (lengths - mean) / deviation
        squares = _squared_distances(standard, standard)
        reach = max(_REACH * float(squares.mean()), _TINY)
        kernel = np.exp(-squares / reach)
        kernel[np.diag_indices_from(kernel)] += _RIDGE
        middle = places.mean(axis=0)
        weights = cho_solve(cho_factor(kernel, overwrite_a=True), places - middle)
        return cls(standard, mean, deviation, reach, weights, middle)

    def __call__(self, seen: Floats) -> Floats:
        """Return the places [m, k] of the recordings of which `seen` [m, d] was."""
        standard = (_unit(seen) - self._mean) / self._deviation
        found: Floats = (
            self._middle + np.exp(-_squared_distances(standard, self._seen) / self._reach) @ self._weights
        )
        return found


def made_of(
    recordings: Floats,
    classes: NDArray[np.int64],
    shape: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[np.int64]]:
    """Return recordings [count, n] that nobody has, with their classes, made of known ones [m, n].

    Each is a known one turned over at random, and half of them mixed with another of the class: what is
    seen of them is as true as of a person's, and there are as many as one likes.
    """
    own = rng.integers(len(recordings), size=count)
    made = np.empty((count, recordings.shape[1]))
    alike = {number: np.flatnonzero(classes == number) for number in np.unique(classes)}
    for place, one in enumerate(own):
        other = rng.choice(alike[classes[one]])
        share = rng.choice([1.0, rng.random()])
        turned, beside = (_turned(recordings[each].reshape(shape), rng) for each in (one, other))
        made[place] = (share * turned + (1 - share) * beside).ravel()
    return made, classes[own]


def _turned(recording: Floats, rng: np.random.Generator) -> Floats:
    """Return the recording with each axis reversed, and a square one's axes exchanged, or not, by coins."""
    for axis in range(recording.ndim):
        if rng.random() < 1 / 2:
            recording = np.flip(recording, axis)
    square = recording.shape == recording.shape[::-1] and recording.ndim > 1
    return recording.T if square and rng.random() < 1 / 2 else recording


def _unit(seen: Floats) -> Floats:
    found: Floats = seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), _TINY)
    return found


def _squared_distances(some: Floats, others: Floats) -> Floats:
    """Return the squared distance of each of some [m, d] to each of others [k, d]: [m, k]."""
    inner = some @ others.T
    inner *= -2
    inner += (some**2).sum(axis=1)[:, None]
    inner += (others**2).sum(axis=1)
    return np.maximum(inner, 0.0, out=inner)
