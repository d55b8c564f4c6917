"""The search for better centroids: seeding, swaps, moves of single points, another K.

If K adapts, each cluster is a spherical Gaussian with its own variance. This is the classification
likelihood of X-means (Pelleg & Moore 2000), with one variance per cluster instead of one in total,
because clusters differ in size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import square_unit
from streamclust.fitting.hartigan import hartigan
from streamclust.fitting.moves import FEW_POINTS_PENALTY, Move, Sample, Search, cut, partners
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
"""Least variance of a cluster, relative to that of all points: equal points are no evidence."""

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
        centroids = self._move_points(filled_by_nearest(X, params.centroids), w, params.centroids)
        return None if centroids is None else KMeansParams(centroids)

    def _move_points(self, X: Array, w: Array, centroids: Array) -> Array | None:
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

        The squared error of a centroid is the variance of its cluster divided by its number of
        points. So J is lower by a share K / n on the points of the fit, and higher by K / n on
        other points.
        """
        return 2.0 * self.family.n_clusters / n

    def excess(self, params: KMeansParams, other: KMeansParams, stats: Stats) -> float:
        """Return sum_k n_k ||u_k - u'_k||^2 as a share of J."""
        moved = ((params.centroids - other.centroids) ** 2).sum(axis=1)
        cost = float(self._cost_per_squared_distance(stats, params) @ moved) / stats.mass
        loss = self.family.loss(stats)
        return cost / loss if loss > 0.0 else cost

    def _cost_per_squared_distance(self, stats: Stats, params: KMeansParams) -> Array:
        """Return the cost per squared distance from each optimal centroid, (K,)."""
        return stats.weight

    def bic(self, params: KMeansParams, points: Sample) -> float:
        """Return -2 L + p log n of hard-assigned points, with one variance per cluster.

        p is K (D + 2) - 1: centroids, variances, mixing weights. A cluster with fewer points than
        its D + 2 parameters gets a penalty that no fit can outweigh.
        """
        K, n_parameters = (
            len(params.centroids),
            self._centroid_parameters(params.centroids.shape[1]) + 2,
        )
        mass, inertia, _ = self._clusters(params.centroids, points.X, points.mass)
        penalty = FEW_POINTS_PENALTY * int((mass < n_parameters).sum())
        misfit = float(self._misfit(mass, inertia, points).sum())
        return float(penalty + misfit + (K * n_parameters - 1) * np.log(points.n))

    def _centroid_parameters(self, n_features: int) -> int:
        """Return the number of free parameters of a centroid."""
        return n_features

    def _bic_of_parameters(self, n_features: int, points: Sample) -> float:
        """Return the part of the BIC for the parameters of one cluster."""
        return float((self._centroid_parameters(n_features) + 2.0) * np.log(points.n))

    def _centroid(self, centroid: Array) -> Array:
        """Return the centroid of a cluster with the average `centroid`."""
        return centroid

    def propose_splits(self, params: KMeansParams, points: Sample) -> list[Move[KMeansParams]]:
        """Return splits of clusters; both halves are fitted to the points of the cluster."""
        K, D = params.centroids.shape
        mass, inertia, labels = self._clusters(params.centroids, points.X, points.mass)
        whole, price = self._misfit(mass, inertia, points), self._bic_of_parameters(D, points)
        min_mass = self._centroid_parameters(D) + 2.0
        order = np.argsort(labels, kind="stable")
        ends = np.searchsorted(labels[order], np.arange(K + 1))
        moves = []
        for k in range(K):
            rows = order[ends[k] : ends[k + 1]]
            if mass[k] < 2.0 * min_mass:
                continue
            complete = filled(points.X[rows], params.centroids[k])
            halves = self._halves(complete, points.mass[rows])
            parts, spreads, _ = self._clusters(halves, points.X[rows], points.mass[rows])
            if parts.min() >= min_mass:
                change = self._misfit(parts, spreads, points).sum() - whole[k] + price
                moves.append(Move((k,), KMeansParams(halves), float(change)))
        return moves

    def propose_merges(self, params: KMeansParams, points: Sample) -> list[Move[KMeansParams]]:
        """Return the merge of each cluster with the most similar one."""
        centroids = params.centroids
        K, D = centroids.shape
        mass, inertia, labels = self._clusters(centroids, points.X, points.mass)
        apart, price = self._misfit(mass, inertia, points), self._bic_of_parameters(D, points)
        both = np.maximum(mass[:, None] + mass, np.finfo(float).tiny)  # also where both are empty
        if points.present < 1.0:
            present_mass = np.empty((K, D))  # the mass of the points that have a feature
            for d, present in enumerate((~np.isnan(points.X)).T):
                present_mass[:, d] = np.bincount(labels, points.mass * present, minlength=K)
            between = _between(centroids, present_mass) / points.present
        else:
            present_mass = mass[:, None]
            between = mass[:, None] * mass / both * kernels.squared_distances(centroids, centroids)
        together = self._misfit(both, inertia[:, None] + inertia + between, points)
        change = together - apart[:, None] - apart - price
        return [
            Move((i, j), KMeansParams(_merged(centroids, present_mass, i, j)), float(change[i, j]))
            for i, j in partners(change)
        ]

    def apply(self, params: KMeansParams, moves: Sequence[Move[KMeansParams]]) -> KMeansParams:
        """Return the centroids after moves; new ones come last."""
        remaining = np.delete(params.centroids, [k for move in moves for k in move.drop], axis=0)
        return KMeansParams(np.concatenate([remaining, *(move.add.centroids for move in moves)]))

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
        labels, squared_distances = assign(X, centroids)
        K = len(centroids)
        weight, inertia = (
            np.bincount(labels, values, minlength=K).astype(np.float64)  # also if there is no point
            for values in (mass, mass * squared_distances)
        )
        return weight, inertia, labels

    def _misfit(self, mass: Array, inertia: Array, points: Sample) -> Array:
        """Return -2 L of clusters of this mass and inertia, with unbiased variances.

        If values are missing, the inertia is that of partial distances, and the log density is
        multiplied by the share of present values.
        """
        D = self._centroid_parameters(points.X.shape[1])
        unbiased = inertia / (D * np.maximum(mass - 1.0, 1.0))
        floor = max(_FLOOR * points.variance, np.finfo(float).tiny)
        variance = np.maximum(unbiased, floor)
        share = np.maximum(mass, np.finfo(float).tiny) / points.n
        per_point = points.present * D * np.log(2.0 * np.pi * variance) - 2.0 * np.log(share)
        return np.asarray(mass * per_point + points.present * inertia / variance)


def _merged(centroids: Array, mass: Array, i: int, j: int) -> Array:
    """Return the centroid of two merged clusters, (1, D).

    `mass` is (K, 1), or (K, D) if values are missing.
    """
    both = np.maximum(mass[i] + mass[j], np.finfo(float).tiny)
    return np.asarray((centroids[i] + mass[j] / both * (centroids[j] - centroids[i]))[None])


def _between(centroids: Array, mass: Array) -> Array:
    """Return the rise of the inertia if two clusters are merged, (K, K)."""
    total = np.zeros((len(centroids), len(centroids)))
    for u, n in zip(centroids.T, mass.T, strict=True):
        both = np.maximum(n[:, None] + n, np.finfo(float).tiny)
        total += n[:, None] * n / both * (u[:, None] - u) ** 2
    return total
