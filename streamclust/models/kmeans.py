"""K-means: hard assignments; the spherical, uniform-prior corner of the Gaussian mixture."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamclust import kernels
from streamclust.arrays import short_repr, square_unit
from streamclust.errors import DataError
from streamclust.hyperparameters import renamed, store
from streamclust.models.family import as_range, named_array
from streamclust.models.matching import match
from streamclust.models.revive import reseed
from streamclust.models.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamclust.arrays import Array, Labels, Points
    from streamclust.models.scaling import Scaling

_UNDERFLOW = 2.0**-800
"""Average squared distance below which single squared distances may have underflowed."""


@dataclass(frozen=True, eq=False)
class KMeansParams:
    """Centroids u_k, shape (K, D), and the scale of each feature, (D,), if they have several.

    With scales s, the nearest centroid minimises sum_d ((x_d - u_kd) / s_d)^2. The parameters of a
    learner have no scales, because the learner scales the points first.
    """

    centroids: Array
    scale: Array | None = None

    def __repr__(self) -> str:
        K, D = self.centroids.shape
        return short_repr(self, K=K, D=D)

    @property
    def means(self) -> Array:
        """The centroids, under the same name as the means of a mixture."""
        return self.centroids

    @cached_property
    def unit(self) -> float:
        """The divisor of centroids in comparisons; see `streamclust.arrays.square_unit`."""
        return square_unit(self.centroids)


@renamed(fewest="min_clusters")
@dataclass(frozen=True)
class KMeans:
    """K-means with J = sum_n w_n min_k ||x_n - u_k||^2 (Lloyd 1982; MacQueen 1967).

    Parameters
    ----------
    n_clusters : int
        Number of centroids K, at least 1.
    min_clusters : int, optional
        Let K adapt to the stream, between this number and `n_clusters`; see
        `streamclust.fitting.choose_k`.
    """

    n_clusters: int
    min_clusters: int | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "kmeans"
    objective: ClassVar[str] = "inertia"

    def __post_init__(self) -> None:
        n_clusters, min_clusters = as_range("clusters", self.n_clusters, self.min_clusters)
        store(self, n_clusters=n_clusters, min_clusters=min_clusters)

    @property
    def n_components(self) -> int:
        """Number of clusters K; the largest one if K adapts."""
        return self.n_clusters

    @property
    def fewest(self) -> int | None:
        """The smallest K if K adapts, else None: `min_clusters`, for both families alike."""
        return self.min_clusters

    def with_components(self, K: int) -> KMeans:
        """Return K-means with a fixed K."""
        return KMeans(K)

    def size(self, params: KMeansParams) -> int:
        """Return the number of centroids."""
        return len(params.centroids)

    def e_step(self, params: KMeansParams, X: Points, w: Array) -> Stats:
        """Assign each point to its nearest centroid; return weights and first moments."""
        return self.assigning_e_step(params, X, w)[0]

    def assigning_e_step(
        self, params: KMeansParams, X: Points, w: Array
    ) -> tuple[Stats, kernels.Assigned]:
        """Return the same statistics, and the assignments."""
        count = float(w.sum())
        sums = kernels.kmeans_step(X, w, params.centroids)
        if sums.inertia < _UNDERFLOW * count:
            sums = _step_of_small(X, w, params.centroids, sums)
        stats = Stats(
            weight=sums.weight,
            first=sums.first,
            second=None,
            reference=params.centroids,
            covariance_type=None,
            objective=sums.inertia,
            count=count,
        )
        return stats, sums.assigned

    def m_step(self, stats: Stats, params: KMeansParams) -> KMeansParams:
        """Move each centroid to the average of its cluster; without mass it stays."""
        return KMeansParams(stats.averages(otherwise=params.centroids))

    def map_step(self, stats: Stats, params: KMeansParams, prior: Array) -> KMeansParams:
        """Return the m-step: one point is enough for a centroid, so there is no prior."""
        return self.m_step(stats, params)

    def points_for_shape(self, n_features: int) -> float:
        """Return 0: a centroid has no shape."""
        return 0.0

    def spread(self, params: KMeansParams) -> Array | None:
        """Return None: K-means has no floor."""
        return None

    def with_spread(self, params: KMeansParams, spread: Array) -> KMeansParams:
        """Return `params`: K-means has no floor."""
        return params

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Reseed dying clusters on the batch; see `streamclust.models.revive.reseed`."""
        return reseed(stats, dying, X, w, rng)

    def check_spread(self, X: Array) -> None:
        """Accept all points; see `KMeansParams.unit`."""

    def excess(self, params: KMeansParams, other: KMeansParams, stats: Stats) -> float:
        """Return sum_k n_k ||u_k - u'_k||^2 as a share of J."""
        moved = ((params.centroids - other.centroids) ** 2).sum(axis=1)
        cost, loss = float(stats.weight @ moved) / stats.mass, self.loss(stats)
        return cost / loss if loss > 0.0 else cost

    def reorder(self, params: KMeansParams, order: Labels) -> KMeansParams:
        """Return the centroids in another order."""
        return KMeansParams(params.centroids[order], params.scale)

    def match(self, params: KMeansParams, onto: KMeansParams) -> Labels:
        """Return the order of `params` with the least distances to the centroids of `onto`."""
        return match(params.centroids, onto.centroids)

    def prior_stats(self, params: KMeansParams, weight: float) -> Stats:
        """Return statistics of `weight` points at each centroid."""
        K = len(params.centroids)
        return Stats(
            weight=np.full(K, float(weight)),
            first=np.zeros_like(params.centroids),
            second=None,
            reference=params.centroids,
            covariance_type=None,
            objective=0.0,
            count=0.0,
        )

    def loss(self, stats: Stats) -> float:
        """Return J / N, in squared units of the data."""
        return stats.objective / stats.count

    def improvement(self, before: float, after: float) -> float:
        """Return the relative fall of J."""
        return (before - after) / before if before > 0.0 else 0.0

    def in_units(self, params: KMeansParams, scaling: Scaling) -> KMeansParams:
        """Return centroids in the original units, with the scales for distances."""
        return KMeansParams(scaling.undo(params.centroids), scaling.scale)

    def loss_in_units(self, loss: float, scaling: Scaling) -> float:
        """Return the loss unchanged: J stays in scaled units, or one feature could dominate."""
        return loss

    def predict(self, params: KMeansParams, X: Array) -> Labels:
        """Return the number of the nearest centroid, shape (N,)."""
        return kernels.assign(*_comparable(params, X)[:2]).labels

    def score_points(self, params: KMeansParams, X: Array) -> Array:
        """Return the squared distance to the nearest centroid, shape (N,)."""
        X, centroids, unit = _comparable(params, X)
        return kernels.assign(X, centroids).sqdist * unit * unit

    def squared_distances(self, params: KMeansParams, X: Array) -> Array:
        """Return the squared distance to each centroid, shape (N, K)."""
        X, centroids, unit = _comparable(params, X)
        return kernels.squared_distances(X, centroids) * unit * unit

    def distances(self, params: KMeansParams, X: Array) -> Array:
        """Return the distance to each centroid, shape (N, K)."""
        X, centroids, unit = _comparable(params, X)
        return np.sqrt(kernels.squared_distances(X, centroids)) * unit

    def to_arrays(self, params: KMeansParams) -> dict[str, Array]:
        """Return {'centroids': (K, D)}, and 'scale': (D,) if there is one."""
        arrays = {"centroids": params.centroids}
        return arrays if params.scale is None else {**arrays, "scale": params.scale}

    def from_arrays(self, arrays: Mapping[str, Array]) -> KMeansParams:
        """Return parameters from {'centroids': (K, D)} and perhaps 'scale': (D,)."""
        K = self.n_clusters if self.fewest is None else None
        centroids = named_array(arrays, "centroids", (K, None))
        if "scale" not in arrays:
            return KMeansParams(centroids)
        scale = named_array(arrays, "scale", (centroids.shape[1],))
        if not (scale > 0.0).all():
            raise DataError("scale holds a number that isn't positive")
        return KMeansParams(centroids, scale)


def _comparable(params: KMeansParams, X: Array) -> tuple[Array, Array, float]:
    """Return points and centroids in the units of distances, divided by a power of two.

    The third value is this power of two: 1.0 unless squares of distances would underflow.
    """
    if params.scale is not None:
        center = params.centroids.mean(axis=0)
        return (X - center) / params.scale, (params.centroids - center) / params.scale, 1.0
    if params.unit == 1.0:
        return X, params.centroids, 1.0
    unit = square_unit(X, params.centroids)
    return X / unit, params.centroids / unit, unit


def _step_of_small(
    X: Points, w: Array, centroids: Array, sums: kernels.ClusterSums
) -> kernels.ClusterSums:
    """Return the sums without underflow, or `sums` if nothing underflowed."""
    unit = square_unit(X, centroids)
    if unit == 1.0:
        return sums
    weight, first, inertia, (labels, sqdist) = kernels.kmeans_step(X / unit, w, centroids / unit)
    assigned = kernels.Assigned(labels, sqdist * unit * unit)
    return kernels.ClusterSums(weight, first * unit, inertia * unit * unit, assigned)
