"""Deviations of points from the means of their components, in units of the covariances.

Let d be the present values of a point minus those of the mean, and C the covariance of these
features. Let W be a matrix with W^T W = C^-1, the precision P. The values of W d are then
independent and have variance 1, and the squared Mahalanobis distance is |W d|^2. Features that are
missing (NaN) are left out of C: this is the marginal Gaussian of the present features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamclust.kernels import find_patterns
from streamclust.models.covariance import COVARIANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.models.gaussian_mixture import MixtureParams


class Group(NamedTuple):
    """Points of one component with the same features present.

    Attributes
    ----------
    rows : array of int, shape (n,)
    features : array of int, shape (d,)
        The present features.
    whitening : array of shape (d, d)
        W.
    """

    rows: Labels
    features: Labels
    whitening: Array


def mahalanobis(params: MixtureParams, X: Array, index: NDArray[np.integer]) -> Array:
    """Return the Mahalanobis distance of each point to the component `index[n]`, shape (N,)."""
    if params.covariance_type in ("diag", "spherical"):
        z = (X - params.means[index]) / deviations(params)[index]
        return np.asarray(np.sqrt(np.nansum(z * z, axis=1)))
    out = np.empty(len(X))
    for rows, features, whitening in groups(params, X, index):
        d = (X[rows] - params.means[index[rows]])[:, features]
        out[rows] = np.linalg.norm(d @ whitening.T, axis=1)
    return out


def deviations(params: MixtureParams) -> Array:
    """Return the standard deviations of each component by feature, shape (K, D)."""
    covariance, shape = COVARIANCES[params.covariance_type], params.means.shape
    return np.asarray(np.sqrt(covariance.variances(params.covariances, *shape)))


def groups(params: MixtureParams, X: Array, index: NDArray[np.integer]) -> Iterator[Group]:
    """Yield the points in groups of the same component and missingness pattern."""
    patterns = find_patterns(X)
    parts = [(patterns.complete, np.arange(X.shape[1]))]
    parts += [
        (rows, np.flatnonzero(~absent))
        for rows, absent in zip(patterns.rows, patterns.absent, strict=True)
    ]
    for rows, features in parts:
        order = np.argsort(index[rows], kind="stable")
        starts = np.flatnonzero(np.diff(index[rows][order]))
        for group in np.split(rows[order], starts + 1) if len(rows) else ():
            yield Group(group, features, _whitening(params, int(index[group[0]]), features))


def _whitening(params: MixtureParams, k: int, features: Labels) -> Array:
    """Return W of component k. Features are scaled to variance 1 first: units don't matter."""
    tied = params.covariance_type == "tied"
    covariance = params.covariances if tied else params.covariances[k]
    covariance = covariance[np.ix_(features, features)]
    deviation = np.sqrt(np.diagonal(covariance))
    root = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
    return np.asarray(np.linalg.inv(root) / deviation)
