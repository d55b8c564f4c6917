"""Batch fits: the public function `streamclust.fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamclust.arrays import as_points, as_sample_weight
from streamclust.fitting.choose_k import fit_adapting
from streamclust.fitting.em import EMResult
from streamclust.fitting.restarts import best_of, start_functions
from streamclust.fitting.search import search_of
from streamclust.hyperparameters import as_integer, as_number, renamed
from streamclust.models.family import check_family

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")


@renamed(restarts="n_init")
def fit(
    family: Family[P],
    X: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    n_init: int = 4,
    tol: float = 1e-5,
    max_iter: int = 300,
    seed: int | tuple[int, ...] = 0,
) -> EMResult[P]:
    """Fit a family to a batch: the best of several runs of EM, each from its own seeding.

    Seeds are drawn by greedy k-means++ and improved by swaps (`streamclust.fitting.seeding`). At a
    local optimum, a run continues as long as the search of the family finds moves that gain more
    than `tol` (`streamclust.fitting.search`). K-means in one dimension ignores `n_init`: it has one
    run, from the global optimum. A family whose K adapts is fitted with the K of the lowest BIC
    (`streamclust.fitting.choose_k`).

    Parameters
    ----------
    family : KMeans or GaussianMixture
    X : array-like of shape (N, D)
    sample_weight : array-like of shape (N,), optional
        Weight 2 counts a point twice; a point of weight 0 is ignored.
    n_init : int, default=4
        Number of runs.
    tol : float, default=1e-5
        Least improvement per iteration: relative to J (K-means), or in nats per point (mixture).
    max_iter : int, default=300
        Largest number of iterations per run.
    seed : int or tuple of int, default=0

    Returns
    -------
    EMResult
        The run with the lowest loss, after the final moves of split-and-merge.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points (metric cosine: directions) than components, or if a
        feature has no value in any point.
    DataError
        If an argument isn't allowed; missing values need a family with ``missing="learn"``.
    """
    check_family(family)
    n_init, max_iter = as_integer("n_init", n_init, 1), as_integer("max_iter", max_iter, 1)
    tol = as_number("tol", tol, "a number, at least 0")
    seeds = tuple(as_integer("seed", each) for each in np.atleast_1d(np.asarray(seed, object)))
    points = as_points(X, most=family.max_magnitude, missing=family.missing)
    w = as_sample_weight(sample_weight, len(points))
    points, w = np.asarray(family.prepare(points[w > 0.0]), np.float64), w[w > 0.0]
    search = search_of(family)
    search.check(points)
    if (unit := search.unit(points)) == 1.0:
        return _fit(family, points, w, n_init, tol, max_iter, seeds)
    run = _fit(family, points / unit, w, n_init, tol, max_iter, seeds)
    return search.in_original_units(run, unit)


def _fit(
    family: Family[P],
    points: Array,
    w: Array,
    n_init: int,
    tol: float,
    max_iter: int,
    seeds: tuple[int, ...],
) -> EMResult[P]:
    """Do the same as `fit`, for points of positive weight whose squares don't underflow."""
    if family.min_components is not None:
        return fit_adapting(family, points, w, n_init, seeds)
    starting = start_functions(family, points, w, n_init, seeds)
    draws = (*seeds, n_init)
    return best_of(family, starting, points, w, draws, tol=tol, max_iter=max_iter)
