"""A coreset of points that don't fit in memory, for the starts of runs and for moves.

A uniform sample misses small clusters. Rounds of k-means|| (Bahmani, Moseley, Vattani, Kumar &
Vassilvitskii 2012) find them. They start from k-means++ on the sample. Each round draws from all
points, with probability proportional to the squared distance to the nearest point drawn so far.
With all drawn points as a rough solution, one more pass draws a coreset by sensitivity.
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
"""Rounds of k-means||. Few are enough, because the sample has most clusters already."""

_PER_ROUND = 1.0
"""Points that a round draws, relative to K."""


def memory_or_coreset(
    family: Family[Any], points: Dataset, seed: int, stop: Callable[[], bool] = lambda: False
) -> Points:
    """Return all points if they are in memory, else a coreset of about the size of the sample.

    The coreset needs three passes over all points, as much work as six iterations of K-means.

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
    if points.is_in_memory:
        return points.sample
    centroids = candidates(points, family.n_components, seed, stop)
    share = len(points.sample.w) / points.count
    samples: tuple[Points, ...] = points.fold(Condense(centroids, share, (seed, 6)), stop)
    return joined(list(samples))


def candidates(points: Dataset, K: int, seed: int, stop: Callable[[], bool] = lambda: False) -> Any:
    """Return more than K points, (n, D), so that each point of the data is near one of them."""
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
