"""Criteria to compare models: log-likelihood, AIC, BIC and silhouette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.arrays import Array, Labels, Metric
    from streamclust.models.stats import Stats


@dataclass(frozen=True)
class Criteria:
    """A model's log-likelihood, and the criteria that also count its free parameters.

    Parameters
    ----------
    log_likelihood : float
        Log-likelihood of all points, in nats.
    parameters : int
        Number p of free parameters.
    aic, bic : float
        -2 L + 2 p (Akaike 1974) and -2 L + p log n (Schwarz 1978); lower is better.
    """

    log_likelihood: float
    parameters: int
    aic: float
    bic: float


def criteria(log_likelihood: float, parameters: int, n: float) -> Criteria:
    """Return the criteria for the log-likelihood of points of total weight `n`."""
    twice = -2.0 * log_likelihood
    return Criteria(
        log_likelihood,
        parameters,
        aic=twice + 2.0 * parameters,
        bic=twice + parameters * float(np.log(n)),
    )


def kmeans_log_likelihood(stats: Stats, metric: Metric = "euclidean") -> float:
    """Return the log-likelihood of hard-assigned points under equal spherical Gaussians.

    The variance is its maximum-likelihood estimate J / (n D); the mixing weights are the relative
    cluster sizes (the classification likelihood; Celeux & Govaert 1992). The result is infinite
    if J is 0. With the metric cosine, the Gaussians are in the D - 1 directions tangent to the
    sphere, and the squared distance is 2 (1 - cos).

    Parameters
    ----------
    stats : Stats
        Statistics of K-means under its centroids.
    metric : {'euclidean', 'cosine'}, default='euclidean'
    """
    n, D, J = stats.count, stats.first.shape[1], stats.objective
    if metric == "cosine":
        D, J = max(D - 1, 1), 2.0 * J
    if not J > 0.0:
        return float("inf")
    variance = J / (n * D)
    weight = stats.weight[stats.weight > 0.0]
    entropy = float((weight * np.log(weight / n)).sum())
    return float(entropy - 0.5 * n * D * (np.log(2.0 * np.pi * variance) + 1.0))


def kmeans_parameters(K: int, D: int, metric: Metric = "euclidean") -> int:
    """Return the number of free parameters of K-means: centroids, mixing weights, one variance."""
    return K * (D if metric == "euclidean" else max(D - 1, 1)) + (K - 1) + 1


def mixture_parameters(K: int, D: int, covariance_type: str) -> int:
    """Return the number of free parameters of a Gaussian mixture."""
    matrix = D * (D + 1) // 2
    covariances = {"full": K * matrix, "tied": matrix, "diag": K * D, "spherical": K}
    return (K - 1) + K * D + covariances[covariance_type]


def distances(X: Array, metric: Metric = "euclidean") -> Array:
    """Return the N^2 distances of points to each other, which `silhouette` needs."""
    from scipy.spatial.distance import cdist  # imported here, because a worker doesn't need it

    return cdist(X, X) if metric == "euclidean" else 0.5 * cdist(X, X, "sqeuclidean")


def silhouette(
    X: Array,
    labels: Labels,
    metric: Metric = "euclidean",
    between: Callable[[], Array] | None = None,
) -> float | None:
    """Return the mean silhouette (b - a) / max(a, b) of points (Rousseeuw 1987).

    a is the mean distance to the other points of the same cluster. b is the mean distance to the
    points of the nearest other cluster. The distance is Euclidean, or 1 - cos. A point alone in its
    cluster has the silhouette 0. The function computes N^2 distances, so use it with a sample.
    `between` returns the distances if they are known, for other labels of the same points.

    Returns
    -------
    float or None
        From -1 to 1, higher is better; None if fewer than two clusters have points.
    """
    present, cluster = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return None
    member = np.eye(len(present))[cluster]
    sizes = member.sum(axis=0)
    sums = (distances(X, metric) if between is None else between()) @ member
    rows = np.arange(len(X))
    others = np.maximum(sizes[cluster] - 1.0, 1.0)
    a = sums[rows, cluster] / others
    means = sums / sizes
    means[rows, cluster] = np.inf
    b = means.min(axis=1)
    larger = np.maximum(a, b)
    is_defined = (sizes[cluster] > 1.0) & (larger > 0.0)
    return float(np.where(is_defined, (b - a) / np.where(is_defined, larger, 1.0), 0.0).mean())
