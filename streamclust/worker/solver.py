"""Reclusters the coreset in a thread of its own, while the stream is learned."""

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

    from streamclust.online.learner import LearnerState, StreamLearner
    from streamclust.online.resolving import Pending, Problem


class Solver:
    """Solves the pending problem of a state, so that the answer is ready when it is due.

    While it waits for an answer that is late, the learning thread executes some of the pending
    restarts. When the worker leaves, the solver's thread is abandoned: the next worker solves the
    problem again, from the committed state.

    Parameters
    ----------
    learner : StreamLearner
    activity : Activity, optional
        Where the learning thread records each run that it executes.
    """

    def __init__(self, learner: StreamLearner[Any], activity: Activity | None = None) -> None:
        self._learner = learner
        self._moved = (activity or Activity()).moved
        self._problem: Problem[Any] | None = None
        self._solve = _Solve(learner)

    def begin(self, state: LearnerState[Any]) -> None:
        """Start to solve the pending problem of a state, if the problem is new."""
        pending = state.recluster.pending
        if pending is None or pending.problem is self._problem:
            return
        self._problem, self._solve = pending.problem, _Solve(self._learner)
        name = f"{threading.current_thread().name} solver"
        threading.Thread(target=self._solve.run, args=(pending,), name=name, daemon=True).start()

    def answered(self, state: LearnerState[Any], points: int) -> LearnerState[Any]:
        """Return the state with the answer, if it is due within `points`; wait for it if needed."""
        pending = state.recluster.pending
        if pending is None or pending.problem is not self._problem:
            return state
        if state.points + points < pending.due:
            return state
        answered = replace(pending, answer=self._solve.result(self._moved).answer)
        return replace(state, recluster=replace(state.recluster, pending=answered))


class _Solve:
    """One solve. Its own thread and the thread that waits for it both take runs from its queue."""

    def __init__(self, learner: StreamLearner[Any]) -> None:
        self._learner = learner
        self._future: Future[Pending[Any]] = Future()
        self._runs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def run(self, pending: Pending[Any]) -> None:
        try:
            self._future.set_result(self._learner.solve(pending, self._map))
        except Exception as error:
            self._future.set_exception(error)
        self._runs.put(None)

    def result(self, moved: Callable[[], None]) -> Pending[Any]:
        """Execute runs until none is left, and return the result. Call it once."""
        while (work := self._runs.get()) is not None:
            work()
            moved()
        return self._future.result()

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
