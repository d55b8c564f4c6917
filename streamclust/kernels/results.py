"""The types of results and arguments of kernels."""

from __future__ import annotations

from typing import NamedTuple

from streamclust.arrays import Array, CovarianceType, Labels

Mixture = tuple[Array, Array, Array, CovarianceType]
"""Log-weights, means, Cholesky factors and their kind; see `streamclust.kernels.mixture_step`."""


class Components(NamedTuple):
    """The components of a mixture, for points with gaps.

    Attributes
    ----------
    log_weights : array of shape (K,)
    means : array of shape (K, D)
    covariances : array
        In the shape of their kind.
    root : array
        Cholesky factors of the covariances, or standard deviations.
    kind : {'full', 'tied', 'diag', 'spherical'}
    """

    log_weights: Array
    means: Array
    covariances: Array
    root: Array
    kind: CovarianceType


class Assigned(NamedTuple):
    """Nearest centroid of each point, `labels` (N,), and the `squared_distances` to it (N,)."""

    labels: Labels
    squared_distances: Array


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


class Expected(NamedTuple):
    """The e-step of points with gaps.

    Attributes
    ----------
    moments : Moments
        The expected moments of whole points.
    log_likelihood : float
        sum_n w_n log p(x_o), with the background.
    entropy : float
        sum_nk w_n gamma_nk h_nk, where h_nk is the entropy of the missing values of point n in
        component k, given the present ones.
    """

    moments: Moments
    log_likelihood: float
    entropy: float


class PointScores(NamedTuple):
    """Scores of each point that an e-step writes.

    Attributes
    ----------
    log_density : array of shape (N,)
        OUT: log p of the present values, without the background.
    entropy : array of shape (N,), optional
        OUT: entropy of the missing values, given the present ones; only for points with gaps.
    """

    log_density: Array
    entropy: Array | None = None
