"""The searches for seeds of K-means in NumPy; see `streamclust.kernels` and src/seeding.hpp.

Points are added in their order within each chunk, and the sums of the chunks in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamclust.kernels.chunks import chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.arrays import Array, Labels

    Distances = Callable[[Array, Array], Array]

SWAP_ROUNDING = 1e-9
"""Least gain of a swap relative to J; a smaller gain may be a rounding error."""

MOVE_ROUNDING = 1e-12
"""Least gain of a move relative to J, and least share of a cluster's weight that a move leaves;
less may be a rounding error."""

_CELLS = 1 << 18
"""Largest number of distances in memory."""


def plusplus(distances: Distances, X: Array, w: Array, K: int, uniform: Array) -> Labels:
    """See `streamclust.kernels.plusplus`."""
    chosen: list[int] = []
    cost = w  # the first point is drawn by weight alone
    nearest = np.full(len(X), np.inf)
    for draws in [uniform[:1], *np.split(uniform[1:], max(1, K - 1))][:K]:
        if not np.any(cost > 0.0):
            break
        drawn = _drawn(cost, draws)
        candidates = np.minimum(nearest[:, None], distances(X, X[drawn]))
        best = int(_total(w[:, None] * candidates).argmin())
        chosen.append(int(drawn[best]))
        nearest = candidates[:, best]
        cost = w * nearest
    return np.array(chosen, dtype=np.int64)


def _drawn(cost: Array, uniform: Array) -> Labels:
    """Return indices drawn with probability proportional to `cost`, never one of cost 0."""
    cumulated = _cumulated(cost / cost.max())
    drawn = np.searchsorted(cumulated, uniform * cumulated[-1], side="right")
    return np.asarray(np.minimum(drawn, np.flatnonzero(cost > 0.0)[-1]))


def _total(values: Array) -> Array:
    """Return the sum over the points."""
    total = np.zeros(values.shape[1:])
    for chunk in chunks(len(values)):
        total = total + np.cumsum(values[chunk], axis=0)[-1]
    return total


def _cumulated(values: Array) -> Array:
    """Return the sum up to each point: the sum of the chunks before, plus that within its chunk."""
    parts, before = [], 0.0
    for chunk in chunks(len(values)):
        parts.append(before + np.cumsum(values[chunk]))
        before = parts[-1][-1]
    return np.concatenate(parts)


def swaps(distances: Distances, X: Array, w: Array, centroids: Array, uniform: Array) -> Array:
    """See `streamclust.kernels.swaps`."""
    centroids = centroids.copy()
    near = _two_nearest(distances, X, centroids)
    for draw in uniform:
        cost = w * near.d1
        if not np.any(cost > 0.0):
            break
        point = X[_drawn(cost, np.array([draw]))]
        distance = distances(X, point)[:, 0]
        after = _after_swaps(near, w, distance, len(centroids))
        k = int(after.argmin())
        if after[k] < (1.0 - SWAP_ROUNDING) * _total(cost):
            centroids[k] = point
            near = _swapped(distances, near, X, centroids, k, distance)
    return centroids


@dataclass(frozen=True, eq=False)
class _Near:
    """Nearest and second nearest centroid of each point, and the squared distances, all (N,)."""

    first: Labels
    d1: Array
    second: Labels
    d2: Array


def _two_nearest(distances: Distances, X: Array, centroids: Array) -> _Near:
    parts = []
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(X), step):
        distance = distances(X[start : start + step], centroids)
        rows = np.arange(len(distance))
        first = distance.argmin(axis=1)
        d1 = distance[rows, first]
        distance[rows, first] = np.inf
        second = distance.argmin(axis=1)
        parts.append((first, d1, second, distance[rows, second]))
    return _Near(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _after_swaps(near: _Near, w: Array, distance: Array, K: int) -> Array:
    """Return J after a swap of each centroid, (K,), for a point with the `distance` (N,)."""
    unchanged = np.minimum(near.d1, distance)
    extra = w * (np.minimum(near.d2, distance) - unchanged)
    by_centroid = np.zeros(K)
    for chunk in chunks(len(extra)):
        by_centroid += np.bincount(near.first[chunk], weights=extra[chunk], minlength=K)
    return _total(w * unchanged) + by_centroid


def _swapped(
    distances: Distances, near: _Near, X: Array, centroids: Array, k: int, distance: Array
) -> _Near:
    """Return the two nearest centroids after `k` has moved; `distance` (N,) is to its new place."""
    first, d1 = near.first.copy(), near.d1.copy()
    second, d2 = near.second.copy(), near.d2.copy()
    affected = (first == k) | (second == k)
    nearer = ~affected & (distance < d1)
    second[nearer], d2[nearer] = first[nearer], d1[nearer]
    first[nearer], d1[nearer] = k, distance[nearer]
    between = ~affected & ~nearer & (distance < d2)
    second[between], d2[between] = k, distance[between]
    if affected.any():
        recomputed = _two_nearest(distances, X[affected], centroids)
        first[affected], d1[affected] = recomputed.first, recomputed.d1
        second[affected], d2[affected] = recomputed.second, recomputed.d2
    return _Near(first, d1, second, d2)


def moves(
    distances: Distances, X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
) -> tuple[Array, Labels]:
    """See `streamclust.kernels.moves`."""
    gain, target = np.zeros(len(X)), np.zeros(len(X), dtype=np.int64)
    costs = np.zeros(len(X))
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(X), step):
        part = slice(start, start + step)
        distance = distances(X[part], centroids)
        rows, own, m = np.arange(len(distance)), labels[part], w[part]
        d_own, rest = distance[rows, own], weight[own] - m
        shared = rest > MOVE_ROUNDING * weight[own]  # False: the point is the whole cluster
        leaving = np.zeros(len(distance))
        np.divide(m * weight[own] * d_own, rest, out=leaving, where=shared)
        entering = distance * (m[:, None] * weight / (weight + m[:, None]))
        entering[rows, own] = np.inf
        target[part] = entering.argmin(axis=1)
        gain[part] = leaving - entering[rows, target[part]]
        costs[part] = m * d_own
    return np.where(gain > MOVE_ROUNDING * _total(costs), gain, 0.0), target
