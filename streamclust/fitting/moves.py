"""Moves that change the number of components: some go, others come in their place.

One component is cut in two (a birth), or two become one (a death). The effect of a move is
estimated from the points of its components alone. The search (`streamclust.fitting.choose_k`) runs
the whole solution to its optimum before it decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from streamclust.models.coreset import Coreset, effective_size

if TYPE_CHECKING:
    from streamclust.arrays import Array

P = TypeVar("P")


THIN = 1e12
"""What each component of too few points adds to a BIC."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Weighted points, and how many they are worth.

    Parameters
    ----------
    X, w : arrays of shape (M, D) and (M,)
    n : float
        Number of points of equal say. The weights are shares of it.
    """

    X: Array
    w: Array
    n: float

    @cached_property
    def mass(self) -> Array:
        """Weights with the sum n, shape (M,)."""
        return np.asarray(self.w * (self.n / self.w.sum()))

    @cached_property
    def variance(self) -> float:
        """Average variance of the features."""
        mean = np.einsum("n,nd->d", self.mass, self.X) / self.n
        square = np.einsum("n,nd->", self.mass, (self.X - mean) ** 2)
        return float(square / (self.n * self.X.shape[1]))


@dataclass(frozen=True, eq=False)
class Move(Generic[P]):
    """Components that go, and those that come in their place.

    Parameters
    ----------
    drop : tuple of int
    add : KMeansParams or MixtureParams
        Of one or two components; mixing weights are shares of the whole.
    change : float
        By how much the BIC changes, as far as the points of those components tell.
    """

    drop: tuple[int, ...]
    add: P
    change: float


def sample_of(coreset: Coreset, means: Array) -> Sample:
    """Return weighted points as the number of points of equal say that they are as good as."""
    return Sample(coreset.X, coreset.w, min(coreset.mass, effective_size(coreset, means)))


def partners(change: Array) -> list[tuple[int, int]]:
    """Return each component with its best partner, by least `change` (K, K); each pair once."""
    apart = change.copy()
    np.fill_diagonal(apart, np.inf)
    best = apart.argmin(axis=1) if len(apart) > 1 else np.empty(0, np.intp)
    return sorted({(min(i, j), max(i, j)) for i, j in enumerate(best.tolist())})


def cut(X: Array, w: Array) -> Array:
    """Return the means of the two halves of weighted points, on either side of their mean.

    The cut is across the widest axis (by power iteration); equal points give equal means.
    """
    mean = np.einsum("n,nd->d", w, X) / w.sum()
    offset = X - mean
    offset = np.ldexp(offset, -np.frexp(np.abs(offset).max())[1])  # squares of squares are taken
    share = np.ldexp(w, -np.frexp(w.max())[1])
    axis = np.zeros(X.shape[1])
    axis[np.einsum("n,nd->d", share, offset**2).argmax()] = 1.0
    for _ in range(_POWERS):
        axis = np.einsum("n,nd->d", share * np.einsum("nd,d->n", offset, axis), offset)
        length = float(np.linalg.norm(axis))
        if length == 0.0:
            return np.stack([mean, mean])
        axis /= length
    upper = np.einsum("nd,d->n", offset, axis) > 0.0
    return np.stack([_mean(X[side], w[side], mean) for side in (upper, ~upper)])


_POWERS = 20
"""Steps of the power iteration: any axis near the widest will do."""


def _mean(X: Array, w: Array, otherwise: Array) -> Array:
    return np.asarray(np.einsum("n,nd->d", w, X) / w.sum()) if len(X) else otherwise
