"""The runs of a search: from the live model, and from new seeds, side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.engine.base import check
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.restarts import run_to_optimum, start_functions
from streamclust.fitting.search import search_of
from streamclust.kernels.threads import limit_threads, threads_of_process
from streamclust.refit.coreset import condensed
from streamclust.refit.data import Observed
from streamclust.refit.plan import LIVE, MOVES, Pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamclust.engine import Points
    from streamclust.fitting.em import EMResult
    from streamclust.models.family import Family
    from streamclust.models.stats import Stats
    from streamclust.refit.data import Dataset
    from streamclust.refit.plan import Plan

R = TypeVar("R")

_WORTH_PASSES = 1e-4
"""Least gain on a coreset for which a move is tried on all points."""

_WORSE = 0.01
"""Difference of losses on a coreset from which on the worse run can't win on all points."""

_EQUAL = 1e-6
"""Difference of losses on a coreset below which two runs have the same optimum."""


class Watched:
    """Remembers the best parameters of the passes of one run, and reports each pass."""

    def __init__(self, name: str, family: Family[Any], shared: Shared) -> None:
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


class Shared:
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


Job = tuple["Watched", int, "Callable[[], Any]"]
"""A run: what it has seen, its number, and a function that returns its first parameters."""


@dataclass(frozen=True, eq=False)
class Search:
    """The runs of a search.

    If the points are in memory, a run moves single points as soon as it has converged, and runs are
    computed side by side. Otherwise a run first converges on a coreset, and then on all points.
    """

    family: Family[Any]
    points: Dataset
    plan: Plan
    shared: Shared
    asked: Callable[[], bool]
    ended: Event = field(default_factory=Event)

    def stop(self) -> bool:
        """Return whether all runs should end."""
        return self.ended.is_set() or self.asked()

    @cached_property
    def core(self) -> Points:
        """All points in memory, or a coreset."""
        return condensed(self.family, self.points, self.plan.seed, self.stop)

    def runs(self, live: Any | None, watched: list[Watched]) -> Iterator[EMResult[Any]]:
        """Yield the result of each run, in order; add what each run sees to `watched`."""
        first = [self._job(LIVE, 0, lambda: live)] if live is not None else []
        watched += (job[0] for job in first)
        if not self.points.whole:
            yield from map(self._run, first)
        X, w = self.core if self.plan.restarts else self.points.sample
        seeds = start_functions(self.family, X, w, self.plan.restarts, (self.plan.seed,))
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
        watched = Watched(MOVES, family, self.shared)
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
        return Watched(name, self.family, self.shared), number, begin

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
        engine = self.points.engine
        threads = 1 if engine.remote else min(engine.workers, len(jobs))
        if threads < 2:
            yield from map(call, jobs)
            return
        _ = self.core  # computed once, before the threads need it

        def limited(job: Job) -> R:
            with limit_threads(threads_of_process() // threads):
                return call(job)

        with ThreadPoolExecutor(threads, "restart") as pool:
            try:
                yield from pool.map(limited, jobs)
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
