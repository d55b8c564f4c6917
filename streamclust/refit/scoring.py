"""Scores of a model on a range of its streams or on files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.models import GaussianMixture, KMeans, KMeansParams
from streamclust.models.criteria import (
    criteria,
    distances,
    kmeans_log_likelihood,
    kmeans_parameters,
    mixture_parameters,
    silhouette,
)
from streamclust.models.family import by_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.arrays import Array, Labels, Metric
    from streamclust.models.family import Family
    from streamclust.models.stats import Stats
    from streamclust.refit.data import Dataset

SILHOUETTE_POINTS = 2000
"""Maximum number of points for the silhouette, which needs N^2 distances."""


@dataclass(frozen=True)
class Score:
    """The scores of a model on a set of points.

    Parameters
    ----------
    n_components : int
    points : int
    weight : float
        Total weight of the points, the n of the criteria.
    inertia : float
        J: the sum of squared distances to the nearest centroid or mean, or of 1 - cos. If the model
        scales its features, J and the silhouette are in scaled units.
    inertia_per_point : float
    log_likelihood : float or None
        Log-likelihood of all points, in nats and in the original units: of the mixture, or of
        K-means as equal spherical Gaussians. None if J is 0.
    log_likelihood_per_point : float or None
    parameters : int
        Free parameters.
    aic, bic : float or None
        Lower is better.
    silhouette : float or None
        Silhouette of up to 2,000 points without missing values; None if there is only one cluster.
    """

    n_components: int
    points: int
    weight: float
    inertia: float
    inertia_per_point: float
    log_likelihood: float | None
    log_likelihood_per_point: float | None
    parameters: int
    aic: float | None
    bic: float | None
    silhouette: float | None


class Sample:
    """The points for the silhouette. Models that are compared share one, and its distances."""

    def __init__(self, points: Dataset, metric: Metric, seed: int = 0) -> None:
        self.X = _sample_without_gaps(points, seed)
        self.metric = metric

    @cached_property
    def distances(self) -> Array:
        """The distances of all points to each other."""
        return distances(self.X, self.metric)

    def silhouette(self, labels: Labels) -> float | None:
        """Return the silhouette of a model that gives the points these labels."""
        return silhouette(self.X, labels, self.metric, lambda: self.distances)


def score(
    family: Family[Any],
    params: Any,
    points: Dataset,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    sample: Sample | None = None,
) -> Score:
    """Return all scores of a model.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
        In the units of the points.
    points : Dataset
    seed : int, default=0
        Seed of the sample for the silhouette.
    stop : callable, optional
        Returns whether to raise `StoppedError`.
    sample : Sample, optional
        The sample for the silhouette, if another model of the same metric has used it.
    """
    log_likelihood, n_parameters = by_kind(LIKELIHOODS, family.kind, "LIKELIHOODS")
    K, D = params.means.shape
    metric = family.metric
    as_kmeans = KMeans(K, metric=metric, missing=family.missing)
    nearest = points.e_step(as_kmeans, KMeansParams(params.means), stop)
    total = log_likelihood(family, params, points, nearest, stop)
    total -= points.log_volume * points.weight
    is_finite = np.isfinite(total)
    values = criteria(total, n_parameters(family, K, D), points.weight)
    sample = sample or Sample(points, metric, seed)
    return Score(
        n_components=K,
        points=points.count,
        weight=points.weight,
        inertia=nearest.objective,
        inertia_per_point=nearest.objective / points.weight,
        log_likelihood=total if is_finite else None,
        log_likelihood_per_point=total / points.weight if is_finite else None,
        parameters=values.parameters,
        aic=values.aic if is_finite else None,
        bic=values.bic if is_finite else None,
        silhouette=sample.silhouette(family.predict(params, sample.X)),
    )


def _mixture_log_likelihood(
    family: Family[Any],
    params: Any,
    points: Dataset,
    nearest: Stats,
    stop: Callable[[], bool],
) -> float:
    return points.e_step(family, params, stop).objective


LIKELIHOODS: dict[str, tuple[Callable[..., float], Callable[..., int]]] = {
    KMeans.kind: (
        lambda family, _params, _points, nearest, _stop: kmeans_log_likelihood(
            nearest, family.metric
        ),
        lambda family, K, D: kmeans_parameters(K, D, family.metric),
    ),
    GaussianMixture.kind: (
        _mixture_log_likelihood,
        lambda family, K, D: mixture_parameters(K, D, family.covariance_type),
    ),
}
"""Kind of a family -> log-likelihood of all points, and number of free parameters."""


def _sample_without_gaps(points: Dataset, seed: int) -> Any:
    """Return a sample of points without missing values."""
    X = points.sample.X
    if has_gaps(X):
        X = X[~np.isnan(X).any(axis=1)]
    if len(X) <= SILHOUETTE_POINTS:
        return X
    rng = np.random.default_rng((seed, 3))
    return X[np.sort(rng.choice(len(X), SILHOUETTE_POINTS, replace=False))]
