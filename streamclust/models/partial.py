"""Partial distances: K-means of points with gaps.

The squared distance of a point x to a centroid u is that of the values that are present, times the
number of features divided by theirs (Dixon 1979):

    d^2(x, u) = D / |o| sum_(d in o) (x_d - u_d)^2

The factor belongs to the point alone, so the nearest centroid is that of the plain sum. For the
statistics, the coordinate of the nearest centroid stands for a missing value. This is k-POD (Chi,
Chi & Baraniuk 2016): the m-step never raises the sum of squared differences of the present values.
Missing values thus pull a centroid to where it was. They don't move it, and the average of the
present values is the fixed point. All functions take points without gaps too, and then call the
kernels. See docs/internals/missing.md for what this estimate can't do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import has_gaps
from streamclust.errors import DataError
from streamclust.kernels.patterns import Patterns, split_rows

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels, Points

_CELLS = 1 << 17
"""Largest number of distances in memory: 1 MiB, so that they stay in cache."""

_FEW = 1 << 13
"""Differences of a pattern's points from which on the kernels are faster."""


def assign(X: Points, centroids: Array) -> kernels.Assigned:
    """Return each point's nearest centroid, and its squared partial distance."""
    if not has_gaps(X):
        return kernels.assign(X, centroids)
    (K, D), groups = centroids.shape, Patterns(X)
    labels, sqdist = np.empty(len(X), np.intp), np.empty(len(X))
    rows = groups.complete
    labels[rows], sqdist[rows] = kernels.assign(X.take(rows, axis=0), centroids)
    sizes = np.diff(groups.starts)
    many = sizes * (K * D) >= _FEW
    for p in np.flatnonzero(many):
        own = groups.order[groups.starts[p] : groups.starts[p + 1]]
        present = np.flatnonzero(~groups.absent[p])
        part = X.take(own, axis=0).take(present, axis=1)
        labels[own], distance = kernels.assign(part, centroids.take(present, axis=1))
        sqdist[own] = distance * (D / len(present))
    own = groups.order[np.repeat(~many, sizes)]
    if len(own):
        labels[own], sqdist[own] = _assign_one_by_one(X.take(own, axis=0), centroids)
    return kernels.Assigned(labels, sqdist)


def _assign_one_by_one(X: Points, centroids: Array) -> tuple[Labels, Array]:
    """Do the same for points of any patterns, from all squared distances; the same bits."""
    labels, sqdist = np.empty(len(X), np.intp), np.empty(len(X))
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(X), step):
        part = slice(start, start + step)
        distances = _canonical(X[part], centroids)
        labels[part] = distances.argmin(axis=1)
        sqdist[part] = distances.min(axis=1) * _scale(X[part])
    return labels, sqdist


def squared_distances(X: Points, centroids: Array) -> Array:
    """Return the squared partial distance to each centroid, (N, K)."""
    if not has_gaps(X):
        return kernels.squared_distances(X, centroids)
    step = max(1, _CELLS // len(centroids))
    parts = [X[start : start + step] for start in range(0, len(X), step)]
    return np.concatenate([_canonical(part, centroids) * _scale(part)[:, None] for part in parts])


def _canonical(X: Points, centroids: Array) -> Array:
    """Return the sums of the present squared differences, added from the first feature on."""
    total, difference = np.zeros((2, len(X), len(centroids)))
    present = ~np.isnan(X)
    values = np.where(present, X, 0.0)
    for x, there, u in zip(values.T, present.T, centroids.T, strict=True):
        np.subtract(x[:, None], u, out=difference)
        difference *= there[:, None]
        difference *= difference
        total += difference
    return total


def _scale(X: Points) -> Array:
    """Return D / |o| of each point."""
    present = (~np.isnan(X)).sum(axis=1)
    if not present.all():
        raise _nothing()
    return np.asarray(X.shape[1] / present)


def _nothing() -> DataError:
    return DataError("a point has no value: all its values are missing; drop such points")


def filled(X: Points, values: Array) -> Array:
    """Return points with those of `values` (N, D), (D,) or (1, D), in place of missing ones."""
    return np.where(np.isnan(X), values, X)


def filled_by_nearest(X: Points, centroids: Array) -> Array:
    """Return points with the coordinates of the nearest centroid in place of missing values."""
    if not has_gaps(X):
        return np.asarray(X, np.float64)
    return filled(X, centroids.take(assign(X, centroids).labels, axis=0))


def kmeans_step(X: Points, w: Array, centroids: Array) -> kernels.ClusterSums:
    """Return the sums of `kernels.kmeans_step`, of points with gaps: the complete points first."""
    n, (complete, gappy) = len(X), split_rows(X)
    sums = kernels.kmeans_step(X.take(complete, axis=0), w[complete], centroids)
    X, mass = X.take(gappy, axis=0), w[gappy]
    assigned = assign(X, centroids)
    imputed = filled(X, centroids.take(assigned.labels, axis=0))
    weight, first = kernels.cluster_moments(imputed, mass, assigned.labels, centroids)
    # One after the other: the sum of a matrix product depends on the machine.
    inertia = float(np.bincount(np.zeros(len(mass), np.intp), mass * assigned.sqdist, 1)[0])
    labels, sqdist = np.empty(n, np.intp), np.empty(n)
    for rows, part in ((complete, sums.assigned), (gappy, assigned)):
        labels[rows], sqdist[rows] = part
    return kernels.ClusterSums(
        sums.weight + weight,
        sums.first + first,
        sums.inertia + inertia,
        kernels.Assigned(labels, sqdist),
    )
