"""The runs of a refit: one from the live model, others from new seeds; the best run wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import StoppedError
from streamclust.fitting.em import run_em
from streamclust.fitting.restarts import run_to_optimum, starts
from streamclust.fitting.search import search_of
from streamclust.refit.data import Observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.fitting.em import EMResult
    from streamclust.models.family import Family
    from streamclust.models.stats import Stats
    from streamclust.refit.data import Dataset

LIVE = "live"
"""Name of the run that starts at the live model."""

MOVES = "moves"
"""Name of the last run: moves of several components, from the best of the other runs."""


@dataclass(frozen=True)
class Plan:
    """The limits of a search.

    Parameters
    ----------
    restarts : int
        Runs from new seeds, besides the run from the live model.
    tol : float
        A run has converged when a pass improves J by less than this fraction (K-means), or the
        log-likelihood by less than this many nats per point (mixture).
    max_iter : int
        Maximum passes of each run.
    seed : int
    """

    restarts: int = 4
    tol: float = 1e-6
    max_iter: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Pass:
    """One pass over the data, for a progress bar.

    Parameters
    ----------
    run : str
        'live', the number of the restart, or 'moves'.
    iteration : int
        Passes of this run so far.
    loss : float
        Per point.
    best : float
        The lowest loss of all runs so far.
    """

    run: str
    iteration: int
    loss: float
    best: float


@dataclass(frozen=True)
class Run:
    """The result of one run.

    Parameters
    ----------
    start : str
        'live', or the number of the restart.
    loss : float
        Per point.
    iterations : int
    converged : bool
    """

    start: str
    loss: float
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of all runs.

    Parameters
    ----------
    params : KMeansParams or MixtureParams
        The best parameters of all passes, or the result of moves from the best run.
    stats : Stats
        Statistics of all points under `params`.
    loss : float
        Loss per point under `params`.
    live_loss : float or None
        Loss per point of the live model on the same points; None if there is no live model.
    runs : tuple of Run
        The runs that were completed.
    stopped : bool
        Whether the user stopped the search.
    """

    params: Any
    stats: Stats
    loss: float
    live_loss: float | None
    runs: tuple[Run, ...]
    stopped: bool


class _Best:
    """Remembers the best parameters of all passes, and reports each pass."""

    def __init__(self, family: Family[Any], on_pass: Callable[[Pass], None]) -> None:
        self._family = family
        self._on_pass = on_pass
        self._run, self._iteration = "", 0
        self.first: dict[str, float] = {}
        self.loss = np.inf
        self.params: Any = None
        self.stats: Stats | None = None

    def begin(self, run: str) -> None:
        self._run, self._iteration = run, 0

    def see(self, params: Any, stats: Stats) -> None:
        loss = self._family.loss(stats)
        if loss < self.loss:
            self.loss, self.params, self.stats = loss, params, stats
        self.first.setdefault(self._run, loss)
        self.report(params, stats)

    def report(self, params: Any, stats: Stats) -> None:
        """Report a pass without remembering it."""
        self._iteration += 1
        self._on_pass(Pass(self._run, self._iteration, self._family.loss(stats), self.loss))

    def take(self, run: EMResult[Any]) -> None:
        """Remember a run in place of the best."""
        self.loss, self.params, self.stats = run.loss, run.params, run.stats


def search(
    family: Family[Any],
    points: Dataset,
    live: Any | None,
    plan: Plan,
    *,
    on_pass: Callable[[Pass], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Return the best of all runs over the same points.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    points : Dataset
    live : KMeansParams or MixtureParams or None
        Where the first run starts.
    plan : Plan
    on_pass : callable, optional
        Called after each pass over the points.
    stop : callable, optional
        Returns whether to end the search with the best result so far.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than components.
    StoppedError
        If the search was stopped before the end of the first pass.
    """
    best = _Best(family, on_pass)
    runs: list[Run] = []
    ends: list[EMResult[Any]] = []
    stopped = False
    try:
        for number, (name, start) in enumerate(_starts(family, points, live, plan)):
            best.begin(name)
            rng = np.random.default_rng((plan.seed, 2, number))
            run = _run_one(family, start, Observed(family, points, rng, best.see, stop), plan)
            ends.append(run)
            runs.append(Run(name, run.loss, len(run.history) - 1, run.converged))
        best.begin(MOVES)
        rng = np.random.default_rng((plan.seed, 3))
        watched = Observed(family, points, rng, best.report, stop)
        best_run = min(ends, key=lambda run: run.loss)
        moved = _rearranged(family, best_run, watched, plan)
        if moved is not best_run:
            best.take(moved)
    except StoppedError:
        stopped = True
    if best.stats is None:
        raise StoppedError("interrupted before there was a result; nothing was changed")
    return SearchResult(
        best.params, best.stats, best.loss, best.first.get(LIVE), tuple(runs), stopped
    )


def _starts(
    family: Family[Any], points: Dataset, live: Any | None, plan: Plan
) -> Iterator[tuple[str, Any]]:
    if live is not None:
        yield LIVE, live
    seeds = starts(family, points.sample.X, points.sample.w, plan.restarts, (plan.seed,))
    for number, start in enumerate(seeds, 1):
        yield str(number), start


def _run_one(family: Family[Any], start: Any, data: Observed, plan: Plan) -> EMResult[Any]:
    if not data.points.whole:
        return run_em(family, start, data, tol=plan.tol, max_iter=plan.max_iter)
    X, w = data.points.sample
    return run_to_optimum(family, start, data, X, w, tol=plan.tol, max_iter=plan.max_iter)


def _rearranged(
    family: Family[Any], run: EMResult[Any], data: Observed, plan: Plan
) -> EMResult[Any]:
    if not data.points.whole:
        return run
    X, w = data.points.sample
    return search_of(family).split_merge(run, data, X, w, tol=plan.tol, max_iter=plan.max_iter)
