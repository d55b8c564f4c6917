"""A search for better parameters: the best of several runs over the same points wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import StoppedError
from streamclust.refit.plan import LIVE, Pass, Plan, Run, SearchResult
from streamclust.refit.restarts import Search, Shared, Watched

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
    sought = Search(family, points, plan, Shared(on_pass), stop)
    watched: list[Watched] = []
    runs: list[Run] = []
    moved: EMResult[Any] | None = None
    stopped = False
    try:
        ends: list[EMResult[Any]] = []
        for run in sought.runs(live, watched):
            name = watched[len(runs)].name
            ends.append(run)
            runs.append(Run(name, run.loss, len(run.history) - 1, run.converged))
        moved = sought.moved(min(ends, key=lambda run: run.loss))
    except StoppedError:
        stopped = True
    best = min(watched, key=lambda each: each.loss, default=None)
    if best is None or best.stats is None:
        raise StoppedError("interrupted before there was a result; nothing was changed")
    found = (best.params, best.stats, best.loss)
    if moved is not None:
        found = (moved.params, moved.stats, moved.loss)
    live_loss = next((each.first for each in watched if each.name == LIVE), None)
    return SearchResult(*found, live_loss, tuple(runs), stopped)
