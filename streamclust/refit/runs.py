"""The search of a refit: the best of several runs over the same points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import StoppedError
from streamclust.refit.plan import LIVE, Pass, Plan, Run, SearchResult
from streamclust.refit.restarts import RunProgress, Search, SharedProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.fitting.em import EMResult
    from streamclust.models.family import Family
    from streamclust.refit.data import Dataset

__all__ = ["Pass", "Plan", "Run", "SearchResult", "search"]


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
        Start of the first run; None if there is no live model.
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
    searching = Search(family, points, plan, SharedProgress(on_pass), stop)
    progress: list[RunProgress] = []
    runs: list[Run] = []
    run_after_moves: EMResult[Any] | None = None
    stopped = False
    try:
        ends: list[EMResult[Any]] = []
        for run in searching.runs(live, progress):
            name = progress[len(runs)].name
            ends.append(run)
            runs.append(Run(name, run.loss, len(run.history) - 1, run.converged))
        run_after_moves = searching.run_after_moves(min(ends, key=lambda run: run.loss))
    except StoppedError:
        stopped = True
    best = min(progress, key=lambda run_progress: run_progress.loss, default=None)
    if best is None or best.stats is None:
        raise StoppedError("interrupted before there was a result; nothing was changed")
    best_values = (best.params, best.stats, best.loss)
    if run_after_moves is not None:
        best_values = (run_after_moves.params, run_after_moves.stats, run_after_moves.loss)
    live_loss = next(
        (run_progress.first for run_progress in progress if run_progress.name == LIVE), None
    )
    return SearchResult(*best_values, live_loss, tuple(runs), stopped)
