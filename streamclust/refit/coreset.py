"""A coreset of points that don't fit in memory, for the starts of runs and for moves.

A uniform sample misses small clusters. Rounds of k-means|| (Bahmani, Moseley, Vattani, Kumar &
Vassilvitskii 2012), which begin with k-means++ on the sample, find them: each round draws points of
all data with probability proportional to their squared distance to the nearest point so far. With
all these points as a rough solution, one more pass draws a coreset by sensitivity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.engine.points import joined
from streamclust.engine.sampling import Condense, Draw
from streamclust.fitting.hot_deck import hot_deck
from streamclust.fitting.seeding import seed_centroids
from streamclust.models.partial import filled_by_nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.engine import Points
    from streamclust.models.family import Family
    from streamclust.refit.data import Dataset

ROUNDS = 2
"""Rounds of k-means||: few, because the sample has found the clusters with most of the points."""

_PER_ROUND = 1.0
"""Points that a round draws, relative to K."""


def condensed(
    family: Family[Any], points: Dataset, seed: int, stop: Callable[[], bool] = lambda: False
) -> Points:
    """Return all points in memory, or else a coreset of about as many points as the sample.

    The passes read all points three times, and compute as much as six iterations of K-means.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    points : Dataset
    seed : int
    stop : callable, optional
        Returns whether to raise `StoppedError`.

    Raises
    ------
    TooFewPointsError
        If the sample has fewer distinct points than components.
    """
    if points.whole:
        return points.sample
    centroids = candidates(points, family.n_components, seed, stop)
    share = len(points.sample.w) / points.count
    found: tuple[Points, ...] = points.fold(Condense(centroids, share, (seed, 6)), stop)
    return joined(list(found))


def candidates(points: Dataset, K: int, seed: int, stop: Callable[[], bool] = lambda: False) -> Any:
    """Return more than K points of the data near which all its points are, shape (n, D)."""
    X, w = points.sample
    X = hot_deck(X, w)
    centroids = seed_centroids(X, w, K, np.random.default_rng((seed, 4)))
    for number in range(ROUNDS):
        size = max(1, round(_PER_ROUND * K))
        drawn = points.fold(Draw(centroids, size, (seed, 5, number)), stop)
        if not len(drawn.X):
            break
        new = filled_by_nearest(drawn.X, centroids)
        centroids = np.concatenate([centroids, np.unique(new, axis=0)])
    return centroids
