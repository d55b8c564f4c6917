"""The runs of a search, from the live model and from new seeds, in several threads."""

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
from streamclust.refit.coreset import memory_or_coreset
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
"""A move is tried on all points if its gain on a coreset is larger."""

_WORSE = 0.01
"""A run whose loss on a coreset is worse by more can't be the best on all points."""

_EQUAL = 1e-6
"""Two runs have found the same optimum if their losses on a coreset differ by less."""


class RunProgress:
    """The best parameters so far of one run. Each pass is also reported."""

    def __init__(self, name: str, family: Family[Any], shared: SharedProgress) -> None:
        self.name, self._family, self._shared = name, family, shared
        self._iteration = 0
        self.first: float | None = None
        self.loss = np.inf
        self.params: Any = None
        self.stats: Stats | None = None

    def observe(self, params: Any, stats: Stats) -> None:
        """Store the parameters of a pass if they are the best so far, and report the pass."""
        loss = self._family.loss(stats)
        if self.first is None:
            self.first = loss
        if loss < self.loss:
            self.loss, self.params, self.stats = loss, params, stats
        self._shared.update_best(loss)
        self.report(params, stats)

    def report(self, _params: Any, stats: Stats) -> None:
        """Report a pass without storing its parameters."""
        self._iteration += 1
        self._shared.report(self.name, self._iteration, self._family.loss(stats))


class SharedProgress:
    """The lowest loss of all runs, and their reports; runs in several threads use it."""

    def __init__(self, on_pass: Callable[[Pass], None]) -> None:
        self._on_pass, self._lock, self._best = on_pass, Lock(), np.inf

    def update_best(self, loss: float) -> None:
        """Update the lowest loss by the loss of a pass."""
        with self._lock:
            self._best = min(self._best, loss)

    def report(self, name: str, iteration: int, loss: float) -> None:
        """Report a pass, one at a time."""
        with self._lock:
            self._on_pass(Pass(name, iteration, loss, float(self._best)))


Job = tuple["RunProgress", int, "Callable[[], Any]"]
"""A run: its progress, its number, and a function that returns its first parameters."""


@dataclass(frozen=True, eq=False)
class Search:
    """The runs of a search.

    If all points are in memory, several runs are computed at the same time, and a run that has
    converged continues with moves of single points. Otherwise a run first converges on a coreset,
    and then on all points.
    """

    family: Family[Any]
    points: Dataset
    plan: Plan
    shared: SharedProgress
    stop_requested: Callable[[], bool]
    has_failed: Event = field(default_factory=Event)

    def stop(self) -> bool:
        """Return whether all runs should end."""
        return self.has_failed.is_set() or self.stop_requested()

    @cached_property
    def core(self) -> Points:
        """All points in memory, or a coreset."""
        return memory_or_coreset(self.family, self.points, self.plan.seed, self.stop)

    def runs(self, live: Any | None, progress: list[RunProgress]) -> Iterator[EMResult[Any]]:
        """Yield the result of each run, in order; append the progress of each run to `progress`."""
        first = [self._job(LIVE, 0, lambda: live)] if live is not None else []
        progress += (job[0] for job in first)
        if not self.points.is_in_memory:
            yield from map(self._run, first)
        X, w = self.core if self.plan.restarts else self.points.sample
        seeds = start_functions(self.family, X, w, self.plan.restarts, (self.plan.seed,))
        jobs = [
            self._job(str(number), number - 1 + len(first), begin)
            for number, begin in enumerate(seeds, 1)
        ]
        progress += (job[0] for job in jobs)
        if self.points.is_in_memory:
            yield from self._side_by_side(self._run, [*first, *jobs])
            return
        ends = list(self._side_by_side(self._on_core, jobs))
        for place, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            again = (job[0], job[1], partial(getattr, end, "params"))
            yield self._run(again, self._passes(place, ends))

    def run_after_moves(self, best: EMResult[Any]) -> EMResult[Any] | None:
        """Return a better run, found by moves of several components, or None."""
        family, plan = self.family, self.plan
        progress = RunProgress(MOVES, family, self.shared)
        data = self._data(progress.report, (plan.seed, 3))
        search = search_of(family)
        if self.points.is_in_memory:
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
        return RunProgress(name, self.family, self.shared), number, begin

    def _passes(self, place: int, ends: Sequence[EMResult[Any]]) -> int:
        """Return the largest number of iterations on all points, after convergence on the coreset.

        If a run is clearly worse than the best run on the coreset, or equal to an earlier run, it
        gets 0 iterations: one pass, which computes its loss.
        """
        own, improvement = ends[place].loss, self.family.improvement
        worse = improvement(own, min(end.loss for end in ends)) > _WORSE
        equal = any(abs(improvement(end.loss, own)) < _EQUAL for end in ends[:place])
        return 0 if worse or equal else self.plan.max_iter

    def _run(self, job: Job, max_iter: int | None = None) -> EMResult[Any]:
        progress, number, begin = job
        family, plan = self.family, self.plan
        data = self._data(progress.observe, (plan.seed, 2, number))
        if not self.points.is_in_memory:
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

    def _data(self, on_pass: Callable[[Any, Stats], None], seed: tuple[int, ...]) -> Observed:
        rng = np.random.default_rng(seed)
        return Observed(self.family, self.points, rng, on_pass, self.stop)

    def _core_data(self, seed: tuple[int, ...]) -> _Core:
        return _Core(self.family, *self.core, np.random.default_rng(seed), self.stop)

    def _side_by_side(self, call: Callable[[Job], R], jobs: Sequence[Job]) -> Iterator[R]:
        """Yield the results of `call` for the jobs, in order, from the threads of the engine."""
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
                self.has_failed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


@dataclass(frozen=True)
class _Core(InMemory[Any]):
    """Points in memory, for runs that can be stopped."""

    stop: Callable[[], bool]

    def e_step(self, params: Any) -> Stats:
        check(self.stop)
        return super().e_step(params)
