"""The search for better centroids: seeding, swaps, moves of single points, another K.

If K adapts, each cluster is a spherical Gaussian with its own variance. This is the classification
likelihood of X-means (Pelleg & Moore 2000), but with one variance per cluster instead of one for
all, because clusters differ in size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import square_unit
from streamclust.fitting.hartigan import hartigan
from streamclust.fitting.moves import THIN, Move, Sample, Search, cut, partners
from streamclust.fitting.one_dimensional import optimal_centroids
from streamclust.fitting.seeding import is_large, local_search, seed_centroids
from streamclust.models.kmeans import KMeans, KMeansParams
from streamclust.models.partial import assign, filled, filled_by_nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array, Labels
    from streamclust.fitting.em import EMResult
    from streamclust.models.stats import Stats

_FLOOR = 1e-6
"""Least variance of a cluster, relative to all points, so that equal points are no evidence."""

_PASSES = 20
"""Passes of Lloyd's algorithm on the halves of one cluster."""


class KMeansSearch(Search[KMeansParams]):
    """The moves of K-means."""

    family: KMeans

    def unit(self, X: Array) -> float:
        """Return the unit of distances; see `streamclust.arrays.square_unit`."""
        return square_unit(X)

    def in_original_units(self, run: EMResult[KMeansParams], unit: float) -> EMResult[KMeansParams]:
        """Return a run on points divided by `unit`, in the units of the points."""
        centroids = run.params.centroids * unit
        stats = replace(
            run.stats,
            first=run.stats.first * unit,
            reference=centroids,
            objective=run.stats.objective * unit * unit,
        )
        history = tuple(loss * unit * unit for loss in run.history)
        return replace(run, params=KMeansParams(centroids), stats=stats, history=history)

    def init(self, X: Array, w: Array, rng: np.random.Generator) -> KMeansParams:
        """Return centroids drawn by greedy k-means++ and improved by swaps (LS++)."""
        return KMeansParams(seed_centroids(X, w, self.family.n_clusters, rng))

    def exact_optimum(self, X: Array, w: Array) -> KMeansParams | None:
        """Return the best centroids in one dimension; see `streamclust.fitting.one_dimensional`."""
        if X.shape[1] != 1 or not len(X):
            return None
        return KMeansParams(optimal_centroids(X[:, 0], w, self.family.n_clusters)[:, None])

    def leave_optimum(self, params: KMeansParams, X: Array, w: Array) -> KMeansParams | None:
        """Move single points, unless K is too large; see `streamclust.fitting.hartigan`."""
        K = len(params.centroids)
        if K == 1 or is_large(X, K):
            return None
        centroids = self._moved(filled_by_nearest(X, params.centroids), w, params.centroids)
        return None if centroids is None else KMeansParams(centroids)

    def _moved(self, X: Array, w: Array, centroids: Array) -> Array | None:
        return hartigan(X, w, centroids)

    def perturb(
        self, params: KMeansParams, X: Array, w: Array, rng: np.random.Generator
    ) -> KMeansParams:
        """Swap centroids for points; see `streamclust.fitting.seeding.local_search`."""
        if len(params.centroids) == 1:
            return params
        X = filled_by_nearest(X, params.centroids)
        return KMeansParams(local_search(X, w, params.centroids, rng))

    def optimism(self, n: float, n_features: int) -> float:
        """Return 2 K / n.

        The squared error of a centroid is its cluster's variance divided by the number of points.
        So J is lower by K / n (relative) on the points of the fit, and higher by K / n on others.
        """
        return 2.0 * self.family.n_clusters / n

    def excess(self, params: KMeansParams, other: KMeansParams, stats: Stats) -> float:
        """Return sum_k n_k ||u_k - u'_k||^2 as a share of J."""
        moved = ((params.centroids - other.centroids) ** 2).sum(axis=1)
        cost = float(self._strength(stats, params) @ moved) / stats.mass
        loss = self.family.loss(stats)
        return cost / loss if loss > 0.0 else cost

    def _strength(self, stats: Stats, params: KMeansParams) -> Array:
        """Return what a squared distance from each optimal centroid costs, (K,)."""
        return stats.weight

    def bic(self, params: KMeansParams, points: Sample) -> float:
        """Return -2 L + p log n of hard-assigned points, with one variance per cluster.

        p is K (D + 2) - 1: centroids, variances, mixing weights. A cluster with fewer points than
        its D + 2 parameters gets a penalty that no fit can outweigh.
        """
        K, each = len(params.centroids), self._freedom(params.centroids.shape[1]) + 2
        mass, inertia, _ = self._clusters(params.centroids, points.X, points.mass)
        penalty = THIN * int((mass < each).sum())
        misfit = float(self._misfit(mass, inertia, points).sum())
        return float(penalty + misfit + (K * each - 1) * np.log(points.n))

    def _freedom(self, n_features: int) -> int:
        """Return the number of free parameters of a centroid."""
        return n_features

    def _price(self, n_features: int, points: Sample) -> float:
        """Return the part of the BIC that a cluster's parameters cost."""
        return float((self._freedom(n_features) + 2.0) * np.log(points.n))

    def _centroid(self, centroid: Array) -> Array:
        """Return an average as a centroid."""
        return centroid

    def propose_splits(self, params: KMeansParams, points: Sample) -> list[Move[KMeansParams]]:
        """Return splits of clusters; both halves are fitted to the cluster's own points."""
        K, D = params.centroids.shape
        mass, inertia, labels = self._clusters(params.centroids, points.X, points.mass)
        whole, price = self._misfit(mass, inertia, points), self._price(D, points)
        fewest = self._freedom(D) + 2.0
        order = np.argsort(labels, kind="stable")
        ends = np.searchsorted(labels[order], np.arange(K + 1))
        moves = []
        for k in range(K):
            rows = order[ends[k] : ends[k + 1]]
            if mass[k] < 2.0 * fewest:
                continue
            own = filled(points.X[rows], params.centroids[k])
            halves = self._halves(own, points.mass[rows])
            parts, spreads, _ = self._clusters(halves, points.X[rows], points.mass[rows])
            if parts.min() >= fewest:
                change = self._misfit(parts, spreads, points).sum() - whole[k] + price
                moves.append(Move((k,), KMeansParams(halves), float(change)))
        return moves

    def propose_merges(self, params: KMeansParams, points: Sample) -> list[Move[KMeansParams]]:
        """Return the merge of each cluster with the most similar one."""
        centroids = params.centroids
        K, D = centroids.shape
        mass, inertia, labels = self._clusters(centroids, points.X, points.mass)
        apart, price = self._misfit(mass, inertia, points), self._price(D, points)
        both = np.maximum(mass[:, None] + mass, np.finfo(float).tiny)  # also where both are empty
        if points.present < 1.0:
            own = np.empty((K, D))  # the mass of the points that have a feature
            for d, present in enumerate((~np.isnan(points.X)).T):
                own[:, d] = np.bincount(labels, points.mass * present, minlength=K)
            between = _between(centroids, own) / points.present
        else:
            own = mass[:, None]
            between = mass[:, None] * mass / both * kernels.squared_distances(centroids, centroids)
        together = self._misfit(both, inertia[:, None] + inertia + between, points)
        change = together - apart[:, None] - apart - price
        return [
            Move((i, j), KMeansParams(_merged(centroids, own, i, j)), float(change[i, j]))
            for i, j in partners(change)
        ]

    def apply(self, params: KMeansParams, moves: Sequence[Move[KMeansParams]]) -> KMeansParams:
        """Return the centroids after moves; new ones come last."""
        kept = np.delete(params.centroids, [k for move in moves for k in move.drop], axis=0)
        return KMeansParams(np.concatenate([kept, *(move.add.centroids for move in moves)]))

    def _halves(self, X: Array, w: Array) -> Array:
        """Return two centroids: Lloyd's algorithm after a cut across the widest axis."""
        centroids = self._centroid(cut(X, w))
        for _ in range(_PASSES):
            sums = kernels.kmeans_step(X, w, centroids)
            if not sums.weight.min() > 0.0 or not sums.first.any():
                break
            centroids = self._centroid(centroids + sums.first / sums.weight[:, None])
        return centroids

    def _clusters(self, centroids: Array, X: Array, mass: Array) -> tuple[Array, Array, Labels]:
        """Return the mass and the inertia of each cluster, (K,), and the points' labels, (M,)."""
        labels, sqdist = assign(X, centroids)
        K = len(centroids)
        weight, inertia = (
            np.bincount(labels, each, minlength=K).astype(np.float64)  # also if there is no point
            for each in (mass, mass * sqdist)
        )
        return weight, inertia, labels

    def _misfit(self, mass: Array, inertia: Array, points: Sample) -> Array:
        """Return -2 L of clusters of the given mass and inertia, with their unbiased variances.

        If values are missing, inertia is that of complete points, and L counts the present share.
        """
        D = self._freedom(points.X.shape[1])
        unbiased = inertia / (D * np.maximum(mass - 1.0, 1.0))
        floor = max(_FLOOR * points.variance, np.finfo(float).tiny)
        variance = np.maximum(unbiased, floor)
        share = np.maximum(mass, np.finfo(float).tiny) / points.n
        each = points.present * D * np.log(2.0 * np.pi * variance) - 2.0 * np.log(share)
        return np.asarray(mass * each + points.present * inertia / variance)


def _merged(centroids: Array, mass: Array, i: int, j: int) -> Array:
    """Return the average of two centroids as one, (1, D); `mass` is (K, 1), or (K, D) with gaps."""
    both = np.maximum(mass[i] + mass[j], np.finfo(float).tiny)
    return np.asarray((centroids[i] + mass[j] / both * (centroids[j] - centroids[i]))[None])


def _between(centroids: Array, mass: Array) -> Array:
    """Return what the merge of two clusters adds to the squared differences, (K, K)."""
    total = np.zeros((len(centroids), len(centroids)))
    for u, n in zip(centroids.T, mass.T, strict=True):
        both = np.maximum(n[:, None] + n, np.finfo(float).tiny)
        total += n[:, None] * n / both * (u[:, None] - u) ** 2
    return total
