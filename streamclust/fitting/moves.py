"""Moves that change the number of components, and the interface of a search.

A move splits one component (a birth) or merges two (a death). The effect of a move is estimated
from the points of its components alone. The search (`streamclust.fitting.choose_k`) then runs the
whole solution to its optimum before it decides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.models.coreset import Coreset, effective_size
from streamclust.models.present import filled_by_mean
from streamclust.models.spread import robust_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array
    from streamclust.fitting.em import Data, EMResult
    from streamclust.models.family import Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")


FEW_POINTS_PENALTY = 1e12
"""Added to the BIC for each component of too few points; no fit can gain as much."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Weighted points and their effective number.

    Parameters
    ----------
    X, w : arrays of shape (M, D) and (M,)
    n : float
        Effective sample size. The weights are normalised to this sum.
    """

    X: Array
    w: Array
    n: float

    @cached_property
    def mass(self) -> Array:
        """Weights with the sum n, shape (M,)."""
        return np.asarray(self.w * (self.n / self.w.sum()))

    @cached_property
    def present(self) -> float:
        """Share of the values that aren't missing."""
        if not has_gaps(self.X):
            return 1.0
        return float(self.mass @ (~np.isnan(self.X)).mean(axis=1)) / self.n

    @cached_property
    def variance(self) -> float:
        """Average variance of the features, robust to a few far points; see `models.spread`."""
        X = filled_by_mean(self.X, self.mass) if has_gaps(self.X) else self.X
        mean = np.einsum("n,nd->d", self.mass, X) / self.n
        square = np.einsum("n,nd->", self.mass, (X - mean) ** 2)
        plain = float(square / (self.n * X.shape[1]))
        inner = float(robust_variance(self.X, self.w).mean())
        return inner if inner > 0.0 else plain


@dataclass(frozen=True, eq=False)
class Move(Generic[P]):
    """Components to drop, and the components that replace them.

    Parameters
    ----------
    drop : tuple of int
    add : KMeansParams or MixtureParams
        One or two components; mixing weights are relative to the whole mixture.
    change : float
        Change of the BIC, estimated from the points of the components in `drop`.
    """

    drop: tuple[int, ...]
    add: P
    change: float


class Search(ABC, Generic[P]):
    """The search for better optima of one family. By default, optional moves do nothing.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    """

    def __init__(self, family: Any) -> None:
        self.family = family

    def check(self, X: Array) -> None:
        """Refuse points (N, D) that the family can't be fitted to."""

    def unit(self, X: Array) -> float:
        """Return the power of two to divide points by, so that their squares don't underflow."""
        return 1.0

    def in_original_units(self, run: EMResult[P], unit: float) -> EMResult[P]:
        """Return a run on points divided by `unit`, in the units of the points."""
        return run

    @abstractmethod
    def init(self, X: Array, w: Array, rng: np.random.Generator) -> P:
        """Return parameters to start from: one run of greedy k-means++ and LS++."""

    def exact_optimum(self, X: Array, w: Array) -> P | None:
        """Return the global optimum, or None if no algorithm for it is known."""
        return None

    def leave_optimum(self, params: P, X: Array, w: Array) -> P | None:
        """Return better parameters than those of a local optimum, or None if none are found.

        The batch loop then continues from these parameters.
        """
        return None

    def split_merge(
        self, run: EMResult[P], data: Data[P], X: Array, w: Array, *, tol: float, max_iter: int
    ) -> EMResult[P]:
        """Return a better run than `run`, by moves of several components, or `run` itself."""
        return run

    def gain(self, before: EMResult[P], after: EMResult[P], X: Array, w: Array) -> float:
        """Return by how much a run is better, in the units of `Family.improvement`.

        The result is infinite or minus infinite if another criterion than the loss decides.
        """
        gain: float = self.family.improvement(before.loss, after.loss)
        return gain

    def perturb(self, params: P, X: Array, w: Array, rng: np.random.Generator) -> P:
        """Return parameters after random moves from `params` that don't raise the loss."""
        return params

    @abstractmethod
    def optimism(self, n: float, n_features: int) -> float:
        """Return how much better a fit of `n` points is on these points than on other points.

        The result is in the units of `Family.improvement`.
        """

    @abstractmethod
    def excess(self, params: P, other: P, stats: Stats) -> float:
        """Return how much worse the nearby parameters `other` are than the optimum `params`.

        The result is correct to second order, in the units of `Family.improvement`. `stats` are the
        statistics of points that `params` fit.
        """

    @abstractmethod
    def bic(self, params: P, points: Sample) -> float:
        """Return the BIC for the choice of K; lower is better."""

    @abstractmethod
    def propose_splits(self, params: P, points: Sample) -> Sequence[Move[P]]:
        """Return moves that add one component."""

    @abstractmethod
    def propose_merges(self, params: P, points: Sample) -> Sequence[Move[P]]:
        """Return moves that remove one component."""

    @abstractmethod
    def apply(self, params: P, moves: Sequence[Move[P]]) -> P:
        """Return the parameters after moves that share no component; new components come last."""


def sample_of(coreset: Coreset, means: Array) -> Sample:
    """Return a coreset with its effective sample size."""
    return Sample(coreset.X, coreset.w, min(coreset.mass, effective_size(coreset, means)))


def partners(change: Array) -> list[tuple[int, int]]:
    """Return pairs of each component and the other one with the least `change` (K, K).

    No pair is returned twice.
    """
    apart = change.copy()
    np.fill_diagonal(apart, np.inf)
    best = apart.argmin(axis=1) if len(apart) > 1 else np.empty(0, np.intp)
    return sorted({(min(i, j), max(i, j)) for i, j in enumerate(best.tolist())})


def cut(X: Array, w: Array) -> Array:
    """Return the means of the two halves of weighted points, on either side of their mean.

    The cut is across the widest axis (by power iteration). Equal points give equal means.
    """
    mean = np.einsum("n,nd->d", w, X) / w.sum()
    offset = X - mean
    # Scaled by powers of two, so that fourth powers neither overflow nor underflow.
    offset = np.ldexp(offset, -np.frexp(np.abs(offset).max())[1])
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
    halves = [(X[side], w[side]) for side in (upper, ~upper)]
    return np.stack([np.einsum("n,nd->d", v, Y) / v.sum() if len(Y) else mean for Y, v in halves])


_POWERS = 20
"""Steps of the power iteration: any axis near the widest is good enough."""
