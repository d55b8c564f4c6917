"""K-means with another number of clusters: one round Gaussian a cluster, and its BIC.

The classification likelihood of X-means (Pelleg & Moore 2000), with a variance for each cluster
instead of one for all: clusters differ in size.
"""

from __future__ import annotations

import numpy as np

from streamclust import kernels
from streamclust.arrays import Array, Labels
from streamclust.fitting.moves import THIN, Move, Sample, cut, partners

_FLOOR = 1e-6
"""Least variance of a cluster, as a share of that of all points: equal points are no evidence."""

_PASSES = 20
"""Of Lloyd's algorithm on the halves of one cluster."""


def bic(centroids: Array, points: Sample) -> float:
    """Return -2 L + p log n of hard-assigned points, each cluster with a variance of its own.

    p is K (D + 2) - 1: centroids, variances, shares. A cluster of fewer points than parameters,
    D + 2, is worse than any fit is good.
    """
    K, D = centroids.shape
    mass, inertia, _ = _clusters(centroids, points.X, points.mass)
    thin = THIN * int((mass < D + 2.0).sum())
    misfit = float(_misfit(mass, inertia, points).sum())
    return float(thin + misfit + (K * (D + 2) - 1) * np.log(points.n))


def splits(centroids: Array, points: Sample) -> list[Move[Array]]:
    """Return clusters cut in two, both halves settled on the cluster's own points."""
    K, D = centroids.shape
    mass, inertia, labels = _clusters(centroids, points.X, points.mass)
    whole, price = _misfit(mass, inertia, points), (D + 2.0) * np.log(points.n)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(K + 1))
    moves = []
    for k in range(K):
        rows = order[ends[k] : ends[k + 1]]
        if mass[k] < 2.0 * (D + 2.0):
            continue
        halves = _halves(points.X[rows], points.mass[rows])
        parts, spreads, _ = _clusters(halves, points.X[rows], points.mass[rows])
        if parts.min() >= D + 2.0:
            change = _misfit(parts, spreads, points).sum() - whole[k] + price
            moves.append(Move((k,), halves, float(change)))
    return moves


def merges(centroids: Array, points: Sample) -> list[Move[Array]]:
    """Return each cluster merged with the one that it is told from the least."""
    D = centroids.shape[1]
    mass, inertia, _ = _clusters(centroids, points.X, points.mass)
    apart, price = _misfit(mass, inertia, points), (D + 2.0) * np.log(points.n)
    both = mass[:, None] + mass
    between = mass[:, None] * mass / both * kernels.squared_distances(centroids, centroids)
    together = _misfit(both, inertia[:, None] + inertia + between, points)
    change = together - apart[:, None] - apart - price
    return [
        Move((i, j), (mass[[i, j]] @ centroids[[i, j]] / both[i, j])[None], float(change[i, j]))
        for i, j in partners(change)
    ]


def _halves(X: Array, w: Array) -> Array:
    """Return two centroids where Lloyd's algorithm rests from a cut across the widest axis."""
    centroids = cut(X, w)
    for _ in range(_PASSES):
        sums = kernels.kmeans_step(X, w, centroids)
        if not sums.weight.min() > 0.0 or not sums.first.any():
            break
        centroids = centroids + sums.first / sums.weight[:, None]
    return centroids


def _clusters(centroids: Array, X: Array, mass: Array) -> tuple[Array, Array, Labels]:
    """Return the mass and the inertia of each cluster, (K,), and the points' labels, (M,)."""
    labels, sqdist = kernels.assign(X, centroids)
    K = len(centroids)
    weight, inertia = (
        np.bincount(labels, each, minlength=K).astype(np.float64)  # also where there is no point
        for each in (mass, mass * sqdist)
    )
    return weight, inertia, labels


def _misfit(mass: Array, inertia: Array, points: Sample) -> Array:
    """Return -2 L of clusters of the given mass and inertia, with their unbiased variances."""
    D = points.X.shape[1]
    unbiased = inertia / (D * np.maximum(mass - 1.0, 1.0))
    floor = max(_FLOOR * points.variance, np.finfo(float).tiny)
    variance = np.maximum(unbiased, floor)
    share = np.maximum(mass, np.finfo(float).tiny) / points.n
    each = D * np.log(2.0 * np.pi * variance) - 2.0 * np.log(share)
    return np.asarray(mass * each + inertia / variance)
