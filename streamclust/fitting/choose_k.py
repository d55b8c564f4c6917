"""The choice of K: components are split and merged while the BIC falls.

BIC = -2 L + p log n (Schwarz 1978). n is the effective sample size of the weighted points, so
forgetting and the reduction of the coreset weaken the evidence. L is the log-likelihood of a
mixture. For K-means, L is the classification likelihood with a spherical Gaussian per cluster. The
most promising moves are made together, and the whole solution is fitted again before its BIC is
compared. Random swaps at the best K, and new seeds, find other local optima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streamclust.errors import TooFewPointsError
from streamclust.fitting.em import EMResult, InMemory
from streamclust.fitting.moves import Sample
from streamclust.fitting.restarts import run_to_optimum, starts
from streamclust.fitting.search import search_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamclust.arrays import Array
    from streamclust.fitting.moves import Move, Search
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

EVIDENCE = 10.0
"""Fall of the BIC above which a running model changes its K: "very strong" evidence (Kass & Raftery
1995), so that K doesn't change back and forth."""

_TOL = 1e-4
_MAX_ITER = 50
"""Largest number of iterations of the fit after a set of moves."""

_SINGLE_MOVES = 3
"""Number of moves that are tried one by one, the best first, if the set of all moves fails."""

_MAX_ESTIMATE = 50.0
"""A single move is tried if its estimated rise of the BIC is below this: the fit may gain more."""

_SEARCHES = 4
"""Largest number of random searches at the best K. The first search without a gain is the last."""


@dataclass(frozen=True, eq=False)
class Adapted(Generic[P]):
    """A solution, and its BIC (lower is better)."""

    params: P
    bic: float


def adapt(
    family: Family[P], live: P | None, points: Sample, restarts: int, seed: tuple[int, ...]
) -> Adapted[P]:
    """Return the solution with the lowest BIC found.

    Parameters
    ----------
    family : KMeans or GaussianMixture
        K stays between `min_components` and `n_components`.
    live : KMeansParams or MixtureParams or None
        Start of the first search. None: the best of new fits with the smallest K, twice that
        K, ..., the largest K.
    points : Sample
    restarts : int
        Number of searches from new seeds with twice the best K so far.
    seed : tuple of int

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than the smallest K.
    """
    search = _Search(family, points, np.random.default_rng((*seed, 0)))
    if live is None or not _is_allowed(family, len(live.means)):
        live = search.ladder(seed)
    best = search.around(live)
    for run in range(1, restarts + 1):
        K = min(2 * len(best.params.means), family.n_components)
        try:
            start = _new_start(family, K, points, (*seed, run))
        except TooFewPointsError:
            break
        best = min(best, search.around(start), key=_bic)
    return best


def fit_adapting(
    family: Family[P], X: Array, w: Array, restarts: int, seed: tuple[int, ...]
) -> EMResult[P]:
    """Return the fit with the lowest BIC. The number of points n is the sum of the weights.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than the smallest K.
    """
    best = adapt(family, None, Sample(X, w, float(w.sum())), restarts - 1, seed)
    stats = family.e_step(best.params, X, w)
    return EMResult(best.params, stats, (family.loss(stats),), converged=True)


def is_better(family: Family[P], live: P, candidate: P, points: Sample) -> bool:
    """Return whether the evidence for `candidate` is strong enough to change K.

    See `EVIDENCE`.
    """
    if not _is_allowed(family, len(live.means)):
        return True
    search = search_of(family)
    return search.bic(live, points) - search.bic(candidate, points) > EVIDENCE


def _is_allowed(family: Family[Any], K: int) -> bool:
    return (family.min_components or 1) <= K <= family.n_components


def _bic(solution: Adapted[Any]) -> float:
    return solution.bic


def _new_start(family: Family[P], K: int, points: Sample, seed: tuple[int, ...]) -> P:
    return next(starts(family.with_components(K), points.X, points.w, 1, seed))


@dataclass(frozen=True)
class _Search(Generic[P]):
    family: Family[P]
    points: Sample
    rng: np.random.Generator

    @property
    def moves(self) -> Search[P]:
        return search_of(self.family)

    def ladder(self, seed: tuple[int, ...]) -> P:
        """Return the best of new fits with the smallest K, twice that K, ..., the largest K.

        A single K is a bad start. If K is far too small, each component covers several clusters,
        and the split of one component seldom lowers the BIC.
        """
        K, most = self.family.min_components or 1, self.family.n_components
        solutions = [self._fit(_new_start(self.family, K, self.points, (*seed, 0, K)))]
        while most > K:
            K = min(2 * K, most)
            try:
                start = _new_start(self.family, K, self.points, (*seed, 0, K))
            except TooFewPointsError:
                break
            solutions.append(self._fit(start))
        return min(solutions, key=_bic).params

    def around(self, start: P) -> Adapted[P]:
        """Return the best solution near `start`: no move and no random swap lowers its BIC."""
        best = self._split_and_merge(self._fit(start))
        for _ in range(_SEARCHES):
            swapped = self.moves.perturb(best.params, self.points.X, self.points.w, self.rng)
            if swapped is best.params:
                break
            trial = self._split_and_merge(self._fit(swapped))
            if not trial.bic < best.bic:
                break
            best = trial
        return best

    def _fit(self, start: P) -> Adapted[P]:
        family, points = self.family.with_components(len(start.means)), self.points
        data = InMemory(family, points.X, points.w, self.rng)
        run = run_to_optimum(family, start, data, points.X, points.w, tol=_TOL, max_iter=_MAX_ITER)
        return Adapted(run.params, search_of(family).bic(run.params, points))

    def _split_and_merge(self, best: Adapted[P]) -> Adapted[P]:
        """Split and merge in turn until neither lowers the BIC."""
        while True:
            split = self._best_of(best, self.moves.propose_splits(best.params, self.points))
            after = self._best_of(split, self.moves.propose_merges(split.params, self.points))
            if after is best:
                return best
            best = after

    def _best_of(self, best: Adapted[P], moves: Sequence[Move[P]]) -> Adapted[P]:
        """Return the first set of moves that lowers the BIC, fitted; `best` if none does."""
        for chosen in self._sets_of_moves(best.params, moves):
            trial = self._fit(self.moves.apply(best.params, chosen))
            if trial.bic < best.bic:
                return trial
        return best

    def _sets_of_moves(self, params: P, moves: Sequence[Move[P]]) -> Iterator[list[Move[P]]]:
        """Yield all promising moves, half of them, ..., and then the best moves one by one."""
        ranked = sorted(moves, key=lambda move: move.change)
        promising = self._disjoint(params, [move for move in ranked if move.change < 0.0])
        while len(promising) > 1:
            yield promising
            promising = promising[: len(promising) // 2]
        for move in (
            candidate for candidate in ranked[:_SINGLE_MOVES] if candidate.change < _MAX_ESTIMATE
        ):
            yield from filter(None, [self._disjoint(params, [move])])

    def _disjoint(self, params: P, ranked: Sequence[Move[P]]) -> list[Move[P]]:
        """Return the first moves that share no component and keep K within the bounds."""
        chosen: list[Move[P]] = []
        dropped: set[int] = set()
        K, family = len(params.means), self.family
        for move in ranked:
            after = K + len(move.add.means) - len(move.drop)
            if _is_allowed(family, after) and not dropped & set(move.drop):
                chosen.append(move)
                dropped |= set(move.drop)
                K = after
        return chosen
