"""The runs of a refit: one from the live model, others from fresh seeds; the best one wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import StoppedError
from streamclust.fitting.em import run_em
from streamclust.fitting.restarts import run_to_optimum, starts
from streamclust.fitting.search import search_of
from streamclust.refit.data import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.fitting.em import EMResult
    from streamclust.models.family import Family
    from streamclust.models.stats import Stats
    from streamclust.refit.data import Gathered

LIVE = "live"
"""Name of the run that begins at the live model."""

MOVES = "moves"
"""Name of what follows the runs: moves of several components, from the best one."""


@dataclass(frozen=True)
class Plan:
    """How hard to try.

    Parameters
    ----------
    restarts : int
        Runs from fresh seeds, besides the one from the live model.
    tol : float
        Share of J (K-means) or nats per point (mixture) below which a run has converged.
    max_iter : int
        Passes of each run.
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
        The lowest of all runs so far.
    """

    run: str
    iteration: int
    loss: float
    best: float


@dataclass(frozen=True)
class Run:
    """How one run ended.

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
class Found:
    """What the runs came to.

    Parameters
    ----------
    params : KMeansParams or MixtureParams
        The best that any pass has seen, or where moves from the best run have led.
    stats : Stats
        Of all points under them.
    loss : float
        Per point, under them.
    live_loss : float or None
        Loss per point of the live model on the same points; None if there is no live model.
    runs : tuple of Run
        Those that came to their end.
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
    """Remembers the best parameters of all passes, and tells of each."""

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
        self.tell(params, stats)

    def tell(self, params: Any, stats: Stats) -> None:
        """Tell of a pass without remembering it."""
        self._iteration += 1
        self._on_pass(Pass(self._run, self._iteration, self._family.loss(stats), self.loss))

    def take(self, run: EMResult[Any]) -> None:
        """Remember a run in place of the best."""
        self.loss, self.params, self.stats = run.loss, run.params, run.stats


def search(
    family: Family[Any],
    points: Gathered,
    live: Any | None,
    plan: Plan,
    *,
    on_pass: Callable[[Pass], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Found:
    """Return the best of all runs over the same points.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    points : Gathered
    live : KMeansParams or MixtureParams or None
        Where the first run begins.
    plan : Plan
    on_pass : callable, optional
        Called after each pass over the points.
    stop : callable, optional
        Ends the search with what was best until then.

    Raises
    ------
    TooFewPointsError
        If there are fewer distinct points than components.
    StoppedError
        If it was stopped before the end of the first pass.
    """
    best = _Best(family, on_pass)
    runs: list[Run] = []
    ends: list[EMResult[Any]] = []
    stopped = False
    try:
        for number, (name, start) in enumerate(_starts(family, points, live, plan)):
            best.begin(name)
            rng = np.random.default_rng((plan.seed, 2, number))
            run = _run_one(family, start, Watched(family, points, rng, best.see, stop), plan)
            ends.append(run)
            runs.append(Run(name, run.loss, len(run.history) - 1, run.converged))
        best.begin(MOVES)
        rng = np.random.default_rng((plan.seed, 3))
        watched = Watched(family, points, rng, best.tell, stop)
        best_run = min(ends, key=lambda run: run.loss)
        moved = _rearranged(family, best_run, watched, plan)
        if moved is not best_run:
            best.take(moved)
    except StoppedError:
        stopped = True
    if best.stats is None:
        raise StoppedError("interrupted before there was a result; nothing was changed")
    return Found(best.params, best.stats, best.loss, best.first.get(LIVE), tuple(runs), stopped)


def _starts(
    family: Family[Any], points: Gathered, live: Any | None, plan: Plan
) -> Iterator[tuple[str, Any]]:
    if live is not None:
        yield LIVE, live
    seeds = starts(family, points.sample.X, points.sample.w, plan.restarts, (plan.seed,))
    for number, start in enumerate(seeds, 1):
        yield str(number), start


def _run_one(family: Family[Any], start: Any, data: Watched, plan: Plan) -> EMResult[Any]:
    if not data.points.whole:
        return run_em(family, start, data, tol=plan.tol, max_iter=plan.max_iter)
    X, w = data.points.sample
    return run_to_optimum(family, start, data, X, w, tol=plan.tol, max_iter=plan.max_iter)


def _rearranged(
    family: Family[Any], run: EMResult[Any], data: Watched, plan: Plan
) -> EMResult[Any]:
    if not data.points.whole:
        return run
    X, w = data.points.sample
    return search_of(family).split_merge(run, data, X, w, tol=plan.tol, max_iter=plan.max_iter)
