"""How many components: splits and merges from a solution, as long as the BIC falls.

BIC = -2 L + p log n (Schwarz 1978), where n is the number of points of equal say that the
weighted ones are worth, so that forgetting and condensing weaken the evidence. L is a mixture's
log-likelihood; of K-means it is the classification likelihood with a round Gaussian for each
cluster. Moves that promise the most are made at once, and the whole solution settles before it is
judged; random swaps at the K that was found, and fresh seeds, lead out of local optima.
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
"""Fall of the BIC that another K takes in a running model: "very strong" (Kass & Raftery 1995), so
that K doesn't flicker from one solve to the next."""

_TOL = 1e-4
_MAX_ITER = 50
"""Of the runs that settle after a set of moves."""

_SINGLY = 3
"""Moves that are tried one by one after the set of all failed, the best first."""

_HOPE = 50.0
"""By how much a move may seem to raise the BIC, and still be tried: settling can gain that."""

_SEARCHES = 4
"""Random searches at the K that was found, as long as each has gained."""


@dataclass(frozen=True, eq=False)
class Adapted(Generic[P]):
    """A solution, and its BIC (lower is better)."""

    params: P
    bic: float


def adapt(
    family: Family[P], live: P | None, points: Sample, restarts: int, seed: tuple[int, ...]
) -> Adapted[P]:
    """Return the solution of the lowest BIC that is found.

    Parameters
    ----------
    family : KMeans or GaussianMixture
        K stays within its `fewest` and its own number.
    live : KMeansParams or MixtureParams or None
        Where the first search begins; None for the best of fresh fits with the smallest K, twice
        as many, ..., the largest.
    points : Sample
    restarts : int
        Searches from fresh seeds of twice the K that is best so far.
    seed : tuple of int

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than the smallest K.
    """
    search = _Search(family, points, np.random.default_rng((*seed, 0)))
    if live is None or not _bounded(family, family.size(live)):
        live = search.ladder(seed)
    best = search.around(live)
    for run in range(1, restarts + 1):
        K = min(2 * family.size(best.params), family.n_components)
        try:
            start = _fresh(family, K, points, (*seed, run))
        except TooFewPointsError:
            break
        best = min(best, search.around(start), key=_bic)
    return best


def fit_adapting(
    family: Family[P], X: Array, w: Array, restarts: int, seed: tuple[int, ...]
) -> EMResult[P]:
    """Return the fit of the lowest BIC to points that count as many as their weights say.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than the smallest K.
    """
    best = adapt(family, None, Sample(X, w, float(w.sum())), restarts - 1, seed)
    stats = family.e_step(best.params, X, w)
    return EMResult(best.params, stats, (family.loss(stats),), converged=True)


def is_better(family: Family[P], live: P, found: P, points: Sample) -> bool:
    """Return whether the evidence for `found` is strong enough to change the number of components.

    See `EVIDENCE`.
    """
    if not _bounded(family, family.size(live)):
        return True
    search = search_of(family)
    return search.bic(live, points) - search.bic(found, points) > EVIDENCE


def _bounded(family: Family[Any], K: int) -> bool:
    return (family.fewest or 1) <= K <= family.n_components


def _bic(found: Adapted[Any]) -> float:
    return found.bic


def _fresh(family: Family[P], K: int, points: Sample, seed: tuple[int, ...]) -> P:
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
        """Return the best of fresh fits with the smallest K, twice as many, ..., the largest.

        A few clusters too few can look better than some more, but still too few: from a handful of
        round clusters in a row, one cut in two seldom gains.
        """
        K, most = self.family.fewest or 1, self.family.n_components
        found = [self._settled(_fresh(self.family, K, self.points, (*seed, 0, K)))]
        while most > K:
            K = min(2 * K, most)
            try:
                start = _fresh(self.family, K, self.points, (*seed, 0, K))
            except TooFewPointsError:
                break
            found.append(self._settled(start))
        return min(found, key=_bic).params

    def around(self, start: P) -> Adapted[P]:
        """Move from `start` until nothing gains, neither in K nor by random swaps."""
        best = self._moved(self._settled(start))
        for _ in range(_SEARCHES):
            swapped = self.moves.perturb(best.params, self.points.X, self.points.w, self.rng)
            if swapped is best.params:
                break
            trial = self._moved(self._settled(swapped))
            if not trial.bic < best.bic:
                break
            best = trial
        return best

    def _settled(self, start: P) -> Adapted[P]:
        family, points = self.family.with_components(self.family.size(start)), self.points
        data = InMemory(family, points.X, points.w, self.rng)
        run = run_to_optimum(family, start, data, points.X, points.w, tol=_TOL, max_iter=_MAX_ITER)
        return Adapted(run.params, search_of(family).bic(run.params, points))

    def _moved(self, best: Adapted[P]) -> Adapted[P]:
        """Split and merge in turn until neither gains."""
        while True:
            split = self._best_of(best, self.moves.propose_splits(best.params, self.points))
            after = self._best_of(split, self.moves.propose_merges(split.params, self.points))
            if after is best:
                return best
            best = after

    def _best_of(self, best: Adapted[P], moves: Sequence[Move[P]]) -> Adapted[P]:
        """Make the moves that promise to gain, all at once, half of them, ...; or `best` itself."""
        for chosen in self._sets(best.params, moves):
            trial = self._settled(self.moves.apply(best.params, chosen))
            if trial.bic < best.bic:
                return trial
        return best

    def _sets(self, params: P, moves: Sequence[Move[P]]) -> Iterator[list[Move[P]]]:
        ranked = sorted(moves, key=lambda move: move.change)
        promising = self._disjoint(params, [move for move in ranked if move.change < 0.0])
        while len(promising) > 1:
            yield promising
            promising = promising[: len(promising) // 2]
        for move in (each for each in ranked[:_SINGLY] if each.change < _HOPE):
            yield from filter(None, [self._disjoint(params, [move])])

    def _disjoint(self, params: P, ranked: Sequence[Move[P]]) -> list[Move[P]]:
        """Return the first moves that share no component and keep K within its bounds."""
        chosen: list[Move[P]] = []
        gone: set[int] = set()
        K, family = self.family.size(params), self.family
        for move in ranked:
            after = K + family.size(move.add) - len(move.drop)
            if _bounded(family, after) and not gone & set(move.drop):
                chosen.append(move)
                gone |= set(move.drop)
                K = after
        return chosen
