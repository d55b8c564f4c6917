"""Scores of points: how unusual a point is under a model.

The anomaly score, which is higher for a more unusual point, is

    mixture                      -log p(x)
    K-means                      sum_d ((x_d - u_kd) / s_d)^2 of the nearest centroid u_k
    K-means, metric cosine       1 - cos(x, u_k)

If values are missing, log p(x) is the log density of the present values, minus the entropy of the
missing ones given these; distances are partial distances. So the scores of points with different
gaps are comparable.

`streamclust.models.score_distribution` remembers these scores. The scores of a point in its code
(`encode.score`) follow from them, except the Mahalanobis distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.errors import DataError
from streamclust.kernels import normalise
from streamclust.models.conditionals import entropies_of_missing
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture
from streamclust.models.kmeans import KMeans
from streamclust.models.precision import mahalanobis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.models.family import Family
    from streamclust.models.gaussian_mixture import MixtureParams
    from streamclust.models.kmeans import KMeansParams
    from streamclust.models.score_distribution import ScoreDistribution


class RawScores(NamedTuple):
    """Scores that all others follow from; see the top of the module.

    Attributes
    ----------
    objective : array of shape (N,)
        `Family.score_points`.
    anomaly : array of shape (N,)
        The anomaly score.
    """

    objective: Array
    anomaly: Array


def anomaly_score(family: Family[Any], params: Any, X: Array) -> Array:
    """Return the anomaly score of prepared points (N, D), shape (N,); higher is more unusual.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array of shape (N, D)
    """
    return raw_scores(family, params, X).anomaly


def raw_scores(family: Family[Any], params: Any, X: Array) -> RawScores:
    """Return the scores of prepared points (N, D)."""
    return by_kind(RAW_SCORES, family.kind, "RAW_SCORES")(family, params, X)


def _of_distances(family: KMeans, params: KMeansParams, X: Array) -> RawScores:
    scores = family.score_points(params, X)
    return RawScores(scores, scores)


def _of_densities(family: GaussianMixture, params: MixtureParams, X: Array) -> RawScores:
    joint = family.log_joint(params, X)
    density = normalise(joint)[1]
    return RawScores(density, anomaly_of_mixture(params, X, joint, density))


RAW_SCORES: dict[str, Callable[[Any, Any, Array], RawScores]] = {
    KMeans.kind: _of_distances,
    GaussianMixture.kind: _of_densities,
}
"""Kind of a family -> the scores of prepared points."""


def anomaly_of_mixture(params: MixtureParams, X: Array, joint: Array, log_density: Array) -> Array:
    """Return the anomaly score of points (N, D), (N,), from their densities.

    `joint` (N, K) is the log-density of each component times its weight.
    """
    if has_gaps(X):
        return entropies_of_missing(params, X, joint) - log_density
    return -log_density


def point_scores(
    family: Family[Any],
    params: Any,
    X: Array,
    index: NDArray[np.integer],
    names: Collection[str],
    known: ScoreDistribution | None = None,
    raw: RawScores | None = None,
) -> dict[str, Array]:
    """Return the scores of prepared points by name, each of shape (N,).

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array of shape (N, D)
    index : array of int, shape (N,)
        Component of each point, as a row of the parameters.
    names : collection of str
        Of `log_density`, `mahalanobis`, `scaled_distance`, `quantile`, and `anomaly`, the anomaly
        score.
    known : ScoreDistribution, optional
        For `quantile`, which is NaN without it or while it has no scores.
    raw : RawScores, optional
        The scores of the points, if they are known.

    Raises
    ------
    DataError
        If the family has no score of a name.
    """
    if raw is None and set(names) - {"mahalanobis"}:
        raw = raw_scores(family, params, X)
    objective, scores = (np.empty(0), np.empty(0)) if raw is None else raw
    is_mixture = family.objective == "log_likelihood"
    found: dict[str, Array] = {}
    for name in names:
        if name == "anomaly":
            found[name] = scores
        elif name == "quantile":
            found[name] = np.full(len(X), np.nan)
            if known is not None and not known.is_empty:
                found[name] = known.quantile(scores)
        elif name == "log_density" and is_mixture:
            found[name] = objective
        elif name == "mahalanobis" and is_mixture:
            found[name] = mahalanobis(params, X, index)
        elif name == "scaled_distance" and not is_mixture:
            found[name] = np.sqrt(scores)
        else:
            raise DataError(f"{family.kind} has no score {name!r}")
    return found
