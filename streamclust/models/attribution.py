r"""The contribution of each feature to the score of a point: why the point is unusual.

The contribution c_j of feature j is never negative:

* Mixture: of the component with the largest responsibility, with mean m and precision P,

      c_j = (P (x - m))_j^2 / P_jj

  By this amount the squared Mahalanobis distance falls if feature j is left out. It equals
  (x_j - e_j)^2 / v_j, where e_j and v_j are the mean and the variance of x_j given the other
  features. So a usual value contributes too, if it doesn't fit the values of the other features.
* K-means: c_j = ((x_j - u_kj) / s_j)^2 for the nearest centroid u_k; s_j is the scale of the
  feature. The sum of the c_j is the squared distance.
* K-means with the metric cosine: c_j = (x_j - u_kj)^2 / 2 of the unit vectors; the sum is 1 - cos.
* Tail score, for both kinds: c_j is the term of feature j; the sum is the score.

A missing value (NaN) contributes 0. The contributions of the other features are those of a point
without this feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import short_repr
from streamclust.hyperparameters import as_integer
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture
from streamclust.models.kmeans import KMeans
from streamclust.models.precision import deviations, groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.models.family import Family
    from streamclust.models.feature_distribution import FeatureDistribution
    from streamclust.models.gaussian_mixture import MixtureParams
    from streamclust.models.kmeans import KMeansParams


@dataclass(frozen=True, eq=False)
class Attribution:
    """The contributions of the features to the scores of points.

    Parameters
    ----------
    contribution : array of shape (N, D)
        Not negative; 0 for a missing value.
    expected : array of shape (N, D)
        The value of each feature that the model expects. Mixture: its mean given the other
        features. K-means: the value of the centroid. Tail score: the median. For the metric cosine,
        expected unit vectors are multiplied by the length of the point.
    """

    contribution: Array
    expected: Array

    def __repr__(self) -> str:
        N, D = self.contribution.shape
        return short_repr(self, points=N, D=D)

    @property
    def share(self) -> Array:
        """Share of each feature in the sum of the contributions, shape (N, D); rows sum to 1."""
        total = self.contribution.sum(axis=1, keepdims=True)
        share = np.zeros_like(self.contribution)
        np.divide(self.contribution, total, out=share, where=total > 0.0)
        return share

    def top(self, m: int) -> Labels:
        """Return the m features with the largest contributions, largest first, shape (N, m).

        If there are fewer than m features, all are returned.
        """
        m = as_integer("m", m)
        return np.argsort(-self.contribution, axis=1, kind="stable")[:, :m]


def attribution(
    family: Family[Any], params: Any, X: Array, index: NDArray[np.integer]
) -> Attribution:
    """Return the contribution of each feature to the scores of points.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array of shape (N, D)
        Points in the units of the parameters; NaN is a missing value.
    index : array of int, shape (N,)
        Component of each point, as a row of the parameters.
    """
    return by_kind(ATTRIBUTIONS, family.kind, "ATTRIBUTIONS")(family, params, X, index)


def _of_kmeans(
    family: KMeans, params: KMeansParams, X: Array, index: NDArray[np.integer]
) -> Attribution:
    centroids: Array = params.centroids[index]
    if family.metric == "cosine":
        unit = np.asarray(family.prepare(X), np.float64)
        return Attribution(0.5 * (unit - centroids) ** 2, _lengths(X) * centroids)
    scale = 1.0 if params.scale is None else params.scale
    return Attribution(np.nan_to_num((X - centroids) / scale) ** 2, centroids)


def attribution_of_tails(
    family: Family[Any], features: FeatureDistribution, X: Array
) -> Attribution:
    """Return the contribution of each feature to the tail scores of points, (N, D)."""
    terms = features.terms(np.asarray(family.prepare(X), np.float64))
    length = _lengths(X) if family.metric == "cosine" else np.ones((len(X), 1))
    return Attribution(np.nan_to_num(terms), length * features.medians)


def _lengths(X: Array) -> Array:
    """Return the lengths of points (N, D), (N, 1)."""
    largest = np.abs(X).max(axis=1, keepdims=True)  # so that no square overflows
    return np.asarray(largest * np.linalg.norm(X / largest, axis=1, keepdims=True))


def _of_mixture(
    _family: GaussianMixture, params: MixtureParams, X: Array, index: NDArray[np.integer]
) -> Attribution:
    means = params.means[index]
    if params.covariance_type in ("diag", "spherical"):
        z = np.nan_to_num((X - means) / deviations(params)[index])
        return Attribution(z * z, means)
    contribution, expected = np.zeros(X.shape), means.copy()
    for rows, features, whitening in groups(params, X, index):
        cells = np.ix_(rows, features)
        product = (X[cells] - means[cells]) @ whitening.T @ whitening  # P (x - m)
        diagonal = np.einsum("ij,ij->j", whitening, whitening)  # P_jj
        contribution[cells] = product * product / diagonal
        expected[cells] = X[cells] - product / diagonal
    return Attribution(contribution, expected)


ATTRIBUTIONS: dict[str, Callable[[Any, Any, Array, NDArray[np.integer]], Attribution]] = {
    KMeans.kind: _of_kmeans,
    GaussianMixture.kind: _of_mixture,
}
"""Kind of a family -> the contributions to its scores."""
