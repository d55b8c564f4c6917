"""Reclusters coresets in separate threads, while the streams are learned."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from streamclust.runtime.activity import Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamclust.online.coreset_fit import Pending, Problem
    from streamclust.online.learner import LearnerState, StreamLearner


class Solves:
    """Runs the solves of all models of a worker in a limited number of threads.

    Parameters
    ----------
    threads : int, default=1
        Maximum number of threads. A thread starts when it is first needed, and never ends.
    """

    def __init__(self, threads: int = 1) -> None:
        self._most = threads
        self._queue: queue.SimpleQueue[_Solve] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._unfinished = 0

    def submit(self, solve: _Solve) -> None:
        """Run a solve when a thread is free, unless the thread that needs its answer runs it."""
        self._queue.put(solve)
        with self._lock:
            self._unfinished += 1
            if self._started >= min(self._most, self._unfinished):
                return
            self._started += 1
        threading.Thread(target=self._work, name="solver", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._queue.get().run()
            with self._lock:
                self._unfinished -= 1


class Solver:
    """Solves the pending problem of a state, so that the answer is ready when it is due.

    While it waits for an answer that is late, the learning thread executes some of the pending
    restarts. When the worker leaves, a solve is abandoned: the next worker solves the problem
    again, from the committed state.

    Parameters
    ----------
    learner : StreamLearner
    activity : Activity, optional
        Records the runs that the learning thread executes.
    solves : Solves, optional
        Default: a thread of its own.
    """

    def __init__(
        self,
        learner: StreamLearner[Any],
        activity: Activity | None = None,
        solves: Solves | None = None,
    ) -> None:
        self._learner = learner
        self._record_progress = (activity or Activity()).record_progress
        self._solves = solves or Solves()
        self._problem: Problem[Any] | None = None
        self._solve: _Solve | None = None

    def begin(self, state: LearnerState[Any]) -> None:
        """Start to solve the pending problem of a state, if the problem is new."""
        pending = state.recluster.pending
        if pending is None or pending.problem is self._problem:
            return
        self._problem, self._solve = pending.problem, _Solve(self._learner, pending)
        self._solves.submit(self._solve)

    def with_answer(self, state: LearnerState[Any], points: int) -> LearnerState[Any]:
        """Return the state with the answer, if it is due within `points`; wait for it if needed."""
        pending = state.recluster.pending
        if pending is None or pending.problem is not self._problem or self._solve is None:
            return state
        if state.points + points < pending.due:
            return state
        answered = replace(pending, answer=self._solve.result(self._record_progress).answer)
        return replace(state, recluster=replace(state.recluster, pending=answered))


class _Solve:
    """One solve. A thread for solves and the thread that waits both take runs from its queue.

    The first of these two threads runs the solve. After its end, None stays in the queue.
    """

    def __init__(self, learner: StreamLearner[Any], pending: Pending[Any]) -> None:
        self._learner = learner
        self._pending = pending
        self._unclaimed = threading.Lock()
        self._future: Future[Pending[Any]] = Future()
        self._runs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Solve; if another thread does so already, execute some of its runs."""
        if not self._unclaimed.acquire(blocking=False):
            self._help(lambda: None)
            return
        try:
            self._future.set_result(self._learner.solve(self._pending, self._map))
        except Exception as error:
            self._future.set_exception(error)
        self._runs.put(None)

    def result(self, record_progress: Callable[[], None]) -> Pending[Any]:
        """Execute runs until none is left, and return the result. Call it once."""
        if self._unclaimed.locked():
            self._help(record_progress)
        else:
            self.run()  # all threads are busy with other solves
        return self._future.result()

    def _help(self, record_progress: Callable[[], None]) -> None:
        while (work := self._runs.get()) is not None:
            work()
            record_progress()
        self._runs.put(None)

    def _map(self, function: Callable[[int], Any], numbers: Iterable[int]) -> list[Any]:
        results: list[Future[Any]] = []
        for number in numbers:
            results.append(Future())
            self._runs.put(partial(_fulfil, results[-1], function, number))
        with suppress(queue.Empty):
            while (work := self._runs.get_nowait()) is not None:
                work()
        return [result.result() for result in results]


def _fulfil(future: Future[Any], function: Callable[[int], Any], number: int) -> None:
    try:
        future.set_result(function(number))
    except Exception as error:
        future.set_exception(error)
