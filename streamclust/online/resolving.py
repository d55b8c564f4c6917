"""Re-solving: now and then the coreset is fitted anew, so that a bad start is not for ever.

The stream's own steps only walk downhill from where the warm-up began. A fit of the coreset, with
other seeds too, sees (nearly) the whole stream at once and can jump. It takes the place of the live
parameters where it is better by more than the optimism of its own, smaller sample explains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.fitting.choose_k import adapt, is_better
from streamclust.fitting.moves import sample_of
from streamclust.fitting.restarts import begins, best_of
from streamclust.fitting.search import search_of
from streamclust.models.coreset import effective_size, reduce_coreset

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.fitting.restarts import Each
    from streamclust.models.coreset import Coreset
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")

_TOL = 1e-4
_MAX_ITER = 50
"""Of each run: the stream goes on from where it ends."""

_SEEN = 2000
_SEEN_PER_COMPONENT = 40
"""Points that seeds are drawn from: the larger of the two."""

_SKETCH = 1 << 16
"""What the draw of these is told apart by."""


@dataclass(frozen=True, eq=False)
class Problem(Generic[P]):
    """A coreset as it was when a solve of it began; the answer is a function of this alone.

    Parameters
    ----------
    live : KMeansParams or MixtureParams
        One run starts from these, after random moves; the others from fresh seeds.
    coreset : Coreset
        Points of positive weight.
    seed : tuple of int
    """

    live: P
    coreset: Coreset
    seed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Answer(Generic[P]):
    """The best parameters that `solve` found, or None where there are too few points."""

    params: P | None


@dataclass(frozen=True, eq=False)
class Pending(Generic[P]):
    """A solve that has begun and was not yet looked at.

    Parameters
    ----------
    due : int
        Points of the stream after which its answer is looked at: the same in every run.
    problem : Problem
    answer : Answer or None
        None until somebody has solved the problem. A checkpoint leaves it out: it follows from the
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
        By how much the points since then were explained worse, in total; it decays like the
        statistics.
    pending : Pending or None
        The fit that has started.
    """

    learned: int = 0
    interval: float = 0.0
    solved_loss: float | None = None
    excess_loss: float = 0.0
    pending: Pending[P] | None = None

    def without_pending(self) -> ReclusterState[P]:
        """Return the state without the fit that has started: it is discarded."""
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


def solve(family: Family[P], problem: Problem[P], restarts: int, each: Each = map) -> Answer[P]:
    """Return the best fit of the coreset.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    problem : Problem
    restarts : int
        Runs from fresh seeds.
    each : callable, optional
        See `best_of`.
    """
    X, w, seed = problem.coreset.X, problem.coreset.w, problem.seed
    if family.fewest is not None:
        points = sample_of(problem.coreset, problem.live.means)
        try:
            return Answer(adapt(family, problem.live, points, min(1, restarts), seed).params)
        except DataError:
            return Answer(None)
    # Fewer points for seeding: where runs begin need not be as exact as where they end.
    size = max(_SEEN, _SEEN_PER_COMPONENT * family.n_components)
    means = family.prior_stats(problem.live, 1.0).reference
    sketch = reduce_coreset(problem.coreset, means, size, np.random.default_rng((*seed, _SKETCH)))
    rng = np.random.default_rng((*seed, restarts))
    nearby = partial(search_of(family).perturb, problem.live, sketch.X, sketch.w, rng)
    starting: list[Callable[[], P]] = [nearby, *begins(family, sketch.X, sketch.w, restarts, seed)]
    draws = (*seed, restarts + 1)
    try:
        best = best_of(family, starting, X, w, draws, tol=_TOL, max_iter=_MAX_ITER, each=each)
        return Answer(best.params)
    except DataError:  # too few points, or so few that a covariance is singular
        return Answer(None)


def judge(family: Family[P], live: P, coreset: Coreset, mass: float, found: P) -> Stats | None:
    """Return the coreset's statistics under `found`, or None if `live` may well be as good.

    Another number of components takes strong evidence; see `streamclust.fitting.choose_k`.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    live : KMeansParams or MixtureParams
    coreset : Coreset
        As it is now: with all that was learned since the solve began.
    mass : float
        Number of points behind `live`.
    found : KMeansParams or MixtureParams
        What `solve` returned.
    """
    X, w = coreset.X, coreset.w
    stats = family.e_step(found, X, w)
    if family.size(found) != family.size(live):
        points = sample_of(coreset, stats.reference)
        better = stats.alive.all() and is_better(family, live, found, points)
        return stats if better else None
    if family.fewest is not None:
        family = family.with_components(family.size(live))
    gain = family.improvement(family.loss(family.e_step(live, X, w)), family.loss(stats))
    # A fit of n points looks better than the live model without being so. The live model has seen
    # those points and more; what is left is the difference of the optimism of the two samples.
    optimism, n = search_of(family).optimism, effective_size(coreset, stats.reference)
    apparent = max(0.0, optimism(n, X.shape[1]) - optimism(mass, X.shape[1]))
    if gain <= _TOL + apparent or not stats.alive.all():
        return None
    return stats
