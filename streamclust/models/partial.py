"""Partial distances: K-means of points with gaps.

Let o be the set of the present values of a point x. Its squared distance to a centroid u is (Dixon
1979)

    d^2(x, u) = D / |o| sum_(d in o) (x_d - u_d)^2

The factor D / |o| doesn't depend on u, so the nearest centroid is that of the plain sum. In the
statistics, the coordinate of the nearest centroid replaces a missing value. This is k-POD (Chi,
Chi & Baraniuk 2016): the m-step never raises the sum of squared differences of the present values.
Missing values slow down a centroid, but don't change its fixed point, the average of the present
values. For points without gaps, all functions call the kernels. docs/internals/missing.md has the
limits of this estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import has_gaps
from streamclust.errors import DataError

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points

_CELLS = 1 << 17
"""Largest number of distances in memory: 1 MiB, so that they stay in cache."""


def assign(X: Points, centroids: Array) -> kernels.Assigned:
    """Return each point's nearest centroid, and its squared partial distance."""
    if not has_gaps(X):
        return kernels.assign(X, centroids)
    complete, gappy = kernels.split_rows(X)
    assigned = kernels.Assigned(np.empty(len(X), np.int64), np.empty(len(X)))
    if len(complete):
        nearest = kernels.assign(X.take(complete, axis=0), centroids)
        assigned.labels[complete], assigned.squared_distances[complete] = nearest
    kernels.partial_step(X, None, gappy, centroids, assigned)
    _check(assigned.squared_distances)
    return assigned


def _check(distances: Array) -> None:
    """Refuse points without a value: their distances are NaN."""
    if np.isnan(distances).any():
        raise DataError("a point has no value: all its values are missing; drop such points")


def squared_distances(X: Points, centroids: Array) -> Array:
    """Return the squared partial distance to each centroid, (N, K)."""
    if not has_gaps(X):
        return kernels.squared_distances(X, centroids)
    step = max(1, _CELLS // len(centroids))
    parts = [X[start : start + step] for start in range(0, len(X), step)]
    distances = np.concatenate([_squared_distances_with_gaps(part, centroids) for part in parts])
    _check(distances)
    return distances


def _squared_distances_with_gaps(X: Points, centroids: Array) -> Array:
    """Return the squared partial distances, (N, K), summed in the order of the features."""
    total, difference = np.zeros((2, len(X), len(centroids)))
    present = ~np.isnan(X)
    values = np.where(present, X, 0.0)
    for x, is_present, u in zip(values.T, present.T, centroids.T, strict=True):
        np.subtract(x[:, None], u, out=difference)
        difference *= is_present[:, None]
        difference *= difference
        total += difference
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total * (X.shape[1] / present.sum(axis=1))[:, None])


def filled(X: Points, values: Array) -> Array:
    """Return points with `values`, (N, D), (D,) or (1, D), in place of missing ones."""
    return np.where(np.isnan(X), values, X)


def filled_by_nearest(X: Points, centroids: Array) -> Array:
    """Return points with the coordinates of the nearest centroid in place of missing values."""
    if not has_gaps(X):
        return np.asarray(X, np.float64)
    return filled(X, centroids.take(assign(X, centroids).labels, axis=0))


def kmeans_step(X: Points, w: Array, centroids: Array) -> kernels.ClusterSums:
    """Return the sums of `kernels.kmeans_step` for points with gaps; complete points come first."""
    complete, gappy = kernels.split_rows(X)
    sums = kernels.kmeans_step(X.take(complete, axis=0), w[complete], centroids)
    assigned = kernels.Assigned(np.empty(len(X), np.int64), np.empty(len(X)))
    assigned.labels[complete], assigned.squared_distances[complete] = sums.assigned
    weight, first, inertia = kernels.partial_step(X, w, gappy, centroids, assigned)
    _check(assigned.squared_distances)
    return kernels.ClusterSums(
        sums.weight + weight, sums.first + first, sums.inertia + inertia, assigned
    )
