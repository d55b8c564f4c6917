"""The best of several runs of Lloyd's algorithm or EM, each from its own start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.fitting.em import Data, EMResult, InMemory, run_em
from streamclust.fitting.hot_deck import hot_deck
from streamclust.fitting.search import search_of
from streamclust.models.present import check_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamclust.arrays import Array
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

MapRuns = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]
"""A function like `map` that calls a function for run numbers, possibly at the same time."""

_EQUAL = 1e-10
"""Improvements up to this may be rounding errors. The first of several equal runs is the best."""


def best_of(
    family: Family[P],
    starting: Sequence[Callable[[], P]],
    X: Array,
    w: Array,
    seed: tuple[int, ...],
    *,
    tol: float,
    max_iter: int,
    map_runs: MapRuns = map,
) -> EMResult[P]:
    """Return the best of several runs, after the final moves of split-and-merge.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    starting : sequence of callable
        Functions without arguments; each one returns the first parameters of one run.
    X, w : arrays of shape (N, D) and (N,)
    seed : tuple of int
        The seed of run r is this tuple with r added to its last number.
    tol, max_iter : float and int
        See `fit`.
    map_runs : callable, optional
        A function like `map`; the runs are independent of each other.
    """

    def run(number: int) -> tuple[EMResult[P], Data[P]]:
        rng = np.random.default_rng((*seed[:-1], seed[-1] + number))
        data = InMemory(family, X, w, rng)
        return run_to_optimum(
            family, starting[number](), data, X, w, tol=tol, max_iter=max_iter
        ), data

    runs = list(map_runs(run, range(len(starting))))
    search = search_of(family)

    def better(one: EMResult[P], other: EMResult[P]) -> EMResult[P]:
        return other if search.gain(one, other, X, w) > _EQUAL else one

    best = reduce(better, (result for result, _ in runs))
    return search.split_merge(best, runs[-1][1], X, w, tol=tol, max_iter=max_iter)


def start_functions(
    family: Family[P], X: Array, w: Array, n_init: int, seed: tuple[int, ...]
) -> list[Callable[[], P]]:
    """Return functions for the first parameters of runs: one known optimum, or `n_init` seedings.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    X, w : arrays of shape (N, D) and (N,)
        Points, or a sample of them, of positive weight. Gaps are filled as in
        `streamclust.fitting.hot_deck`.
    n_init : int
        Number of seedings.
    seed : tuple of int

    Raises
    ------
    TooFewPointsError
        If a feature has no value in any point.
    """
    check_features(X)
    search, X = search_of(family), hot_deck(X, w)
    optimum = search.exact_optimum(X, w)
    if optimum is not None:
        return [lambda: optimum]
    draws = [np.random.default_rng((*seed, run)) for run in range(n_init)]
    return [partial(search.init, X, w, rng) for rng in draws]


def starts(
    family: Family[P], X: Array, w: Array, n_init: int, seed: tuple[int, ...]
) -> Iterator[P]:
    """Yield the first parameters of runs; see `start_functions`."""
    for start in start_functions(family, X, w, n_init, seed):
        yield start()


def run_to_optimum(
    family: Family[P], start: P, data: Data[P], X: Array, w: Array, *, tol: float, max_iter: int
) -> EMResult[P]:
    """Run EM from `start`; leave local optima while this gains more than `tol`.

    `data` sums the e-steps of the points `X`, `w`; `max_iter` limits the passes to each optimum.
    """
    search = search_of(family)
    best = run_em(family, start, data, tol=tol, max_iter=max_iter)
    gain = np.inf
    while gain > tol and (start_again := search.leave_optimum(best.params, X, w)) is not None:
        run = run_em(family, start_again, data, tol=tol, max_iter=max_iter)
        gain = search.gain(best, run, X, w)
        best = run if gain > 0.0 else best
    return best
