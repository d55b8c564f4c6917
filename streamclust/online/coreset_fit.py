"""Fits of the coreset, which correct a bad start.

A learning step finds only the local optimum near the initial parameters. A fit of the coreset uses
a sample of the whole stream, and also starts from new seeds, so it can find a better optimum. It
replaces the live parameters if it is better by more than the optimism of its smaller sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.fitting.choose_k import adapt, is_better
from streamclust.fitting.em import EMResult
from streamclust.fitting.moves import sample_of
from streamclust.fitting.restarts import best_of, start_functions
from streamclust.fitting.search import search_of
from streamclust.models.coreset import effective_size, reduce_coreset

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.fitting.restarts import MapRuns
    from streamclust.models.coreset import Coreset
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")

_TOL = 1e-4
_MAX_ITER = 50
"""Limits of each run. They can be loose, because learning steps continue from its result."""

_SKETCH_SIZE = 2000
_SKETCH_SIZE_PER_COMPONENT = 40
"""Seeds are drawn from max(2000, 40 K) points."""

_SKETCH = 1 << 16
"""Last number of the seed for the draw of these points."""


@dataclass(frozen=True, eq=False)
class Problem(Generic[P]):
    """The input of a fit of the coreset; the answer depends on nothing else.

    Parameters
    ----------
    live : KMeansParams or MixtureParams
        One run starts from these parameters after random moves; the others start from new seeds.
    coreset : Coreset
        The coreset when the fit started, without points of weight 0.
    seed : tuple of int
    """

    live: P
    coreset: Coreset
    seed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Answer(Generic[P]):
    """The best parameters that `solve` found; None if there are too few points."""

    params: P | None


@dataclass(frozen=True, eq=False)
class Pending(Generic[P]):
    """A fit that has started.

    Parameters
    ----------
    due : int
        Number of learned points at which the learner uses the answer. This number doesn't depend on
        the duration of the fit, so a replay gives the same bits.
    problem : Problem
    answer : Answer or None
        None until the fit is finished. Checkpoints don't have it, because it follows from the
        problem.
    """

    due: int
    problem: Problem[P]
    answer: Answer[P] | None = None


@dataclass(frozen=True, eq=False)
class ReclusterState(Generic[P]):
    """When the coreset is fitted again.

    Parameters
    ----------
    learned : int
        Points learned since the coreset was last fitted, or since the start.
    interval : float
        Number of points to learn before it is fitted again.
    solved_loss : float or None
        Loss per point of the coreset when it was last fitted.
    excess_loss : float
        Total rise of the loss of the points since then; it decays like the statistics.
    pending : Pending or None
        The fit that has started.
    """

    learned: int = 0
    interval: float = 0.0
    solved_loss: float | None = None
    excess_loss: float = 0.0
    pending: Pending[P] | None = None

    def without_pending(self) -> ReclusterState[P]:
        """Return the state without the fit that has started; its answer isn't used."""
        return self if self.pending is None else replace(self, pending=None)

    def observe(
        self, family: Family[P], n_points: int, loss: float, weight: float, lam: float
    ) -> ReclusterState[P]:
        """Return the state after a batch of this loss per point; `lam` decays the excess loss."""
        excess = self.excess_loss
        if self.solved_loss is not None:
            excess = lam * excess - weight * family.improvement(self.solved_loss, loss)
        learned = self.learned + n_points
        return ReclusterState(learned, self.interval, self.solved_loss, excess, self.pending)


def solve(
    family: Family[P], problem: Problem[P], restarts: int, map_runs: MapRuns = map
) -> Answer[P]:
    """Return the best fit of the coreset.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    problem : Problem
    restarts : int
        Number of runs from new seeds.
    map_runs : callable, optional
        See `streamclust.fitting.restarts.best_of`.
    """
    X, w, seed = problem.coreset.X, problem.coreset.w, problem.seed
    if family.min_components is not None:
        points = sample_of(problem.coreset, problem.live.means)
        try:
            return Answer(adapt(family, problem.live, points, min(1, restarts), seed).params)
        except DataError:
            return Answer(None)
    # Seeds are drawn from fewer points: the start of a run needs less accuracy than its end.
    size = max(_SKETCH_SIZE, _SKETCH_SIZE_PER_COMPONENT * family.n_components)
    means = family.prior_stats(problem.live, 1.0).reference
    sketch = reduce_coreset(problem.coreset, means, size, np.random.default_rng((*seed, _SKETCH)))
    rng = np.random.default_rng((*seed, restarts))
    nearby = partial(search_of(family).perturb, problem.live, sketch.X, sketch.w, rng)
    draws = (*seed, restarts + 1)
    try:
        seeds = start_functions(family, sketch.X, sketch.w, restarts, seed)
        starting: list[Callable[[], P]] = [nearby, *seeds]
        best = best_of(
            family, starting, X, w, draws, tol=_TOL, max_iter=_MAX_ITER, map_runs=map_runs
        )
        return Answer(best.params)
    except DataError:  # too few points, or so few that a covariance is singular
        return Answer(None)


def judge(family: Family[P], live: P, coreset: Coreset, mass: float, candidate: P) -> Stats | None:
    """Return the coreset's statistics under `candidate`, or None if it isn't clearly better.

    Another number of components needs strong evidence; see `streamclust.fitting.choose_k`.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    live : KMeansParams or MixtureParams
    coreset : Coreset
        The present coreset, with points that were learned since the fit started.
    mass : float
        Number of points that `live` represents.
    candidate : KMeansParams or MixtureParams
        The parameters that `solve` returned.
    """
    X, w = coreset.X, coreset.w
    stats = family.e_step(candidate, X, w)
    if len(candidate.means) != len(live.means):
        points = sample_of(coreset, stats.reference)
        better = stats.alive.all() and is_better(family, live, candidate, points)
        return stats if better else None
    if family.min_components is not None:
        family = family.with_components(len(live.means))
    before, after = (
        EMResult(params, sums, (family.loss(sums),), converged=True)
        for params, sums in ((live, family.e_step(live, X, w)), (candidate, stats))
    )
    gain = search_of(family).gain(before, after, X, w)
    # On its own n points, a fit looks better than it is, by the optimism of n points. The live
    # model has learned these points and more. So the gain must exceed the difference of both.
    optimism, n = search_of(family).optimism, effective_size(coreset, stats.reference)
    apparent = max(0.0, optimism(n, X.shape[1]) - optimism(mass, X.shape[1]))
    if gain <= _TOL + apparent or not stats.alive.all():
        return None
    return stats
