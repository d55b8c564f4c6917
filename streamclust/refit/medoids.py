"""A refit by K-medoids, compared by its own objective: the mean Euclidean distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.arrays import has_gaps
from streamclust.errors import ConfigError, DataError
from streamclust.fitting.medoids import fit_medoids, mean_distance
from streamclust.models import KMeans, KMeansParams
from streamclust.refit.runs import Run, SearchResult

if TYPE_CHECKING:
    from streamclust.models.family import Family
    from streamclust.refit.data import Dataset
    from streamclust.refit.runs import Plan


def search_medoids(
    family: Family[Any], points: Dataset, live: KMeansParams | None, plan: Plan
) -> SearchResult:
    """Return the medoids of a small sample as the centroids of a K-means model.

    Raises
    ------
    ConfigError
        If the model is not of kind kmeans.
    DataError
        If there are too many points, points of different weights, or missing values.
    TooFewPointsError
        If there are fewer distinct points than clusters.
    """
    if family.kind != KMeans.kind:
        raise ConfigError(
            f"--method kmedoids is for kind kmeans; the model is a {family.kind}: use method batch"
        )
    X, w = points.sample
    if not points.is_in_memory or (w != w[0]).any():
        raise DataError(
            f"K-medoids takes few points, all of one weight; got {points.count:,} of total "
            f"weight {points.weight:g}"
        )
    if has_gaps(X):
        raise DataError("K-medoids needs all values of a point; some are missing: use method batch")
    params = KMeansParams(fit_medoids(X, family.n_components, n_init=plan.restarts, seed=plan.seed))
    loss = mean_distance(X, w, params.centroids)
    return SearchResult(
        params=params,
        stats=family.e_step(params, X, w),
        loss=loss,
        live_loss=None if live is None else mean_distance(X, w, live.centroids),
        runs=(Run("medoids", loss, max(plan.restarts, 1), converged=True),),
        stopped=False,
    )
