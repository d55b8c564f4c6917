"""Good first centroids: greedy k-means++."""

from __future__ import annotations

import numpy as np

from streamclust.arrays import Array, Labels
from streamclust.errors import TooFewPointsError
from streamclust.kernels import squared_distances


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
    trials = 2 + int(np.log(n_clusters))
    centroids = np.empty((n_clusters, X.shape[1]))
    cost = w  # the first one is drawn by weight alone
    nearest = np.full(len(X), np.inf)
    for k in range(n_clusters):
        if not np.any(cost > 0):
            raise TooFewPointsError(
                f"{k} distinct points are too few for {n_clusters} components; "
                "give more points or fewer components"
            )
        drawn = _draw(cost, 1 if k == 0 else trials, rng)
        candidates = np.minimum(nearest[:, None], squared_distances(X, X[drawn]))
        best = int((w[:, None] * candidates).sum(axis=0).argmin())
        centroids[k] = X[drawn[best]]
        nearest = candidates[:, best]
        cost = w * nearest
    return centroids


def _draw(cost: Array, size: int, rng: np.random.Generator) -> Labels:
    """Draw `size` indices with probability proportional to `cost`, never one of cost 0."""
    cumulated = np.cumsum(cost / cost.max())
    drawn = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
    return np.asarray(drawn, dtype=np.intp)
