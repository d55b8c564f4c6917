"""The results of kernels, and types of their arguments."""

from __future__ import annotations

from typing import NamedTuple

from streamclust.arrays import Array, CovarianceType, Labels

Mixture = tuple[Array, Array, Array, CovarianceType]
"""Log-weights, means, Cholesky factors and their kind; see `streamclust.kernels.mixture_step`."""


class Assigned(NamedTuple):
    """Nearest centroid of each point: `labels` (N,), and squared distances `sqdist` (N,)."""

    labels: Labels
    sqdist: Array


class ClusterSums(NamedTuple):
    """Weight (K,) and first moment (K, D) of each cluster about its centroid, J, assignments."""

    weight: Array
    first: Array
    inertia: float
    assigned: Assigned


class Sums(NamedTuple):
    """Weight (K,) and first moment (K, D) of each cluster about its centroid, and J."""

    weight: Array
    first: Array
    inertia: float


class Sampled(NamedTuple):
    """Indices of the drawn points, (M,), ascending, and the probability of each, (M,)."""

    picked: Labels
    probability: Array


class Moments(NamedTuple):
    """Moments about a reference; see `streamclust.models.stats.Stats`."""

    weight: Array
    first: Array
    second: Array
