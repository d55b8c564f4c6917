"""Out of a local optimum of Lloyd's algorithm: single points that move to another cluster."""

from __future__ import annotations

import numpy as np

from streamclust import kernels
from streamclust.arrays import Array, Labels

_CELLS = 1 << 18
"""Distances that are held at a time."""

_ROUNDING = 1e-12
"""Share of J that a move has to gain: less may be rounding."""


def hartigan(X: Array, w: Array, centroids: Array) -> Array | None:
    """Move single points to clusters where J is lower once both centroids have followed.

    A point of weight w that leaves cluster a, of mass n_a, for b lowers J by
    w n_a / (n_a - w) d_a^2 - w n_b / (n_b + w) d_b^2, which can be positive although b is farther
    away (Hartigan & Wong 1979). So the optima of these moves are among Lloyd's, and fewer
    (Telgarsky & Vattani 2010). Of the best moves, those are made at once that share no cluster.

    Parameters
    ----------
    X, w : arrays of shape (N, D) and (N,)
    centroids : array of shape (K, D)
        Where Lloyd's algorithm came to rest.

    Returns
    -------
    array of shape (K, D) or None
        None if no move lowers J.
    """
    labels = kernels.assign(X, centroids).labels
    weight, centroids = _averages(X, w, labels, centroids)
    gain, target = _gains(X, w, labels, weight, centroids)
    moves = np.flatnonzero(gain > 0.0)
    if not len(moves):
        return None
    labels = labels.copy()
    touched: set[int] = set()
    for n in moves[np.argsort(-gain[moves], kind="stable")]:
        clusters = {int(labels[n]), int(target[n])}
        if not clusters & touched:
            touched |= clusters
            labels[n] = target[n]
    return _averages(X, w, labels, centroids)[1]


def _averages(X: Array, w: Array, labels: Labels, otherwise: Array) -> tuple[Array, Array]:
    weight, first = kernels.cluster_moments(X, w, labels, otherwise)
    mass = np.where(weight > 0.0, weight, 1.0)  # without points the moment is 0
    return weight, otherwise + first / mass[:, None]


def _gains(
    X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
) -> tuple[Array, Labels]:
    """Return by how much J falls with each point's best move, 0 without one, and its target."""
    gain, target = np.zeros(len(X)), np.zeros(len(X), dtype=np.intp)
    inertia = 0.0
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(X), step):
        part = slice(start, start + step)
        distance = kernels.squared_distances(X[part], centroids)
        rows, own, m = np.arange(len(distance)), labels[part], w[part]
        d_own, rest = distance[rows, own], weight[own] - m
        shared = rest > _ROUNDING * weight[own]  # else the point is its cluster
        leaving = np.zeros(len(distance))
        np.divide(m * weight[own] * d_own, rest, out=leaving, where=shared)
        entering = distance * (m[:, None] * weight / (weight + m[:, None]))
        entering[rows, own] = np.inf
        target[part] = entering.argmin(axis=1)
        gain[part] = leaving - entering[rows, target[part]]
        inertia += float((m * d_own).sum())
    return np.where(gain > _ROUNDING * inertia, gain, 0.0), target
