"""Batch fits: the best of several runs of Lloyd's algorithm or EM."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamclust.arrays import as_points, as_sample_weight
from streamclust.models.em import Climb, InMemory, climb

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.models.family import Family

P = TypeVar("P")


def fit(
    family: Family[P],
    X: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    restarts: int = 4,
    tol: float = 1e-5,
    max_iter: int = 300,
    seed: int | tuple[int, ...] = 0,
) -> Climb[P]:
    """Fit a family to a batch: the best of several runs, each from its own seeding.

    Seeds are drawn by greedy k-means++ and improved by swaps (`streamclust.seeding`); each run
    leaves its local optimum as long as the family knows a way and that gains more than `tol`.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    X : array-like of shape (N, D)
    sample_weight : array-like of shape (N,), optional
        Weight 2 is the point twice, weight 0 no point.
    restarts : int, default=4
    tol : float, default=1e-5
        Share of J (K-means) or nats per point (mixture).
    max_iter : int, default=300
        Of each run.
    seed : int or tuple of int, default=0

    Returns
    -------
    Climb
        The run with the lowest loss.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than components.
    """
    points = as_points(X)
    w = as_sample_weight(sample_weight, len(points))
    points, w = points[w > 0.0], w[w > 0.0]
    runs = [
        _run(family, points, w, np.random.default_rng((*np.atleast_1d(seed), run)), tol, max_iter)
        for run in range(restarts)
    ]
    return min(runs, key=lambda run: run.loss)


def _run(
    family: Family[P], X: Array, w: Array, rng: np.random.Generator, tol: float, max_iter: int
) -> Climb[P]:
    """Climb from one seeding; leave local optima until there is no way or too little to gain."""
    data = InMemory(family, X, w, rng)
    best = climb(family, family.init(X, w, rng), data, tol=tol, max_iter=max_iter)
    gain = np.inf
    while gain > tol and (start := family.escape(best.params, X, w)) is not None:
        run = climb(family, start, data, tol=tol, max_iter=max_iter)
        gain = family.improvement(best.loss, run.loss)
        best = run if gain > 0.0 else best
    return best
