"""Values in place of missing ones, and the regression of some features on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.models.family import Family


@dataclass(frozen=True, eq=False)
class Imputed:
    """Points without gaps.

    Parameters
    ----------
    X : array of shape (N, D)
        Present values as they are, and the expected ones in place of missing values.
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
    """
    raise NotImplementedError


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
        Numbers of T features, from 0 to D - 1.
    """
    raise NotImplementedError
