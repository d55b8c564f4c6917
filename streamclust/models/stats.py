r"""Additive sufficient statistics: the learner updates, merges, decays and stores them.

For component k and responsibilities gamma_nk (one-hot for K-means), sample weights w_n and a
reference point r_k:

    weight_k = sum_n w_n gamma_nk
    first_k  = sum_n w_n gamma_nk (x_n - r_k)
    second_k = sum_n w_n gamma_nk (x_n - r_k)(x_n - r_k)^T     (in the covariance type's shape)

Moments about a reference near the data lose nothing to cancellation, at any distance of the data
from the origin (Chan, Golub & LeVeque 1983). `recentre` moves moments to another reference exactly.

Forgetting is *additive*: S <- lam S + s. This equals the update S <- (1 - eta) S + eta s of mean
statistics with eta = m / (lam n + m), where n and m are the weights of S and s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array, CovarianceType, Labels, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable

_VANISHED = 1e-200
"""A mass that has decayed below this counts as 0, because small quotients become inexact."""


@dataclass(frozen=True, eq=False)
class Stats:
    """Sufficient statistics of K components in D dimensions; all float64.

    Parameters
    ----------
    weight : array of shape (K,)
        Mass of each component, in points.
    first : array of shape (K, D)
        First moment about `reference`.
    second : array or None
        Second moment about `reference`: full (K, D, D), tied (D, D), diag (K, D), spherical (K,)
        (averaged over features); None for K-means, which needs none.
    reference : array of shape (K, D)
        The reference point of each component's moments.
    covariance_type : {'full', 'tied', 'diag', 'spherical'} or None
        The shape of `second`.
    objective : float
        Sum of w_n min_k ||x_n - u_k||^2 (K-means), or of w_n log p(x_n) (mixture), under the
        parameters of the e-step.
    count : float
        Total weight of the points in `objective`.
    """

    weight: Array
    first: Array
    second: Array | None
    reference: Array
    covariance_type: CovarianceType | None
    objective: float
    count: float

    def __repr__(self) -> str:
        K, D = self.first.shape
        return short_repr(self, K=K, D=D, mass=self.mass, covariance_type=self.covariance_type)

    @cached_property
    def mass(self) -> float:
        """Total mass, in points."""
        return float(self.weight.sum())

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """Whether the mass of each component is large enough to divide by, shape (K,)."""
        return self.weight > _VANISHED

    @cached_property
    def all_alive(self) -> bool:
        """Whether all components are alive, which nearly all steps and iterations ask."""
        return bool(self.alive.all())

    def averages(self, otherwise: Array) -> Array:
        """Return each component's average (K, D); `otherwise` for components without mass."""
        if self.all_alive:
            return self.reference + self.first / self.weight[:, None]
        alive = self.alive
        means = otherwise.copy()
        means[alive] = self.reference[alive] + self.first[alive] / self.weight[alive, None]
        return means


def zero(reference: Array, covariance_type: CovarianceType | None) -> Stats:
    """Return statistics of no points about `reference` (K, D): the neutral element of `merge`."""
    K, D = reference.shape
    shapes = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}
    return Stats(
        weight=np.zeros(K),
        first=np.zeros((K, D)),
        second=None if covariance_type is None else np.zeros(shapes[covariance_type]),
        reference=reference,
        covariance_type=covariance_type,
        objective=0.0,
        count=0.0,
    )


def merge(a: Stats, b: Stats) -> Stats:
    """Return the statistics of both sets of points, about the reference of `a`."""
    b = recentre(b, a.reference)
    return Stats(  # faster than `replace`, and each step calls it
        weight=a.weight + b.weight,
        first=a.first + b.first,
        second=None if a.second is None or b.second is None else a.second + b.second,
        reference=a.reference,
        covariance_type=a.covariance_type,
        objective=a.objective + b.objective,
        count=a.count + b.count,
    )


def decay(stats: Stats, lam: float) -> Stats:
    """Return the statistics with every point's weight multiplied by `lam` (>= 0)."""
    if lam == 1.0:
        return stats
    return Stats(
        weight=lam * stats.weight,
        first=lam * stats.first,
        second=None if stats.second is None else lam * stats.second,
        reference=stats.reference,
        covariance_type=stats.covariance_type,
        objective=lam * stats.objective,
        count=lam * stats.count,
    )


def reorder(stats: Stats, order: Labels) -> Stats:
    """Return the statistics with component `order[k]` as component k; others are dropped."""
    second = stats.second
    if second is not None and stats.covariance_type != "tied":
        second = second[order]
    return replace(
        stats,
        weight=stats.weight[order],
        first=stats.first[order],
        second=second,
        reference=stats.reference[order],
    )


def recentre(stats: Stats, reference: Array) -> Stats:
    """Return the same statistics about another reference r' of shape (K, D).

    With d = r' - r, weight n and first moment f: f' = f - n d, and
    second' = second - d f^T - f d^T + n d d^T, for each component.
    """
    if reference is stats.reference:
        return stats
    d = reference - stats.reference
    first = stats.first - stats.weight[:, None] * d
    second = stats.second
    if second is not None and stats.covariance_type is not None:
        second = second + _SHIFTS[stats.covariance_type](d, stats.first, first)
    return Stats(
        weight=stats.weight,
        first=first,
        second=second,
        reference=reference,
        covariance_type=stats.covariance_type,
        objective=stats.objective,
        count=stats.count,
    )


def _shift_full(d: Array, f: Array, g: Array) -> Array:
    # d f^T + f d^T - n d d^T with n d = f - g, written so that the rounded result is symmetric too.
    half = d[:, :, None] * (f + g)[:, None, :]
    return -0.5 * (half + half.transpose(0, 2, 1))


def _shift_diag(d: Array, f: Array, g: Array) -> Array:
    return -d * (f + g)


_SHIFTS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "full": _shift_full,
    "tied": lambda d, f, g: _shift_full(d, f, g).sum(axis=0),
    "diag": _shift_diag,
    "spherical": lambda d, f, g: _shift_diag(d, f, g).mean(axis=1),
}
"""Covariance type -> the change of the second moment from d and the old and new first moments."""
