"""Imputation of missing values, and regression of some features on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import as_points, has_gaps
from streamclust.errors import DataError
from streamclust.hyperparameters import as_integer
from streamclust.models.conditionals import conditionals
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture
from streamclust.models.kmeans import KMeans
from streamclust.models.partial import filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.models.conditionals import Conditionals
    from streamclust.models.family import Family


@dataclass(frozen=True, eq=False)
class Imputed:
    """Points without gaps.

    Parameters
    ----------
    X : array of shape (N, D)
        Present values unchanged, and expected values in place of missing ones.
    variances : array of shape (N, D) or None
        Conditional variance of each value; 0 for present values. None for K-means.
    """

    X: Array
    variances: Array | None


@dataclass(frozen=True, eq=False)
class Conditional:
    """The distribution of some features of points, given the other features.

    Parameters
    ----------
    mean : array of shape (N, T)
    covariance : array of shape (N, T, T)
    """

    mean: Array
    covariance: Array

    @property
    def variance(self) -> Array:
        """Variance of each target, shape (N, T)."""
        return self.covariance.diagonal(axis1=1, axis2=2)


CONDITIONALS: dict[str, Callable[[Any, Array], Iterator[Conditionals]] | None] = {
    KMeans.kind: None,
    GaussianMixture.kind: conditionals,
}
"""Kind of a family -> the distribution of the missing values of a point, given its present ones."""


def impute(family: Family[Any], params: Any, X: ArrayLike) -> Imputed:
    """Return points with expected values in place of the missing ones, which are NaN.

    A mixture gives the conditional mean and variance of a missing value, given the present values
    of the point. K-means gives the value of the nearest centroid, and no variance.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array-like of shape (N, D)
        Each point needs one present value.

    Raises
    ------
    DataError
        If a point has no present value; with the metric cosine, if any value is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust import KMeans, KMeansParams
    >>> params = KMeansParams(np.array([[0.0, 1.0], [10.0, 11.0]]))
    >>> impute(KMeans(2), params, [[9.0, np.nan]]).X.tolist()
    [[9.0, 11.0]]
    """
    means: Array = params.means
    points = as_points(X, means.shape[1], family.max_magnitude, "learn")
    find_conditionals = by_kind(CONDITIONALS, family.kind, "CONDITIONALS")
    values, variances = points.copy(), None if find_conditionals is None else np.zeros_like(points)
    if not has_gaps(points):
        return Imputed(values, variances)
    if find_conditionals is not None and variances is not None:
        for distribution in find_conditionals(params, points):
            cells = np.ix_(distribution.rows, distribution.missing)
            values[cells], variances[cells] = distribution.mean, distribution.variance
        return Imputed(values, variances)
    if family.metric == "cosine":
        raise DataError("metric cosine needs all values of a point; X has missing values")
    return Imputed(filled(values, means.take(family.predict(params, points), axis=0)), None)


def predict_conditional(
    family: Family[Any], params: Any, X: ArrayLike, targets: Sequence[int]
) -> Conditional:
    """Return the distribution of the features `targets`, given the other features.

    Parameters
    ----------
    family : GaussianMixture
    params : MixtureParams
    X : array-like of shape (N, D - T)
        The other features in ascending order. NaN is a missing value.
    targets : sequence of int
        Numbers of T different features, from 0 to D - 1; T is less than D.

    Raises
    ------
    DataError
        If `family` isn't a mixture, `targets` has wrong numbers, or X hasn't D - T columns.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust import GaussianMixture
    >>> mixture = GaussianMixture(1)
    >>> params = mixture.from_arrays(
    ...     {"weights": [1.0], "means": [[0.0, 5.0]], "covariances": [[[1.0, 0.5], [0.5, 1.0]]]}
    ... )
    >>> found = predict_conditional(mixture, params, [[2.0]], targets=[1])
    >>> found.mean.tolist(), found.variance.tolist()
    ([[6.0]], [[0.75]])
    """
    find_conditionals = by_kind(CONDITIONALS, family.kind, "CONDITIONALS")
    if find_conditionals is None:
        raise DataError(f"kind {family.kind} has no conditional distribution; use a mixture")
    D = params.means.shape[1]
    chosen = [as_integer("targets", target) for target in targets]
    if len(set(chosen)) < len(chosen) or not 1 <= len(chosen) < D or max(chosen) >= D:
        raise DataError(
            f"targets is {targets!r}; expected 1 to {D - 1} different features from 0 to {D - 1}"
        )
    others = np.setdiff1d(np.arange(D), chosen)
    values = as_points(X, len(others), family.max_magnitude, "learn")
    points = np.full((len(values), D), np.nan)
    points[:, others] = values
    mean, covariance = (
        np.empty((len(points), len(chosen))),
        np.empty((len(points), len(chosen), len(chosen))),
    )
    for distribution in find_conditionals(params, points):
        place = np.searchsorted(distribution.missing, chosen)
        mean[distribution.rows] = distribution.mean[:, place]
        covariance[distribution.rows] = distribution.covariance[:, place[:, None], place]
    return Conditional(mean, covariance)
