"""The numerical inner loops, in C++ if the native library was built, else in NumPy.

Points are float64 or float32; all other arrays and all sums are float64. The sums of a batch are
the sums of its chunks of 8,192 points, added in their order. So results don't depend on threads or
tiles. `streamclust.kernels.choice` selects the kernels, and `streamclust.kernels.threads` the
number of threads. `streamclust.kernels.twin` has the NumPy kernels, the reference for the others.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from streamclust.kernels.choice import (
    REMEDY,
    available,
    describe,
    kernels_in_use,
    native_missing,
    using,
)
from streamclust.kernels.chunks import CHUNK
from streamclust.kernels.identity import Identity, identity
from streamclust.kernels.patterns import Patterns
from streamclust.kernels.results import (
    Assigned,
    ClusterSums,
    Components,
    Expected,
    Moments,
    PointScores,
    Sampled,
    Sums,
)
from streamclust.kernels.stored import StoredPoints, read_into
from streamclust.kernels.threads import limit_threads
from streamclust.kernels.twin import mixture_moments, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points

__all__ = [
    "CHUNK",
    "REMEDY",
    "Assigned",
    "ClusterSums",
    "Components",
    "Expected",
    "Identity",
    "Moments",
    "PointScores",
    "Sampled",
    "StoredPoints",
    "Sums",
    "assign",
    "available",
    "cluster_moments",
    "describe",
    "expected_step",
    "find_patterns",
    "identity",
    "interleave",
    "kmeans_step",
    "kmeans_sums",
    "limit_threads",
    "log_gaussians",
    "marginal_log_dets",
    "marginal_log_gaussians",
    "mixture_moments",
    "mixture_step",
    "moves",
    "native_missing",
    "normalise",
    "partial_step",
    "plusplus",
    "read_into",
    "sample",
    "split_rows",
    "squared_distances",
    "swaps",
    "using",
]


def assign(X: Points, centroids: Array) -> Assigned:
    """Return each point's nearest centroid and its squared distance.

    The nearest centroid is the first one with the least *canonical* distance: the sum of the
    squared differences in float64, from the first feature to the last. All kernels return the same
    bits.

    Parameters
    ----------
    X : array of shape (N, D)
    centroids : array of shape (K, D)

    Returns
    -------
    Assigned
        `labels` of shape (N,), `squared_distances` of shape (N,) in squared units of the data.
    """
    return kernels_in_use().assign(X, centroids)


def cluster_moments(X: Points, w: Array, labels: Labels, reference: Array) -> tuple[Array, Array]:
    """Return weight (K,) and first moment (K, D) of each cluster about `reference` (K, D)."""
    return kernels_in_use().cluster_moments(X, w, labels, reference)


def kmeans_step(X: Points, w: Array, centroids: Array) -> ClusterSums:
    """Return the e-step of K-means: weight and first moment of each cluster, J, and assignments.

    The moments are about the centroids. The result equals that of `assign` and `cluster_moments`,
    computed in one pass (Lloyd 1982).

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights.
    centroids : array of shape (K, D)
    """
    return kernels_in_use().kmeans_step(X, w, centroids)


def kmeans_sums(X: Points | StoredPoints, w: Array, centroids: Array) -> Sums:
    """Return the same sums as `kmeans_step`, without arrays of N numbers for the assignments.

    The points can be in a file.
    """
    return kernels_in_use().kmeans_sums(X, w, centroids)


def interleave(columns: Sequence[NDArray[Any]], out: Points) -> None:
    """Write F arrays of shape (N,) to the columns of a table, converted to its dtype.

    Parameters
    ----------
    columns : sequence of arrays of shape (N,)
    out : array of shape (N, F)
        C-contiguous.
    """
    kernels_in_use().interleave(columns, out)


def sample(w: Array, assigned: Assigned, n_clusters: int, size: float, start: float) -> Sampled:
    """Draw about `size` points, at least one, by their sensitivity; all kernels draw the same.

    The probability of a point is min(1, tau s_n). Its sensitivity
    s_n = w_n / (K W_k) + w_n d_n / sum_i w_i d_i is its share of the weight W_k of its cluster plus
    its share of the cost (see `streamclust.models.coreset`). tau is chosen so that the sum of
    tau s_n is `size`. The sample is systematic: each point gets an interval on a line, as long as
    its probability, and a grid picks the points whose intervals it hits.

    Parameters
    ----------
    w : array of shape (N,)
        Positive weights.
    assigned : Assigned
        Cluster and squared distance d_n of each point.
    n_clusters : int
        K.
    size : float
    start : float
        Start of the grid, from 0 to 1.
    """
    return kernels_in_use().sample(w, assigned, n_clusters, size, start)


def log_gaussians(X: Points, means: Array, cholesky: Array, kind: CovarianceType) -> Array:
    """Return log N(x_n | mu_k, Sigma_k), shape (N, K), through Cholesky factors.

    Parameters
    ----------
    X : array of shape (N, D)
    means : array of shape (K, D)
    cholesky : array
        Lower factors L_k with Sigma_k = L_k L_k^T: full (K, D, D), tied (D, D); standard
        deviations: diag (K, D), spherical (K,).
    kind : {'full', 'tied', 'diag', 'spherical'}
    """
    return kernels_in_use().log_gaussians(X, means, cholesky, kind)


def mixture_step(
    X: Points,
    w: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    kind: CovarianceType,
    background: float = -inf,
    log_density: Array | None = None,
) -> tuple[Moments, float]:
    """Return the moments of the responsibilities about `means`, and sum_n w_n log p(x_n).

    This is one pass, tile by tile: log-densities, responsibilities, moments. No array of N rows
    and K columns is allocated.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
    log_weights : array of shape (K,)
    means : array of shape (K, D)
    cholesky, kind
        See `log_gaussians`.
    background : float, default=-inf
        Log of a constant density that is added to p(x), for points that belong to no component.
        The sum of the responsibilities of such a point is near 0.
    log_density : array of shape (N,), optional
        OUT: log p(x_n) of each point, without the background.
    """
    mixture = (log_weights, means, cholesky, kind)
    return kernels_in_use().mixture_step(
        X, w, *mixture, background=background, log_density=log_density
    )


def expected_step(
    X: Points,
    w: Array,
    patterns: Patterns,
    components: Components,
    ridge: Array,
    background: Array | None = None,
    scores: PointScores | None = None,
) -> Expected:
    """Return the expected moments of the points with gaps, and their log-likelihood.

    See `streamclust.models.conditionals` for the formulas.

    Parameters
    ----------
    X : array of shape (N, D)
        NaN is a missing value.
    w : array of shape (N,)
        Sample weights.
    patterns : Patterns
        The patterns of `X`.
    components : Components
    ridge : array of shape (D,)
        Subtracted from the conditional variances of missing values.
    background : array of shape (P,), optional
        As for `mixture_step`, one number per pattern.
    scores : PointScores, optional
        OUT: the rows of the points with gaps are written.
    """
    return kernels_in_use().expected_step(X, w, patterns, components, ridge, background, scores)


def marginal_log_gaussians(
    X: Points, patterns: Patterns, components: Components, out: Array
) -> None:
    """Write log N(x_o | mu_o, Sigma_oo) to the rows of `out` (N, K) whose points have gaps."""
    kernels_in_use().marginal_log_gaussians(X, patterns, components, out)


def marginal_log_dets(absent: NDArray[np.bool_], components: Components) -> Array:
    """Return log det Sigma_oo of each pattern (P, D) and component: (P, K), or (P, 1) if tied."""
    return kernels_in_use().marginal_log_dets(absent, components)


def find_patterns(X: Points) -> Patterns:
    """Return the points of a batch by their missingness patterns.

    Parameters
    ----------
    X : array of shape (N, D)
        NaN is a missing value.

    Raises
    ------
    DataError
        If a point has no value.
    """
    return kernels_in_use().find_patterns(X)


def split_rows(X: Points) -> tuple[Labels, Labels]:
    """Return the rows of points without gaps and the rows of points with gaps, both ascending."""
    return kernels_in_use().split_rows(X)


def partial_step(
    X: Points, w: Array | None, rows: Labels, centroids: Array, assigned: Assigned
) -> tuple[Array, Array, float]:
    """Return the e-step of K-means for points with gaps, by partial distances.

    See `streamclust.models.partial`. All kernels return the same bits.

    Parameters
    ----------
    X : array of shape (N, D)
        NaN is a missing value.
    w : array of shape (N,) or None
        Sample weights. With None, points are only assigned, and the results are 0.
    rows : array of shape (n,)
        Rows of the points with gaps. Each of these points needs one present value.
    centroids : array of shape (K, D)
    assigned : Assigned
        OUT: `rows` of the labels (N,) and of the squared distances (N,) are written.

    Returns
    -------
    weight, first : arrays of shape (K,) and (K, D)
        Moments about the centroids.
    inertia : float
    """
    return kernels_in_use().partial_step(X, w, rows, centroids, assigned)


def squared_distances(X: Points, C: Array) -> Array:
    """Return the canonical ||x_n - c_k||^2, shape (N, K); see `assign`.

    Parameters
    ----------
    X : array of shape (N, D)
    C : array of shape (K, D)
    """
    return kernels_in_use().squared_distances(X, C)


def plusplus(X: Array, w: Array, K: int, uniform: Array) -> Labels:
    """Return the indices of K points chosen by greedy k-means++; fewer if too few are distinct.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights; a point of weight 0 is never chosen.
    K : int
    uniform : array of shape (1 + (K - 1) * trials,)
        Random numbers from [0, 1): one for the first point, `trials` for each of the others.
    """
    return kernels_in_use().plusplus(X, w, K, uniform)


def swaps(X: Array, w: Array, centroids: Array, uniform: Array) -> Array:
    """Return the centroids after swaps of centroids for points; each swap lowers J.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights.
    centroids : array of shape (K, D)
        K at least 2.
    uniform : array of shape (trials,)
        Random numbers from [0, 1), one per trial.
    """
    return kernels_in_use().swaps(X, w, centroids, uniform)


def moves(
    X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
) -> tuple[Array, Labels]:
    """Return the best move of each point to another cluster: the fall of J and the cluster, (N,).

    The fall of J is that of a move of this point alone, with updated centroids. It is 0 if no move
    lowers J by more than a rounding error.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights.
    labels : array of shape (N,)
    weight : array of shape (K,)
        Weight of each cluster.
    centroids : array of shape (K, D)
        Averages of the clusters; K at least 2.
    """
    return kernels_in_use().moves(X, w, labels, weight, centroids)
