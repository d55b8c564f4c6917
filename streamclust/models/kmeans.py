"""K-means: minimise J = sum_n ||x_n - u_z(n)||^2 over assignments z(n) and centroids u_k.

    E-step    z(n) = argmin_k ||x_n - u_k||^2
    M-step    u_k = average of the x_n with z(n) = k

(Bishop 2006, section 9.1). K-means is a Gaussian mixture with equal weights and covariances
epsilon I in the limit epsilon -> 0: responsibilities become 0 or 1.

With the metric cosine, this is spherical K-means (Dhillon & Modha 2001): points and centroids are
unit vectors. `KMeans.prepare` normalises the points once, and the m-step normalises the average of
each cluster. The statistics are sums of unit vectors, so they stay additive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np

from streamclust import kernels
from streamclust.arrays import (
    MAX_MAGNITUDE,
    Metric,
    Missing,
    has_gaps,
    short_repr,
    square_unit,
)
from streamclust.errors import DataError
from streamclust.hyperparameters import check_choice, renamed, store
from streamclust.models import partial
from streamclust.models.directions import have_direction, normalized
from streamclust.models.family import BatchStep, StepOutputs, as_range, named_array
from streamclust.models.matching import match
from streamclust.models.revive import reseed
from streamclust.models.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamclust.arrays import AnyPoints, Array, Labels, Points

_MIN_LENGTH = 2.0**-40
"""If the average of a cluster's unit vectors is shorter than this, it is a rounding error."""

_UNDERFLOW = 2.0**-800
"""If the average squared distance is below this, single squared distances may have underflowed."""


@dataclass(frozen=True, eq=False)
class KMeansParams:
    """The codebook of K-means.

    Parameters
    ----------
    centroids : array of shape (K, D)
        The centroids u_k.
    scale : array of shape (D,), optional
        The scale s_d of each feature: the nearest centroid minimises
        sum_d ((x_d - u_kd) / s_d)^2. The parameters in a learner's state have no scales, because
        the learner scales the points first.
    """

    centroids: Array
    scale: Array | None = None

    covariance_type: ClassVar[None] = None

    def __repr__(self) -> str:
        return short_repr(self, **dict(zip("KD", np.shape(self.centroids), strict=False)))

    @property
    def means(self) -> Array:
        """The centroids, under the same name as the means of a mixture."""
        return self.centroids

    @cached_property
    def unit(self) -> float:
        """The unit of very small centroids, else 1.0; see `streamclust.arrays.square_unit`."""
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
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine': only directions count. J = sum_n w_n min_k (1 - cos(x_n, u_k)), centroids are unit
        vectors, and zero vectors are refused.
    missing : {'reject', 'learn'}, default='reject'
        'learn': NaN is a missing value. Distances are partial distances: the squared differences of
        the present values, times D / their number (Dixon 1979); see `streamclust.models.partial`.
        Only for the Euclidean metric.

    Raises
    ------
    DataError
        If a value isn't allowed.
    """

    n_clusters: int
    min_clusters: int | None = field(default=None, kw_only=True)
    metric: Metric = field(default="euclidean", kw_only=True)
    missing: Missing = field(default="reject", kw_only=True)

    kind: ClassVar[str] = "kmeans"
    objective: ClassVar[str] = "inertia"
    covariance_type: ClassVar[None] = None

    def __post_init__(self) -> None:
        n_clusters, min_clusters = as_range("clusters", self.n_clusters, self.min_clusters)
        check_choice("metric", self.metric, get_args(Metric))
        check_choice("missing", self.missing, get_args(Missing))
        if self._cosine and self.missing == "learn":
            raise DataError(
                "missing is 'learn'; metric cosine needs all values of a point, because they "
                "determine its direction: use metric 'euclidean', or missing 'reject'"
            )
        store(self, n_clusters=n_clusters, min_clusters=min_clusters)

    @property
    def _cosine(self) -> bool:
        return self.metric == "cosine"

    @property
    def max_magnitude(self) -> float:
        """Largest |x|: any finite number for the metric cosine."""
        return float(np.finfo(np.float64).max) if self._cosine else MAX_MAGNITUDE

    def prepare(self, X: AnyPoints) -> AnyPoints:
        """Return the points; unit vectors for the metric cosine, which refuses zero vectors."""
        return normalized(X) if self._cosine else X

    @property
    def n_components(self) -> int:
        """Number of clusters K; the largest one if K adapts."""
        return self.n_clusters

    @property
    def min_components(self) -> int | None:
        """The smallest K if K adapts, else None; `min_clusters` under a name of both families."""
        return self.min_clusters

    @property
    def fewest(self) -> int | None:
        """Old name of `min_components`."""
        return self.min_clusters

    def with_components(self, K: int) -> KMeans:
        """Return K-means with a fixed K."""
        return replace(self, n_clusters=K, min_clusters=None)

    def e_step(self, params: KMeansParams, X: Points | kernels.StoredPoints, w: Array) -> Stats:
        """Assign each point to its nearest centroid; return N_k, sum_(z(n) = k) x_n, and J.

        The sums are about the centroids. Points that are stored in a file have no missing values.
        """
        count = float(w.sum())
        if isinstance(X, kernels.StoredPoints) or not self._incomplete(X):
            sums = kernels.kmeans_sums(X, w, params.centroids)
            if sums.inertia >= _UNDERFLOW * count:
                return self._stats(params, *sums, count)
        X = X.read() if isinstance(X, kernels.StoredPoints) else X
        return self.batch_step(params, X, w, StepOutputs()).stats

    def batch_step(
        self, params: KMeansParams, X: Points, w: Array, outputs: StepOutputs
    ) -> BatchStep:
        """Return the statistics of `e_step`, the assignments, and the scores."""
        count = float(w.sum())
        step = partial.kmeans_step if self._incomplete(X) else kernels.kmeans_step
        sums = step(X, w, params.centroids)
        if sums.inertia < _UNDERFLOW * count:
            sums = _step_of_small(step, X, w, params.centroids, sums)
        stats = self._stats(params, *sums[:3], count)
        squared_distances = sums.assigned.squared_distances
        scores = 0.5 * squared_distances if self._cosine else squared_distances
        return BatchStep(stats, sums.assigned, scores if outputs.scores else None)

    def _stats(
        self, params: KMeansParams, weight: Array, first: Array, inertia: float, count: float
    ) -> Stats:
        return Stats(
            weight=weight,
            first=first,
            second=None,
            reference=params.centroids,
            covariance_type=None,
            objective=0.5 * inertia if self._cosine else inertia,
            count=count,
        )

    def _incomplete(self, X: Points) -> bool:
        return self.missing == "learn" and has_gaps(X)

    def m_step(self, stats: Stats, params: KMeansParams) -> KMeansParams:
        """Move each centroid to the average of its cluster.

        The centroid of a cluster without mass stays. With the metric cosine, the average is
        normalised; if it is zero, the centroid stays.
        """
        averages = stats.averages(otherwise=params.centroids)
        if not self._cosine:
            return KMeansParams(averages)
        length = np.linalg.norm(averages, axis=1)
        undefined = ~(length > _MIN_LENGTH)
        if undefined.any():
            averages[undefined], length[undefined] = params.centroids[undefined], 1.0
        return KMeansParams(averages / length[:, None])

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Reseed dying clusters on the batch; see `streamclust.models.revive.reseed`."""
        return reseed(stats, dying, X, w, rng)

    def reorder(self, params: KMeansParams, order: Labels) -> KMeansParams:
        """Return the centroids in another order."""
        return KMeansParams(params.centroids[order], params.scale)

    def match(self, params: KMeansParams, onto: KMeansParams) -> Labels:
        """Return the order of `params` with the least total distance to the centroids of `onto`."""
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
        """Return J / N, in squared units of the data, or the mean of 1 - cos."""
        return stats.objective / stats.count

    def improvement(self, before: float, after: float) -> float:
        """Return the relative fall of J."""
        return (before - after) / before if before > 0.0 else 0.0

    def predict(self, params: KMeansParams, X: Array) -> Labels:
        """Return the number of the nearest centroid, shape (N,)."""
        return self.nearest(params, X).labels

    def score_points(self, params: KMeansParams, X: Array) -> Array:
        """Return the squared distance to the nearest centroid, or 1 - cos, shape (N,)."""
        return self.nearest(params, X).squared_distances

    def nearest(self, params: KMeansParams, X: Array) -> kernels.Assigned:
        """Return the nearest centroid of each point, and the squared distance to it, or 1 - cos."""
        X, centroids, unit = self._comparable(params, X)
        labels, square = partial.assign(X, centroids)
        return kernels.Assigned(labels, 0.5 * square if self._cosine else square * unit * unit)

    def squared_distances(self, params: KMeansParams, X: Array) -> Array:
        """Return the squared distance to each centroid, shape (N, K).

        With the metric cosine, this is the squared distance of unit vectors, 2 (1 - cos).
        """
        X, centroids, unit = self._comparable(params, X)
        return partial.squared_distances(X, centroids) * unit * unit

    def distances(self, params: KMeansParams, X: Array) -> Array:
        """Return the distance to each centroid, or 1 - cos, shape (N, K)."""
        X, centroids, unit = self._comparable(params, X)
        square = partial.squared_distances(X, centroids)
        return 0.5 * square if self._cosine else np.sqrt(square) * unit

    def _comparable(self, params: KMeansParams, X: Array) -> tuple[Array, Array, float]:
        """Return points and centroids in the units of distances, divided by a third result.

        This divisor is 1.0, or a power of two if squares of distances would underflow.
        """
        if self._cosine:
            return np.asarray(normalized(X), np.float64), params.centroids, 1.0
        if params.scale is not None:
            center = params.centroids.mean(axis=0)
            return (X - center) / params.scale, (params.centroids - center) / params.scale, 1.0
        if params.unit == 1.0:
            return X, params.centroids, 1.0
        unit = square_unit(X, params.centroids)
        return X / unit, params.centroids / unit, unit

    def to_arrays(self, params: KMeansParams) -> dict[str, Array]:
        """Return {'centroids': (K, D)}, and 'scale': (D,) if there is one."""
        arrays = {"centroids": params.centroids}
        return arrays if params.scale is None else {**arrays, "scale": params.scale}

    def from_arrays(self, arrays: Mapping[str, Array]) -> KMeansParams:
        """Return parameters from {'centroids': (K, D)} and perhaps 'scale': (D,)."""
        K = self.n_clusters if self.min_components is None else None
        centroids = named_array(arrays, "centroids", (K, None))
        if self._cosine:
            zero = np.flatnonzero(~have_direction(centroids))
            if len(zero):
                raise DataError(
                    f"centroid {zero[0]} is a zero vector; metric cosine needs a direction"
                )
            return KMeansParams(np.asarray(normalized(centroids), np.float64))
        if "scale" not in arrays:
            return KMeansParams(centroids)
        scale = named_array(arrays, "scale", (centroids.shape[1],))
        if not (scale > 0.0).all():
            raise DataError(f"scale holds {scale.min():g}; expected positive numbers")
        return KMeansParams(centroids, scale)


def _step_of_small(
    step: Callable[[Points, Array, Array], kernels.ClusterSums],
    X: Points,
    w: Array,
    centroids: Array,
    sums: kernels.ClusterSums,
) -> kernels.ClusterSums:
    """Return the sums of very small points without underflow, or `sums` if none are that small."""
    unit = square_unit(X, centroids)
    if unit == 1.0:
        return sums
    weight, first, inertia, (labels, squared_distances) = step(X / unit, w, centroids / unit)
    assigned = kernels.Assigned(labels, squared_distances * unit * unit)
    return kernels.ClusterSums(weight, first * unit, inertia * unit * unit, assigned)
