"""K-medoids: the K points of the data with the least sum of distances from all points to them.

Unlike a centroid, a medoid is a point of the data. The distances are Euclidean and not squared, so
outliers have less influence. K-medoids needs the distances of all pairs of points, so use it with a
sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import square_unit
from streamclust.errors import DataError, MissingExtraError, TooFewPointsError
from streamclust.hyperparameters import as_integer
from streamclust.kernels import assign

if TYPE_CHECKING:
    from streamclust.arrays import Array

MAX_POINTS = 5000
"""Largest number of points: the distances of all pairs take 200 MB."""


def fit_medoids(X: Array, n_clusters: int, *, n_init: int = 4, seed: int = 0) -> Array:
    """Return the medoids of the best of several runs of FasterPAM (Schubert & Rousseeuw 2021).

    Parameters
    ----------
    X : array of shape (N, D)
        At most 5,000 points.
    n_clusters : int
    n_init : int, default=4
    seed : int, default=0

    Returns
    -------
    array of shape (K, D)
        Points of `X`.

    Raises
    ------
    DataError
        If there are too many points.
    TooFewPointsError
        If there are fewer distinct points than clusters.
    MissingExtraError
        Without the package kmedoids.
    """
    try:
        from kmedoids import fasterpam
    except ImportError:
        raise MissingExtraError(
            "K-medoids needs the package kmedoids: pip install kmedoids"
        ) from None
    n_clusters = as_integer("n_clusters", n_clusters, 1)
    n_init, seed = as_integer("n_init", n_init), as_integer("seed", seed)
    if len(X) > MAX_POINTS:
        raise DataError(
            f"K-medoids needs the distances of all pairs, so at most {MAX_POINTS:,} points; got "
            f"{len(X):,}: choose fewer points, such as --last {MAX_POINTS}"
        )
    distinct = len(np.unique(X, axis=0))
    if distinct < n_clusters:
        raise TooFewPointsError(
            f"{distinct} distinct points are too few for {n_clusters} components; "
            "give more points or fewer components"
        )
    from scipy.spatial.distance import cdist  # imported here: a scheduled refit doesn't need it

    scaled = X / square_unit(X)
    distances = cdist(scaled, scaled)
    runs = (
        fasterpam(distances, n_clusters, random_state=seed + run, n_cpu=1)
        for run in range(max(n_init, 1))
    )
    best = min(runs, key=lambda run: float(run.loss))
    return np.ascontiguousarray(X[np.asarray(best.medoids, dtype=np.intp)])


def mean_distance(X: Array, w: Array, centres: Array) -> float:
    """Return the weighted mean of the Euclidean distances to the nearest centre."""
    unit = square_unit(X, centres)
    distance = unit * np.sqrt(assign(X / unit, centres / unit).squared_distances)
    return float((w * distance).sum() / w.sum())
