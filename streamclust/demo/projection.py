"""From many dimensions to the two that can be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Array


@dataclass(frozen=True, eq=False)
class Projection:
    """The affine map y = A (x - centre).

    Parameters
    ----------
    centre : array of shape (D,)
    A : array of shape (2, D)
    share : array of shape (2,)
        Share of the variance that each axis explains.
    """

    centre: Array
    A: Array
    share: Array

    def points(self, X: Array) -> Array:
        """Return points (N, D), or means, as (N, 2)."""
        return np.asarray((X - self.centre) @ self.A.T)

    def covariances(self, covariances: Array) -> Array:
        """Return A Sigma A^T for covariances (K, D, D), as (K, 2, 2)."""
        return np.asarray(self.A @ covariances @ self.A.T)


class Ellipse(NamedTuple):
    """The axes of an ellipse, in full, and the angle of the first one in degrees."""

    width: float
    height: float
    angle: float


def principal_axes(X: Array) -> Projection:
    """Return the projection on the two principal axes of the points' bulk.

    Each feature is divided by the standard deviation of its middle 98 %. Only points within the
    middle 98 % of every feature count, since a few extreme readings would determine the axes.
    """
    low, high = np.percentile(X, [1.0, 99.0], axis=0)
    within = (low <= X) & (high >= X)
    scale = np.array([X[within[:, d], d].std() for d in range(X.shape[1])])
    scale[scale == 0.0] = 1.0
    bulk = X[within.all(axis=1)]
    centre = bulk.mean(axis=0)
    _, s, axes = np.linalg.svd((bulk - centre) / scale, full_matrices=False)
    return Projection(centre, axes[:2] / scale, (s**2 / np.sum(s**2))[:2])


def ellipse(covariance: Array, n_sigma: float = 2.0) -> Ellipse:
    """Return the curve at `n_sigma` of a Gaussian in the plane with this covariance (2, 2)."""
    values, vectors = np.linalg.eigh(covariance)
    minor, major = 2.0 * n_sigma * np.sqrt(np.maximum(values, 0.0))
    x, y = vectors[:, 1]
    return Ellipse(float(major), float(minor), float(np.degrees(np.arctan2(y, x))) % 180.0)
