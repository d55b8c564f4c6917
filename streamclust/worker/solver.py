"""Solving the coreset in a thread of its own, while the stream is learned."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamclust.online import LearnerState, StreamLearner
    from streamclust.resolving import Pending, Problem


class Solver:
    """Works on what is pending, so that the answer is there when it is due.

    The thread is left behind when the worker leaves: whoever comes next solves the problem again,
    from the committed state.

    Parameters
    ----------
    learner : StreamLearner
    """

    def __init__(self, learner: StreamLearner[Any]) -> None:
        self._learner = learner
        self._problem: Problem[Any] | None = None
        self._future: Future[Pending[Any]] = Future()

    def begin(self, state: LearnerState[Any]) -> None:
        """Begin to solve what is pending, if it is new."""
        pending = state.pending
        if pending is None or pending.problem is self._problem:
            return
        self._problem, self._future = pending.problem, Future()
        name = f"{threading.current_thread().name} solver"
        work = threading.Thread(
            target=self._run, args=(pending, self._future), name=name, daemon=True
        )
        work.start()

    def answered(self, state: LearnerState[Any], points: int) -> LearnerState[Any]:
        """Return the state with the answer, for which is waited if so many points make it due."""
        pending = state.pending
        if pending is None or pending.problem is not self._problem:
            return state
        if state.points + points < pending.due:
            return state
        return replace(state, pending=replace(pending, answer=self._future.result().answer))

    def _run(self, pending: Pending[Any], future: Future[Pending[Any]]) -> None:
        try:
            future.set_result(self._learner.solve(pending))
        except Exception as error:
            future.set_exception(error)
