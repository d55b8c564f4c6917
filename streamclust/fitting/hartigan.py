"""Moves of single points to other clusters, to leave a local optimum of Lloyd's algorithm."""

from __future__ import annotations

import numpy as np

from streamclust import kernels
from streamclust.arrays import Array, Labels


def hartigan(X: Array, w: Array, centroids: Array) -> Array | None:
    """Move single points to other clusters where that lowers J, with updated centroids.

    If a point of weight w moves from cluster a, of mass n_a, to cluster b, J falls by
    w n_a / (n_a - w) d_a^2 - w n_b / (n_b + w) d_b^2, where d is the distance to a centroid. This
    can be positive although b is farther away (Hartigan & Wong 1979). So the optima of these moves
    are a subset of those of Lloyd's algorithm (Telgarsky & Vattani 2010). The best moves that share
    no cluster are made together.

    Parameters
    ----------
    X, w : arrays of shape (N, D) and (N,)
    centroids : array of shape (K, D)
        Result of Lloyd's algorithm.

    Returns
    -------
    array of shape (K, D) or None
        None if no move lowers J.
    """
    labels = kernels.assign(X, centroids).labels
    weight, centroids = _averages(X, w, labels, centroids)
    gain, target = kernels.moves(X, w, labels, weight, centroids)
    moves = np.flatnonzero(gain > 0.0)
    if not len(moves):
        return None
    chosen = disjoint(moves[np.argsort(-gain[moves], kind="stable")], labels, target)
    labels = labels.copy()
    labels[chosen] = target[chosen]
    return _averages(X, w, labels, centroids)[1]


def disjoint(moves: Labels, labels: Labels, target: Labels) -> list[int]:
    """Return the first of `moves`, best first, that share no cluster.

    Parameters
    ----------
    moves : array of shape (M,)
        Points to move.
    labels, target : arrays of shape (N,)
        Cluster of each point, and the cluster that it would move to.
    """
    chosen: list[int] = []
    touched: set[int] = set()
    for n in moves.tolist():
        clusters = {int(labels[n]), int(target[n])}
        if not clusters & touched:
            touched |= clusters
            chosen.append(n)
    return chosen


def _averages(X: Array, w: Array, labels: Labels, otherwise: Array) -> tuple[Array, Array]:
    weight, first = kernels.cluster_moments(X, w, labels, otherwise)
    mass = np.where(weight > 0.0, weight, 1.0)  # without points the moment is 0
    return weight, otherwise + first / mass[:, None]
