"""Batch fits: the best of several runs of Lloyd's algorithm or EM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.arrays import as_points, as_sample_weight, square_unit
from streamclust.fitting.em import Data, EMResult, InMemory, run_em
from streamclust.fitting.search import search_of
from streamclust.hyperparameters import as_integer, as_number, renamed
from streamclust.models.kmeans import KMeans, KMeansParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

Each = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]
"""A function like `map`, for run numbers."""

_EQUAL = 1e-10
"""Improvements up to this may be rounding errors. Of equal runs, the first is the best."""


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
    """Fit a family to a batch: the best of several runs, each from its own seeding.

    Seeds are drawn by greedy k-means++ and improved by swaps (`streamclust.fitting.seeding`). Each
    run leaves its local optimum while the search of the family finds moves that gain more than
    `tol`. K-means in one dimension has one run, from the global optimum, whatever `n_init` is.
    A family whose K adapts is fitted with the K of the lowest BIC (`streamclust.fitting.choose_k`).

    Parameters
    ----------
    family : KMeans or GaussianMixture
    X : array-like of shape (N, D)
    sample_weight : array-like of shape (N,), optional
        Weight 2 counts a point twice; a point of weight 0 is ignored.
    n_init : int, default=4
        Number of runs.
    tol : float, default=1e-5
        Relative to J (K-means), or in nats per point (mixture).
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
        If there are fewer distinct points than components.
    """
    n_init, max_iter = as_integer("n_init", n_init, 1), as_integer("max_iter", max_iter, 1)
    tol = as_number("tol", tol, "a number, at least 0")
    seeds = tuple(as_integer("seed", each) for each in np.atleast_1d(np.asarray(seed, object)))
    points = as_points(X)
    w = as_sample_weight(sample_weight, len(points))
    points, w = points[w > 0.0], w[w > 0.0]
    family.check_spread(points)
    unit = square_unit(points)
    if unit == 1.0 or family.kind != KMeans.kind:
        return _fit(family, points, w, n_init, tol, max_iter, seeds)
    run = _fit(family, points / unit, w, n_init, tol, max_iter, seeds)
    return _in_units(run, unit)


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
    if family.fewest is not None:
        from streamclust.fitting.choose_k import fit_adapting  # late: it builds on this module

        return fit_adapting(family, points, w, n_init, seeds)
    starting = begins(family, points, w, n_init, seeds)
    draws = (*seeds, n_init)
    return best_of(family, starting, points, w, draws, tol=tol, max_iter=max_iter)


def _in_units(run: EMResult[Any], unit: float) -> EMResult[Any]:
    """Return a run of K-means on points divided by `unit`, in the original units."""
    centroids = run.params.centroids * unit
    stats = replace(
        run.stats,
        first=run.stats.first * unit,
        reference=centroids,
        objective=run.stats.objective * unit * unit,
    )
    history = tuple(loss * unit * unit for loss in run.history)
    return replace(run, params=KMeansParams(centroids), stats=stats, history=history)


def best_of(
    family: Family[P],
    starting: Sequence[Callable[[], P]],
    X: Array,
    w: Array,
    seed: tuple[int, ...],
    *,
    tol: float,
    max_iter: int,
    each: Each = map,
) -> EMResult[P]:
    """Return the best of several runs, after the final moves of split-and-merge.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    starting : sequence of callable
        Each returns the first parameters of one run.
    X, w : arrays of shape (N, D) and (N,)
    seed : tuple of int
        The last number plus the number of the run is the run's seed.
    tol, max_iter : float and int
        See `fit`.
    each : callable, optional
        A function like `map`; the runs are independent of each other.
    """

    def run(number: int) -> tuple[EMResult[P], Data[P]]:
        rng = np.random.default_rng((*seed[:-1], seed[-1] + number))
        data = InMemory(family, X, w, rng)
        return run_to_optimum(
            family, starting[number](), data, X, w, tol=tol, max_iter=max_iter
        ), data

    runs = list(each(run, range(len(starting))))
    best = reduce(partial(_better, family), (result for result, _ in runs))
    return search_of(family).split_merge(best, runs[-1][1], X, w, tol=tol, max_iter=max_iter)


def _better(family: Family[P], one: EMResult[P], other: EMResult[P]) -> EMResult[P]:
    return other if family.improvement(one.loss, other.loss) > _EQUAL else one


def begins(
    family: Family[P], X: Array, w: Array, n_init: int, seed: tuple[int, ...]
) -> list[Callable[[], P]]:
    """Return functions that return the first parameters of runs: the known optimum, or seeds.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    X, w : arrays of shape (N, D) and (N,)
        Points, or a sample of them, of positive weight.
    n_init : int
        Number of seedings.
    seed : tuple of int
    """
    search = search_of(family)
    optimum = search.exact_optimum(X, w)
    if optimum is not None:
        return [lambda: optimum]
    draws = [np.random.default_rng((*seed, run)) for run in range(n_init)]
    return [partial(search.init, X, w, rng) for rng in draws]


def starts(
    family: Family[P], X: Array, w: Array, n_init: int, seed: tuple[int, ...]
) -> Iterator[P]:
    """Yield the first parameters of runs; see `begins`."""
    for begin in begins(family, X, w, n_init, seed):
        yield begin()


def run_to_optimum(
    family: Family[P], start: P, data: Data[P], X: Array, w: Array, *, tol: float, max_iter: int
) -> EMResult[P]:
    """Run EM from `start`; leave local optima while that gains more than `tol`.

    `data` sums the e-steps of the points `X`, `w`; `max_iter` limits the passes to each optimum.
    """
    search = search_of(family)
    best = run_em(family, start, data, tol=tol, max_iter=max_iter)
    gain = np.inf
    while gain > tol and (start_again := search.leave_optimum(best.params, X, w)) is not None:
        run = run_em(family, start_again, data, tol=tol, max_iter=max_iter)
        gain = family.improvement(best.loss, run.loss)
        best = run if gain > 0.0 else best
    return best
