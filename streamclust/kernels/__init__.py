"""The numerical inner loops: arrays in, arrays out, in C++ where it was built, else in NumPy.

Points are float64 or float32; all else, and every sum, is float64. Sums are taken in a fixed
order, so that results don't depend on threads or tiles. `streamclust.kernels.choice` says which
kernels are used; `streamclust.kernels.twin` is the reference for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from streamclust.kernels.choice import available, chosen, describe, using
from streamclust.kernels.results import Assigned, ClusterSums, Moments
from streamclust.kernels.twin import (
    log_gaussians,
    mixture_moments,
    mixture_step,
    normalise,
    squared_distances,
)

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels, Points

__all__ = [
    "Assigned",
    "ClusterSums",
    "Moments",
    "assign",
    "available",
    "cluster_moments",
    "describe",
    "kmeans_step",
    "log_gaussians",
    "mixture_moments",
    "mixture_step",
    "normalise",
    "squared_distances",
    "using",
]


def assign(X: Points, centroids: Array) -> Assigned:
    """Return each point's nearest centroid and its squared distance.

    The nearest is the first with the least *canonical* distance: the squares of the differences
    in float64, added from the first feature to the last. All kernels agree on it bit for bit.

    Parameters
    ----------
    X : array of shape (N, D)
    centroids : array of shape (K, D)

    Returns
    -------
    Assigned
        `labels` of shape (N,), `sqdist` of shape (N,) in squared units of the data.
    """
    return cast("Assigned", chosen().assign(X, centroids))


def cluster_moments(X: Points, w: Array, labels: Labels, reference: Array) -> tuple[Array, Array]:
    """Return weight (K,) and first moment (K, D) of each cluster about `reference` (K, D)."""
    return cast("tuple[Array, Array]", chosen().cluster_moments(X, w, labels, reference))


def kmeans_step(X: Points, w: Array, centroids: Array) -> ClusterSums:
    """Return each cluster's weight and first moment about its centroid, and the inertia J.

    The same as `assign` and `cluster_moments`, in one pass over the points (Lloyd 1982).

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Sample weights.
    centroids : array of shape (K, D)
    """
    return cast("ClusterSums", chosen().kmeans_step(X, w, centroids))
