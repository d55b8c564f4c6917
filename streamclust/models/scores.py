"""Scores of points: how unusual a point is under a model.

The anomaly score, which is higher for a more unusual point, is

    mixture                      -log p(x)
    K-means                      sum_d ((x_d - u_kd) / s_d)^2 of the nearest centroid u_k
    K-means, metric cosine       1 - cos(x, u_k)

If values are missing, log p(x) is the log density of the present values, minus the entropy of the
missing values given the present ones; distances are partial distances. So the scores of points with
different missing values are comparable.

The tail score (`streamclust.models.feature_distribution`) is another score, for both kinds. A model
with `anomaly.score: tail_score` has it in place of the anomaly score above.

`streamclust.models.score_distribution` remembers anomaly scores. The scores that an encoder writes
(`encode.score`) follow from these scores and that distribution, except the Mahalanobis distance.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
    from streamclust.models.feature_distribution import FeatureDistribution
    from streamclust.models.gaussian_mixture import MixtureParams
    from streamclust.models.kmeans import KMeansParams
    from streamclust.models.score_distribution import ScoreDistribution


AnomalyScore = Literal["model", "tail_score"]
"""Which score is remembered and flags points: that of the family, or the tail score."""


class RawScores(NamedTuple):
    """The two scores from which the others follow; see the module's docstring.

    Attributes
    ----------
    objective : array of shape (N,)
        `Family.score_points`.
    anomaly : array of shape (N,)
        The anomaly score of the family.
    """

    objective: Array
    anomaly: Array


class Distributions(NamedTuple):
    """Distributions that a model stores besides its parameters, for scores of points.

    Attributes
    ----------
    scores : ScoreDistribution, optional
        The distribution of the anomaly scores.
    features : FeatureDistribution, optional
        The distribution of each feature, in the units of the parameters.
    anomaly : {'model', 'tail_score'}
        Which score is the anomaly score.
    """

    scores: ScoreDistribution | None = None
    features: FeatureDistribution | None = None
    anomaly: AnomalyScore = "model"


NO_DISTRIBUTIONS = Distributions()


def anomaly_score(
    family: Family[Any], params: Any, X: Array, distributions: Distributions = NO_DISTRIBUTIONS
) -> Array:
    """Return the anomaly score of prepared points (N, D), shape (N,); higher is more unusual.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array of shape (N, D)
    distributions : Distributions, optional
        `distributions.anomaly` names the score. Default: the score of the family.
    """
    if distributions.anomaly == "tail_score":
        return tail_score(family, X, distributions)
    return raw_scores(family, params, X).anomaly


def tail_score(family: Family[Any], X: Array, distributions: Distributions) -> Array:
    """Return the tail score of points (N, D), (N,); NaN without distributions of features."""
    if distributions.features is None or distributions.features.is_empty:
        return np.full(len(X), np.nan)
    return distributions.features.scores(family.prepare(X))


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

    `joint` (N, K) is log pi_k N(x_n | mu_k, Sigma_k); `log_density` (N,) is log p(x_n).
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
    distributions: Distributions = NO_DISTRIBUTIONS,
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
        Names from `anomaly` (the anomaly score), `quantile`, `tail_score`, `log_density`,
        `mahalanobis` and `scaled_distance`.
    distributions : Distributions, optional
        Needed for `quantile` and `tail_score`; without them, these scores are NaN.
    raw : RawScores, optional
        The raw scores of the points, if they are already computed.

    Raises
    ------
    DataError
        If the family has no score of a name.
    """
    tails = cache(lambda: tail_score(family, X, distributions))
    raws = cache(lambda: raw_scores(family, params, X) if raw is None else raw)

    def anomaly() -> Array:
        return tails() if distributions.anomaly == "tail_score" else raws().anomaly

    def quantile() -> Array:
        if distributions.scores is None or distributions.scores.is_empty:
            return np.full(len(X), np.nan)
        return distributions.scores.quantile(anomaly())

    scores: dict[str, Callable[[], Array]] = {
        "anomaly": anomaly,
        "quantile": quantile,
        "tail_score": tails,
    }
    if family.objective == "log_likelihood":
        scores["log_density"] = lambda: raws().objective
        scores["mahalanobis"] = lambda: mahalanobis(params, X, index)
    else:
        scores["scaled_distance"] = lambda: np.sqrt(raws().objective)
    for name in names:
        if name not in scores:
            raise DataError(f"{family.kind} has no score {name!r}; it has {', '.join(scores)}")
    return {name: scores[name]() for name in names}
