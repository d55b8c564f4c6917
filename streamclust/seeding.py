"""Good first centroids: greedy k-means++, then local search (LS++)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamclust.arrays import Array, Labels
from streamclust.errors import TooFewPointsError
from streamclust.kernels import assign, squared_distances

SWAP_TRIALS = 100
"""Swaps that are tried; more than this hardly lowers J after Lloyd's algorithm."""

GREEDY_WORK = 1 << 34
"""Products of coordinates, N K D a candidate, up to which seeding is greedy."""

_ROUNDS = 8
"""A round draws one point for so many that there are already."""

_CELLS = 1 << 20
"""Distances that are held at a time while all centroids are looked at."""

_ROUNDING = 1e-9
"""Share of J that a swap has to gain: less may be rounding."""


def seed_centroids(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X` by greedy k-means++ and `SWAP_TRIALS` of LS++.

    Where that would take more than `GREEDY_WORK`, they are drawn in rounds. See `kmeans_plusplus`,
    `local_search` and `in_rounds`, whose parameters and errors are the same.
    """
    if is_large(X, n_clusters):
        return in_rounds(X, w, n_clusters, rng)
    centroids = kmeans_plusplus(X, w, n_clusters, rng)
    return local_search(X, w, centroids, rng) if n_clusters > 1 else centroids


def is_large(X: Array, n_clusters: int) -> bool:
    """Return whether greedy seeding of `X`, shape (N, D), takes more than `GREEDY_WORK`."""
    return X.size * n_clusters * _trials(n_clusters) > GREEDY_WORK


def kmeans_plusplus(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X` as centroids by greedy k-means++.

    Each next centroid is drawn with probability proportional to w_n d^2(x_n), and of
    2 + floor(log K) such draws the one that lowers J most is kept (Arthur & Vassilvitskii 2007,
    section 5; Bhattacharya et al. 2020).

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
    trials = _trials(n_clusters)
    centroids = np.empty((n_clusters, X.shape[1]))
    cost = w  # the first one is drawn by weight alone
    nearest = np.full(len(X), np.inf)
    for k in range(n_clusters):
        if not np.any(cost > 0):
            raise _too_few(k, n_clusters)
        drawn = _draw(cost, 1 if k == 0 else trials, rng)
        candidates = np.minimum(nearest[:, None], squared_distances(X, X[drawn]))
        best = int((w[:, None] * candidates).sum(axis=0).argmin())
        centroids[k] = X[drawn[best]]
        nearest = candidates[:, best]
        cost = w * nearest
    return centroids


def _trials(n_clusters: int) -> int:
    return 2 + int(np.log(n_clusters))


def _too_few(found: int, wanted: int) -> TooFewPointsError:
    return TooFewPointsError(
        f"{found} distinct points are too few for {wanted} components; "
        "give more points or fewer components"
    )


def in_rounds(X: Array, w: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose `n_clusters` distinct points of `X`, in each round an eighth of those chosen so far.

    Points are drawn without replacement with probability proportional to w_n d^2(x_n), as in
    k-means|| (Bahmani et al. 2012), but no more of them than are needed. All rounds together cost
    one pass of N K distances, and N numbers of memory. Parameters, result and errors are those of
    `kmeans_plusplus`.
    """
    chosen = np.empty((0, X.shape[1]))
    nearest = np.full(len(X), np.inf)
    cost = w
    while len(chosen) < n_clusters:
        if not np.any(cost > 0):
            raise _too_few(len(chosen), n_clusters)
        size = min(max(1, len(chosen) // _ROUNDS), n_clusters - len(chosen))
        drawn = np.unique(X[_draw_distinct(cost, size, rng)], axis=0)
        nearest = np.minimum(nearest, assign(X, drawn).sqdist)
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


def _draw(cost: Array, size: int, rng: np.random.Generator) -> Labels:
    """Draw `size` indices with probability proportional to `cost`, never one of cost 0."""
    cumulated = np.cumsum(cost / cost.max())
    drawn = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
    return np.asarray(drawn, dtype=np.intp)


def local_search(
    X: Array, w: Array, centroids: Array, rng: np.random.Generator, trials: int = SWAP_TRIALS
) -> Array:
    """Swap centroids for points of `X` where that lowers J: LS++ (Lattanzi & Sohler 2019).

    Each trial draws one point with probability proportional to w_n d^2(x_n), and of all swaps of
    a centroid for it takes the best, if J falls. With O(K log log K) trials the expected J is
    within a constant factor of the best; a trial costs N distances and two numbers a point, since
    each point remembers its two nearest centroids.

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
        J is at most that of `centroids`; where those are distinct, these are.
    """
    centroids = centroids.copy()
    near = _two_nearest(X, centroids)
    for _ in range(trials):
        cost = w * near.d1
        if not np.any(cost > 0):
            break
        place = X[_draw(cost, 1, rng)]
        distance = squared_distances(X, place)[:, 0]
        after = _after_swaps(near, w, distance, len(centroids))
        k = int(after.argmin())
        if after[k] < (1.0 - _ROUNDING) * cost.sum():
            centroids[k] = place
            near = _swapped(near, X, centroids, k, distance)
    return centroids


@dataclass(frozen=True, eq=False)
class _Near:
    """Each point's nearest and second nearest centroid and the squared distances, all (N,)."""

    first: Labels
    d1: Array
    second: Labels
    d2: Array


def _two_nearest(X: Array, centroids: Array) -> _Near:
    parts = []
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(X), step):
        distance = squared_distances(X[start : start + step], centroids)
        rows = np.arange(len(distance))
        first = distance.argmin(axis=1)
        d1 = distance[rows, first]
        distance[rows, first] = np.inf
        second = distance.argmin(axis=1)
        parts.append((first, d1, second, distance[rows, second]))
    return _Near(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _after_swaps(near: _Near, w: Array, distance: Array, K: int) -> Array:
    """Return J, shape (K,), after a swap of each centroid for the point at `distance` (N,)."""
    kept = np.minimum(near.d1, distance)
    lost = w * (np.minimum(near.d2, distance) - kept)
    by_centroid = np.bincount(near.first, weights=lost, minlength=K).astype(np.float64)
    return float((w * kept).sum()) + by_centroid


def _swapped(near: _Near, X: Array, centroids: Array, k: int, distance: Array) -> _Near:
    """Return the nearest two once centroid `k` has moved to where `distance` is from."""
    first, d1 = near.first.copy(), near.d1.copy()
    second, d2 = near.second.copy(), near.d2.copy()
    bereft = (first == k) | (second == k)
    nearer = ~bereft & (distance < d1)
    second[nearer], d2[nearer] = first[nearer], d1[nearer]
    first[nearer], d1[nearer] = k, distance[nearer]
    between = ~bereft & ~nearer & (distance < d2)
    second[between], d2[between] = k, distance[between]
    if bereft.any():
        again = _two_nearest(X[bereft], centroids)
        first[bereft], d1[bereft] = again.first, again.d1
        second[bereft], d2[bereft] = again.second, again.d2
    return _Near(first, d1, second, d2)
