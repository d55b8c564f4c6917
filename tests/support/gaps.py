"""Points with missing values."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
from numpy.typing import ArrayLike

from streamclust.arrays import Array, CovarianceType
from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams
from streamclust.models.kmeans import KMeans
from tests.support.strategies import Problem, matrix, mixture_of, random_params, weights


def family_with_gaps(name: str, K: int, **options: Any) -> Any:
    """Return K-means, or a mixture of the covariance type `name`, that learns points with gaps."""
    if name == "kmeans":
        return KMeans(K, missing="learn", **options)
    return mixture_of(name, K, missing="learn", **options)  # type: ignore[arg-type]


def with_gaps(X: ArrayLike, share: float, seed: int = 0) -> Array:
    """Return points with values missing completely at random; each point keeps one value."""
    points = np.array(X, np.float64)
    rng = np.random.default_rng((seed, 1))
    gone = rng.random(points.shape) < share
    gone[np.arange(len(points)), rng.integers(points.shape[1], size=len(points))] = False
    return np.where(gone, np.nan, points)


@st.composite
def problems_with_gaps(draw: st.DrawFn, name: str, min_points: int = 1) -> Problem:
    """Return a problem of up to 12 points with gaps, 3 components and 2 to 4 features."""
    K, D, n = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(min_points, 12))
    options = {} if name == "kmeans" else {"reg_covar": 0.0}
    family = family_with_gaps(name, K, **options)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    params = random_params(family, draw(matrix(K, D)), rng)
    X = with_gaps(
        draw(matrix(n, D)), draw(st.sampled_from([0.0, 0.3, 0.8])), seed=int(rng.integers(99))
    )
    return Problem(family, params, X, draw(weights(n)))


def full_covariances(params: MixtureParams) -> Array:
    """Return the covariances of any type as matrices, (K, D, D)."""
    (K, D), kind = params.means.shape, params.covariance_type
    identity = np.eye(D)
    of_kind: dict[CovarianceType, Any] = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (K, D, D)),
        "diag": lambda c: c[:, :, None] * identity,
        "spherical": lambda c: c[:, None, None] * identity,
    }
    return np.asarray(of_kind[kind](params.covariances))


def correlated_blobs(n: int, K: int, D: int, seed: int = 0, apart: float = 4.0) -> tuple[Any, Any]:
    """Return points of K Gaussians with correlated features, and the mixture that they are of."""
    rng = np.random.default_rng(seed)
    family = GaussianMixture(K)
    root = rng.normal(size=(K, D, D)) / np.sqrt(D) + np.eye(D)
    params = family.from_arrays(
        {
            "weights": np.full(K, 1.0 / K),
            "means": apart * rng.normal(size=(K, D)),
            "covariances": root @ root.swapaxes(1, 2),
        }
    )
    return family.sample(params, n, rng)[0], params
