"""First centroids: greedy k-means++, then local search (LS++)."""

from __future__ import annotations

import numpy as np

from streamclust.arrays import Array, Labels
from streamclust.errors import TooFewPointsError
from streamclust.kernels import assign, plusplus, swaps

SWAP_TRIALS = 100
"""Number of swaps to try. More swaps hardly lower J after Lloyd's algorithm."""

GREEDY_WORK = 1 << 34
"""Largest number of products of coordinates in greedy seeding: N K D times the candidates."""

_ROUNDS = 8
"""A round draws one point for each `_ROUNDS` points chosen so far."""


def seed_centroids(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X` by greedy k-means++ and 100 swaps of LS++.

    If that would take more than `GREEDY_WORK`, the points are drawn in rounds (`draw_in_rounds`).
    Parameters and errors are those of `kmeans_plusplus`.
    """
    if is_large(X, n_clusters):
        return draw_in_rounds(X, w, n_clusters, rng)
    centroids = kmeans_plusplus(X, w, n_clusters, rng)
    return local_search(X, w, centroids, rng) if n_clusters > 1 else centroids


def is_large(X: Array, n_clusters: int) -> bool:
    """Return whether greedy seeding of `X`, shape (N, D), takes more than `GREEDY_WORK`."""
    return X.size * n_clusters * _trials(n_clusters) > GREEDY_WORK


def kmeans_plusplus(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X` as centroids by greedy k-means++.

    For each next centroid, 2 + floor(log K) candidates are drawn with probability proportional to
    w_n d^2(x_n); the candidate that lowers J most is used (Arthur & Vassilvitskii 2007, section 5;
    Bhattacharya et al. 2020).

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights; a point of weight 0 is never chosen.
    n_clusters : int
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (K, D)

    Raises
    ------
    TooFewPointsError
        If `X` has fewer than K distinct points of positive weight.
    """
    uniform = rng.random(1 + (n_clusters - 1) * _trials(n_clusters))
    chosen = plusplus(X, w, n_clusters, uniform)
    if len(chosen) < n_clusters:
        raise _too_few(len(chosen), n_clusters)
    return X[chosen]


def _trials(n_clusters: int) -> int:
    return 2 + int(np.log(n_clusters))


def _too_few(n_distinct: int, K: int) -> TooFewPointsError:
    return TooFewPointsError(
        f"{n_distinct} distinct points are too few for {K} components; "
        "give more points or fewer components"
    )


def draw_in_rounds(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X` in rounds that grow with the number of points.

    A round draws an eighth of the number of points chosen so far, without replacement and with
    probability proportional to w_n d^2(x_n). This is k-means|| (Bahmani et al. 2012) without
    oversampling. All rounds together compute N K distances and need N numbers of memory.
    Parameters, result and errors are the same as for `kmeans_plusplus`.
    """
    chosen = np.empty((0, X.shape[1]))
    nearest = np.full(len(X), np.inf)
    cost = w
    while len(chosen) < n_clusters:
        if not np.any(cost > 0):
            raise _too_few(len(chosen), n_clusters)
        size = min(max(1, len(chosen) // _ROUNDS), n_clusters - len(chosen))
        drawn = np.unique(X[_draw_distinct(cost, size, rng)], axis=0)
        nearest = np.minimum(nearest, assign(X, drawn).squared_distances)
        cost = w * nearest
        chosen = np.concatenate([chosen, drawn])
    return chosen


def _draw_distinct(cost: Array, size: int, rng: np.random.Generator) -> Labels:
    """Draw up to `size` different indices by exponential keys (Efraimidis & Spirakis 2006)."""
    share = cost / cost.max()
    possible = np.flatnonzero(share > 0.0)
    keys = rng.standard_exponential(len(possible)) / share[possible]
    if size >= len(possible):
        return possible
    return possible[np.argpartition(keys, size - 1)[:size]]


def local_search(
    X: Array, w: Array, centroids: Array, rng: np.random.Generator, trials: int = SWAP_TRIALS
) -> Array:
    """Swap centroids for points of `X` where that lowers J: LS++ (Lattanzi & Sohler 2019).

    Each trial draws one point with probability proportional to w_n d^2(x_n). The point replaces the
    centroid for which J falls most, if J falls. With O(K log log K) trials, the expected J is
    within a constant factor of the optimum. A trial computes N distances. The search stores the
    two nearest centroids of each point.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights; a point of weight 0 is never chosen.
    centroids : array of shape (K, D)
        K at least 2.
    rng : numpy.random.Generator
    trials : int, default=100

    Returns
    -------
    array of shape (K, D)
        J is at most that of `centroids`. The result is distinct if `centroids` are.
    """
    return swaps(X, w, centroids, rng.random(trials))
