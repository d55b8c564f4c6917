"""The search for better mixtures: the start from K-means, split-and-merge, another K.

If K adapts, a component is split by EM with two components on the points that it is responsible
for. The gain on these points is a lower bound of the gain on all points. A merged component has the
total moments of both. Split-and-merge EM (Ueda, Nakano, Ghahramani & Hinton 2000) makes both moves
at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import has_gaps
from streamclust.errors import DataError, TooFewPointsError
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.kmeans_search import KMeansSearch
from streamclust.fitting.moves import FEW_POINTS_PENALTY, Move, Sample, Search, cut, partners
from streamclust.fitting.split_merge import has_few_points, overlap, rearrange
from streamclust.models.criteria import mixture_parameters
from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams
from streamclust.models.imputation import impute
from streamclust.models.kmeans import KMeans
from streamclust.models.present import filled_by_mean
from streamclust.models.revive import merge_components, split
from streamclust.models.spread import positive, robust_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.fitting.em import Data, EMResult
    from streamclust.models.stats import Stats

_PASSES = 20
"""Passes of EM on the halves of one component."""

_MAX_LEFT_OUT = 2.0
"""Largest share of points that the start leaves out, relative to the share of outliers."""

_MIN_RANGE = 1e-140
"""Least range of the features for which covariances and their ridges are normal numbers."""

_NEGLIGIBLE = 1e-3
"""Responsibility below which a point is ignored in the split of a component."""


class MixtureSearch(Search[MixtureParams]):
    """The moves of a Gaussian mixture."""

    family: GaussianMixture

    def check(self, X: Array) -> None:
        """Refuse points whose covariances would underflow.

        Raises
        ------
        DataError
            If points differ, but in no feature by more than 1e-140.
        """
        if self.family.missing == "learn" and has_gaps(X):
            X = filled_by_mean(X, np.ones(len(X)))
        largest = float(np.ptp(X, axis=0).max()) if X.size else 0.0
        if 0.0 < largest < _MIN_RANGE:
            raise DataError(
                f"all points of a mixture are within {largest:.3g} of each other; expected at "
                f"least {_MIN_RANGE:g}, because covariances are squares and would be too small for "
                "float64: multiply the points by a power of ten"
            )

    def init(self, X: Array, w: Array, rng: np.random.Generator) -> MixtureParams:
        """Return the mixture of the clusters of one run of K-means.

        With a background, points of clusters that are too small are left out, and K-means runs
        again. This ends when no cluster is too small, or twice the share of outliers is left out.
        """
        spread, max_left_out = (
            positive(robust_variance(X, w)),
            _MAX_LEFT_OUT * self.family.outliers * w.sum(),
        )
        Y, v = X, w
        labels, centroids = self._clusters(Y, v, rng)
        while self.family.outliers > 0.0:
            one_hot = np.eye(len(centroids))[labels]
            inner = ~has_few_points(self.family, Y, v, one_hot)[labels]
            if inner.all() or w.sum() - v[inner].sum() > max_left_out:
                break
            try:
                clusters = self._clusters(Y[inner], v[inner], rng)
            except TooFewPointsError:
                break
            Y, v, (labels, centroids) = Y[inner], v[inner], clusters
        return self.family.of_labels(Y, v, labels, centroids, spread)

    def _clusters(self, X: Array, w: Array, rng: np.random.Generator) -> tuple[Labels, Array]:
        """Return the cluster of each point and the centroids, by one run of K-means."""
        kmeans = KMeans(self.family.n_components)
        start = KMeansSearch(kmeans).init(X, w, rng)
        clusters = run_em(kmeans, start, InMemory(kmeans, X, w, rng)).params
        return kmeans.predict(clusters, X), clusters.centroids

    def leave_optimum(self, params: MixtureParams, X: Array, w: Array) -> MixtureParams | None:
        """With a background, replace components of too few points by halves of wide ones."""
        if self.family.outliers == 0.0:
            return None
        few = self._has_few_points(params, X, w)
        if not few.any():
            return None
        stats = self.family.e_step(params, X, w)
        stats, revived = split(stats, np.flatnonzero(few).tolist())
        return self.family.m_step(stats, params) if revived else None

    def gain(
        self,
        before: EMResult[MixtureParams],
        after: EMResult[MixtureParams],
        X: Array,
        w: Array,
    ) -> float:
        """Return the rise of the log-likelihood.

        With a background, the run with fewer components of too few points is infinitely better.
        """
        if self.family.outliers > 0.0:
            few_before, few_after = (
                int(self._has_few_points(run.params, X, w).sum()) for run in (before, after)
            )
            if few_before != few_after:
                return np.inf if few_after < few_before else -np.inf
        return super().gain(before, after, X, w)

    def _has_few_points(self, params: MixtureParams, X: Array, w: Array) -> NDArray[np.bool_]:
        return has_few_points(self.family, X, w, self.family.memberships(params, X))

    def split_merge(
        self,
        run: EMResult[MixtureParams],
        data: Data[MixtureParams],
        X: Array,
        w: Array,
        *,
        tol: float,
        max_iter: int,
    ) -> EMResult[MixtureParams]:
        """Split and merge components; see `streamclust.fitting.split_merge.rearrange`."""
        return rearrange(self.family, run, data, X, w, tol=tol, max_iter=max_iter)

    def optimism(self, n: float, n_features: int) -> float:
        """Return p / n nats for p free parameters (Akaike 1973)."""
        family = self.family
        return mixture_parameters(family.n_components, n_features, family.covariance_type) / n

    def excess(self, params: MixtureParams, other: MixtureParams, stats: Stats) -> float:
        """Return sum_k pi_k KL(N_k || N'_k) + KL(pi || pi') to second order, feature by feature."""
        shape, covariance = params.means.shape, self.family.covariance
        one, two = (covariance.variances(p.covariances, *shape) for p in (params, other))
        variance, weight = 0.5 * (one + two), 0.5 * (params.weights + other.weights)
        moved = (params.means - other.means) ** 2 / variance + 0.5 * ((one - two) / variance) ** 2
        shares = (params.weights - other.weights) ** 2
        np.divide(shares, weight, out=shares, where=weight > 0.0)
        return 0.5 * float(weight @ moved.sum(axis=1) + shares.sum())

    def bic(self, params: MixtureParams, points: Sample) -> float:
        """Return -2 L + p log n.

        A component with fewer points than parameters gets a penalty that no fit can outweigh,
        because its likelihood is no evidence.
        """
        K, D = params.means.shape
        stats = self.family.e_step(params, points.X, points.mass)
        penalty = FEW_POINTS_PENALTY * int((stats.weight < _parameters(self.family, D)).sum())
        p = mixture_parameters(K, D, self.family.covariance_type)
        return float(penalty - 2.0 * stats.objective + p * np.log(points.n))

    def propose_splits(self, params: MixtureParams, points: Sample) -> list[Move[MixtureParams]]:
        """Return splits of components; both halves are fitted to the points of the component."""
        family, needed = self.family, _parameters(self.family, params.means.shape[1])
        price = needed * np.log(points.n)
        responsibilities = family.memberships(params, points.X)
        moves = []
        for k, own in enumerate(responsibilities.T):
            rows = own > _NEGLIGIBLE
            X, mass = points.X[rows], points.mass[rows] * own[rows]
            if mass.sum() < 2.0 * needed:
                continue
            tied, covariances = family.covariance_type == "tied", params.covariances
            one = replace(
                params,
                weights=np.ones(1),
                means=params.means[[k]],
                covariances=covariances if tied else covariances[[k]],
            )
            whole = family.log_densities(one, X)[:, 0]
            halves = _halves(family, one, X, mass)
            if halves is None:
                continue
            gain = float(mass @ (family.with_components(2).score_points(halves, X) - whole))
            add = replace(halves, weights=params.weights[k] * halves.weights)
            moves.append(Move((k,), add, -2.0 * gain + price))
        return moves

    def propose_merges(self, params: MixtureParams, points: Sample) -> list[Move[MixtureParams]]:
        """Return the merge of each component with the one of the largest overlap."""
        family = self.family
        joint = family.log_joint(params, points.X)
        responsibilities = kernels.normalise(joint, family.log_background(params, points.X))[0]
        price = _parameters(family, params.means.shape[1]) * np.log(points.n)
        stats = family.prior_stats(params, 1.0)
        moves = []
        for i, j in partners(-overlap(responsibilities, points.mass)):
            all_merged = family.m_step(merge_components(stats, j, i), params)
            tied, covariances = family.covariance_type == "tied", all_merged.covariances
            merged = replace(
                all_merged,
                weights=all_merged.weights[[i]],
                means=all_merged.means[[i]],
                covariances=covariances if tied else covariances[[i]],
            )
            both = points.mass * (responsibilities[:, i] + responsibilities[:, j])
            one = family.with_components(1).log_joint(merged, points.X)[:, 0]
            two = np.logaddexp(joint[:, i], joint[:, j])
            used = both > 0.0
            gain = float(both[used] @ (one[used] - two[used]))
            moves.append(Move((i, j), merged, -2.0 * gain - price))
        return moves

    def apply(self, params: MixtureParams, moves: Sequence[Move[MixtureParams]]) -> MixtureParams:
        """Return the parameters after moves; new components come last."""
        dropped = [k for move in moves for k in move.drop]
        parts = [np.delete(params.weights, dropped), *(move.add.weights for move in moves)]
        means = [np.delete(params.means, dropped, axis=0), *(move.add.means for move in moves)]
        covariances = params.covariances
        if self.family.covariance_type != "tied":
            remaining = np.delete(covariances, dropped, axis=0)
            covariances = np.concatenate([remaining, *(move.add.covariances for move in moves)])
        weights = np.concatenate(parts)
        return replace(
            params,
            weights=weights / weights.sum(),
            means=np.concatenate(means),
            covariances=covariances,
        )


def _parameters(family: GaussianMixture, D: int) -> int:
    """Return the number of parameters of one more component."""
    two, one = (mixture_parameters(K, D, family.covariance_type) for K in (2, 1))
    return two - one


def _halves(
    family: GaussianMixture, one: MixtureParams, X: Array, mass: Array
) -> MixtureParams | None:
    """Return two components in place of `one`: EM after a cut across the widest axis."""
    two = replace(family.with_components(2), outliers=0.0)  # `mass` excludes outliers
    whole = impute(family.with_components(1), one, X).X if has_gaps(X) else X
    scale = np.sqrt(np.einsum("n,nd->d", mass, (whole - whole.mean(axis=0)) ** 2))
    scale = np.where(scale > 0.0, scale, 1.0)
    means = cut(whole / scale, mass)
    labels = kernels.assign(whole / scale, means).labels
    start = two.of_labels(whole, mass, labels, means * scale, one.spread)
    run = run_em(two, start, InMemory(two, X, mass, np.random.default_rng(0)), max_iter=_PASSES)
    return run.params if run.stats.alive.all() else None
