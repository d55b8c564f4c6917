"""The search for better unit centroids: K-means with the metric cosine.

Seeds and swaps are those of K-means, because ||x - u||^2 = 2 (1 - cos) for unit vectors. Let R_k be
the sum of the vectors of cluster k, and r_k its length. The centroid is R_k / r_k and the loss is
n_k - r_k, so moves and merges compare lengths of sums.

If K adapts, each cluster is a von Mises-Fisher distribution with its own concentration kappa. It is
approximated by a Gaussian in the D - 1 directions tangent to the sphere, of the variance
2 (1 - r / n) / (D - 1) = 1 / kappa (Mardia & Jupp 2000, section 9.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.errors import TooFewPointsError
from streamclust.fitting.hartigan import disjoint
from streamclust.fitting.kmeans_search import KMeansSearch
from streamclust.fitting.moves import Move, partners
from streamclust.models.directions import number_of_directions
from streamclust.models.kmeans import KMeansParams

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels
    from streamclust.fitting.moves import Sample
    from streamclust.models.stats import Stats

_TILE_CELLS = 1 << 20
"""Largest number of inner products in memory."""

_NO_GAIN = 1e-12
"""Gain of a move, relative to the point's weight, that may be a rounding error."""


class SphericalSearch(KMeansSearch):
    """The moves of K-means with the metric cosine."""

    def unit(self, X: Array) -> float:
        """Return 1: the points are unit vectors."""
        return 1.0

    def init(self, X: Array, w: Array, rng: np.random.Generator) -> KMeansParams:
        """Return centroids drawn by greedy k-means++ and improved by swaps (LS++)."""
        K = self.family.n_clusters
        if (n_directions := number_of_directions(X, K)) < K:
            raise TooFewPointsError(
                f"{n_directions} distinct directions are too few for {K} components; "
                "give more points or fewer components"
            )
        return super().init(X, w, rng)

    def exact_optimum(self, X: Array, w: Array) -> None:
        """Return None: in one dimension there are only two directions."""

    def _move_points(self, X: Array, w: Array, centroids: Array) -> Array | None:
        return first_variation(X, w, centroids)

    def _cost_per_squared_distance(self, stats: Stats, params: KMeansParams) -> Array:
        """Return half of the length r_k of each cluster's sum."""
        averages = stats.averages(otherwise=params.centroids)
        return np.asarray(0.5 * stats.weight * np.linalg.norm(averages, axis=1))

    def _centroid_parameters(self, n_features: int) -> int:
        return max(n_features - 1, 1)

    def _centroid(self, centroid: Array) -> Array:
        length = np.linalg.norm(centroid, axis=-1, keepdims=True)
        return np.asarray(centroid / np.where(length > 0.0, length, 1.0))

    def propose_merges(self, params: KMeansParams, points: Sample) -> list[Move[KMeansParams]]:
        """Return the merge of each cluster with the most similar one."""
        centroids, D = params.centroids, params.centroids.shape[1]
        mass, inertia, _ = self._clusters(centroids, points.X, points.mass)
        apart, price = self._misfit(mass, inertia, points), self._bic_of_parameters(D, points)
        sums = (mass - 0.5 * inertia)[:, None] * centroids
        square = (sums**2).sum(axis=1)
        length = np.sqrt(np.maximum(square[:, None] + square + 2.0 * sums @ sums.T, 0.0))
        both = np.maximum(mass[:, None] + mass, np.finfo(float).tiny)  # also where both are empty
        together = self._misfit(both, 2.0 * np.maximum(both - length, 0.0), points)
        change = together - apart[:, None] - apart - price
        return [
            Move((i, j), KMeansParams(self._centroid(sums[i] + sums[j])[None]), float(change[i, j]))
            for i, j in partners(change)
            if length[i, j] > _NO_GAIN * both[i, j]
        ]


def first_variation(X: Array, w: Array, centroids: Array) -> Array | None:
    """Move single points to other clusters where that increases the total length of the sums.

    If a point x of weight w moves from cluster a to cluster b, the total length grows by
    |R_a - w x| - |R_a| + |R_b + w x| - |R_b|. This can be positive although the centroid of b is
    farther away (Dhillon, Guan & Kogan 2002). The best moves that share no cluster are made
    together.

    Parameters
    ----------
    X, w : arrays of shape (N, D) and (N,)
        Unit vectors, and their weights.
    centroids : array of shape (K, D)

    Returns
    -------
    array of shape (K, D) or None
        None if no move gains.
    """
    labels = kernels.assign(X, centroids).labels
    sums = _sums(X, w, labels, centroids)
    gain, target = np.empty(len(X)), np.empty(len(X), np.intp)
    tile = max(1, _TILE_CELLS // len(centroids))
    for start in range(0, len(X), tile):
        rows = slice(start, start + tile)
        gain[rows], target[rows] = _gains(X[rows], w[rows], labels[rows], sums)
    moves = np.flatnonzero(gain > _NO_GAIN * w)
    if not len(moves):
        return None
    chosen = disjoint(moves[np.argsort(-gain[moves], kind="stable")], labels, target)
    labels = labels.copy()
    labels[chosen] = target[chosen]
    sums = _sums(X, w, labels, centroids)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    is_defined = length > _NO_GAIN * w.max()
    return np.asarray(np.where(is_defined, sums / np.where(is_defined, length, 1.0), centroids))


def _sums(X: Array, w: Array, labels: Labels, centroids: Array) -> Array:
    weight, first = kernels.cluster_moments(X, w, labels, centroids)
    return np.asarray(weight[:, None] * centroids + first)


def _gains(X: Array, w: Array, labels: Labels, sums: Array) -> tuple[Array, Labels]:
    """Return the largest gain of a move of each point, and the target cluster, both (N,)."""
    inner, square = X @ sums.T, (sums**2).sum(axis=1)
    length, rows, w_column = np.sqrt(square), np.arange(len(X)), w[:, None]
    # |R + w x| - |R|, without the cancellation of a difference of two large lengths
    change = 2.0 * w_column * inner + w_column**2
    after = np.sqrt(np.maximum(square + change, 0.0)) + length
    joins = change / np.where(after > 0.0, after, 1.0)
    change = w**2 - 2.0 * w * inner[rows, labels]
    after = np.sqrt(np.maximum(square[labels] + change, 0.0)) + length[labels]
    leaves = change / np.where(after > 0.0, after, 1.0)
    joins[rows, labels] = -np.inf
    target = joins.argmax(axis=1)
    return np.asarray(joins[rows, target] + leaves), target
