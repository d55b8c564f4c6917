"""The runs of a refit: one from the live model, others from new seeds; the best run wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.engine.base import check
from streamclust.errors import StoppedError
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.restarts import begins, run_to_optimum
from streamclust.fitting.search import search_of
from streamclust.refit.coreset import condensed
from streamclust.refit.data import Observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamclust.engine import Points
    from streamclust.fitting.em import EMResult
    from streamclust.models.family import Family
    from streamclust.models.stats import Stats
    from streamclust.refit.data import Dataset

R = TypeVar("R")

LIVE = "live"
"""Name of the run that starts at the live model."""

MOVES = "moves"
"""Name of the last run: moves of several components, from the best of the other runs."""


_WORTH_PASSES = 1e-4
"""Least gain on a coreset for which a move is tried on all points."""

_WORSE = 0.01
"""Difference of losses on a coreset from which on the worse run can't win on all points."""

_EQUAL = 1e-6
"""Difference of losses on a coreset below which two runs have the same optimum."""


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


class _Watched:
    """Remembers the best parameters of the passes of one run, and reports each pass."""

    def __init__(self, name: str, family: Family[Any], shared: _Shared) -> None:
        self.name, self._family, self._shared = name, family, shared
        self._iteration = 0
        self.first: float | None = None
        self.loss = np.inf
        self.params: Any = None
        self.stats: Stats | None = None

    def see(self, params: Any, stats: Stats) -> None:
        """Remember a pass if it is the best one, and report it."""
        loss = self._family.loss(stats)
        if self.first is None:
            self.first = loss
        if loss < self.loss:
            self.loss, self.params, self.stats = loss, params, stats
        self._shared.take(loss)
        self.report(params, stats)

    def report(self, _params: Any, stats: Stats) -> None:
        """Report a pass without remembering it."""
        self._iteration += 1
        self._shared.report(self.name, self._iteration, self._family.loss(stats))


class _Shared:
    """What runs in several threads share: the lowest loss, and the reports, one at a time."""

    def __init__(self, on_pass: Callable[[Pass], None]) -> None:
        self._on_pass, self._lock, self._best = on_pass, Lock(), np.inf

    def take(self, loss: float) -> None:
        """Take the loss of a pass."""
        with self._lock:
            self._best = min(self._best, loss)

    def report(self, name: str, iteration: int, loss: float) -> None:
        """Report a pass."""
        with self._lock:
            self._on_pass(Pass(name, iteration, loss, float(self._best)))


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
    sought = _Search(family, points, plan, _Shared(on_pass), stop)
    watched: list[_Watched] = []
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


Job = tuple["_Watched", int, "Callable[[], Any]"]
"""A run: what it has seen, its number, and a function that returns its first parameters."""


@dataclass(frozen=True, eq=False)
class _Search:
    """The runs of a search.

    If the points are in memory, a run moves single points as soon as it has converged, and runs are
    computed side by side. Otherwise a run first converges on a coreset, and then on all points.
    """

    family: Family[Any]
    points: Dataset
    plan: Plan
    shared: _Shared
    asked: Callable[[], bool]
    ended: Event = field(default_factory=Event)

    def stop(self) -> bool:
        """Return whether all runs should end."""
        return self.ended.is_set() or self.asked()

    @cached_property
    def core(self) -> Points:
        """All points in memory, or a coreset."""
        return condensed(self.family, self.points, self.plan.seed, self.stop)

    def runs(self, live: Any | None, watched: list[_Watched]) -> Iterator[EMResult[Any]]:
        """Yield the result of each run, in order; add what each run sees to `watched`."""
        first = [self._job(LIVE, 0, lambda: live)] if live is not None else []
        watched += (job[0] for job in first)
        if not self.points.whole:
            yield from map(self._run, first)
        X, w = self.core if self.plan.restarts else self.points.sample
        seeds = begins(self.family, X, w, self.plan.restarts, (self.plan.seed,))
        jobs = [
            self._job(str(number), number - 1 + len(first), begin)
            for number, begin in enumerate(seeds, 1)
        ]
        watched += (job[0] for job in jobs)
        if self.points.whole:
            yield from self._side_by_side(self._run, [*first, *jobs])
            return
        ends = list(self._side_by_side(self._on_core, jobs))
        for place, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            again = (job[0], job[1], partial(getattr, end, "params"))
            yield self._run(again, self._passes(place, ends))

    def moved(self, best: EMResult[Any]) -> EMResult[Any] | None:
        """Return a better run by moves of several components; None if there is none."""
        family, plan = self.family, self.plan
        watched = _Watched(MOVES, family, self.shared)
        data = self._data(watched.report, (plan.seed, 3))
        search = search_of(family)
        if self.points.whole:
            run = search.split_merge(best, data, *self.core, tol=plan.tol, max_iter=plan.max_iter)
            return None if run is best else run
        if not plan.restarts:
            return None
        core = self._core_data((plan.seed, 3))
        base = run_em(family, best.params, core, tol=plan.tol, max_iter=plan.max_iter)
        trial = run_to_optimum(
            family, base.params, core, *self.core, tol=plan.tol, max_iter=plan.max_iter
        )
        trial = search.split_merge(trial, core, *self.core, tol=plan.tol, max_iter=plan.max_iter)
        if family.improvement(base.loss, trial.loss) <= _WORTH_PASSES:
            return None
        run = run_em(family, trial.params, data, tol=plan.tol, max_iter=plan.max_iter)
        return run if family.improvement(best.loss, run.loss) > 0.0 else None

    def _job(self, name: str, number: int, begin: Callable[[], Any]) -> Job:
        return _Watched(name, self.family, self.shared), number, begin

    def _passes(self, place: int, ends: Sequence[EMResult[Any]]) -> int:
        """Return the most iterations on all points, for a run that has converged on the coreset.

        A run that is clearly worse than the best one there, or equal to an earlier one, gets one
        pass for its loss, and no iteration.
        """
        own, improvement = ends[place].loss, self.family.improvement
        worse = improvement(own, min(end.loss for end in ends)) > _WORSE
        equal = any(abs(improvement(end.loss, own)) < _EQUAL for end in ends[:place])
        return 0 if worse or equal else self.plan.max_iter

    def _run(self, job: Job, max_iter: int | None = None) -> EMResult[Any]:
        watched, number, begin = job
        family, plan = self.family, self.plan
        data = self._data(watched.see, (plan.seed, 2, number))
        if not self.points.whole:
            most = plan.max_iter if max_iter is None else max_iter
            return run_em(family, begin(), data, tol=plan.tol, max_iter=most)
        return run_to_optimum(
            family, begin(), data, *self.core, tol=plan.tol, max_iter=plan.max_iter
        )

    def _on_core(self, job: Job) -> EMResult[Any]:
        """Return the result of a run on the coreset."""
        _, number, begin = job
        plan, core = self.plan, self._core_data((self.plan.seed, 7, number))
        return run_to_optimum(
            self.family, begin(), core, *self.core, tol=plan.tol, max_iter=plan.max_iter
        )

    def _data(self, see: Callable[[Any, Stats], None], seed: tuple[int, ...]) -> Observed:
        rng = np.random.default_rng(seed)
        return Observed(self.family, self.points, rng, see, self.stop)

    def _core_data(self, seed: tuple[int, ...]) -> _Core:
        return _Core(self.family, *self.core, np.random.default_rng(seed), self.stop)

    def _side_by_side(self, call: Callable[[Job], R], jobs: Sequence[Job]) -> Iterator[R]:
        """Yield `call` of each job in order; threads compute them, if the engine has several."""
        threads = min(self.points.engine.workers, len(jobs))
        if threads < 2:
            yield from map(call, jobs)
            return
        _ = self.core  # computed once, before the threads need it
        with ThreadPoolExecutor(threads, "restart") as pool:
            try:
                yield from pool.map(call, jobs)
            except BaseException:
                self.ended.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


@dataclass(frozen=True)
class _Core(InMemory[Any]):
    """Points in memory, for runs that can be stopped."""

    stop: Callable[[], bool]

    def e_step(self, params: Any) -> Stats:
        check(self.stop)
        return super().e_step(params)
