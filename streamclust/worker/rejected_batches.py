"""Batches that the numerics can't learn: skipped, and stored as dead letters with their range."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError
from streamclust.formats.dead import DeadLetters, DeadPoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from streamclust.online.learner import Info, LearnerState, StreamLearner
    from streamclust.store.stream.batches import Batch

NUMERICAL = (ArithmeticError, ValueError)  # DataError and LinAlgError are ValueErrors
"""Errors of a batch that can't be learned. Any other error is no fault of the batch."""

_IN_A_ROW = 10
"""Batches in a row that may be rejected. If the next batch fails too, the model is the cause: it is
parked, and its points stay in the streams."""

_REASONS = 20
"""Kinds of reasons that are logged."""


class RejectedBatches:
    """Counts rejected batches, from session to session.

    Attributes
    ----------
    in_a_row : int
        Batches in a row, up to now, that could not be learned.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._reasons: set[str] = set()

    def count(self, error: Exception) -> None:
        """Count one more batch.

        Raises
        ------
        DataError
            If too many batches in a row could not be learned.
        """
        self.in_a_row += 1
        if self.in_a_row > _IN_A_ROW:
            raise DataError(
                f"{_IN_A_ROW} batches in a row could not be learned, and the next batch fails too: "
                f"{error}; the points from here on stay in the streams"
            ) from error

    def log(self, batch: Batch, error: Exception, log: FilteringBoundLogger) -> None:
        """Log a rejected batch, once per kind of reason."""
        kind = f"{type(error).__name__}: {re.sub('[0-9]+', '#', str(error))}"
        if kind not in self._reasons and len(self._reasons) < _REASONS:
            self._reasons.add(kind)
            log.warning("batch_rejected", points=len(batch.X), reason=str(error))


def learn_without_fit(
    learner: StreamLearner[Any],
    before: LearnerState[Any],
    batch: Batch,
    error: Exception,
    log: FilteringBoundLogger,
) -> tuple[LearnerState[Any], Info | None, Exception | None]:
    """Learn a batch that has failed again, without the pending fit of the coreset.

    Return the state and what happened; or the state before the batch, and the error.
    """
    if before.recluster.pending is None:
        return before, None, error
    state = replace(before, recluster=before.recluster.without_pending())
    try:
        after, info = learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
    except NUMERICAL as again:
        return before, None, again
    log.warning("recluster_failed", error=str(error))
    return after, info, None


def without_points(batch: Batch, before: Mapping[str, str], error: Exception) -> Batch:
    """Return a batch whose points are replaced by one dead letter per stream, with its range.

    Parameters
    ----------
    batch : Batch
    before : mapping of str to str
        Stream -> position before the batch.
    error : Exception
        The reason why the batch can't be learned.
    """
    n = len(batch.X)
    letters = [
        DeadPoint(
            (stream, end),
            -1,
            f"batch of {n} points, the entries after {before.get(stream, '0-0')} up to {end}: "
            f"can't be learned: {str(error)[:300]}",
            b"",
        )
        for stream, end in batch.position.items()
        if end != before.get(stream)
    ]
    letters = letters[-n:]
    dead, older = DeadLetters([*batch.dead.parts, *letters]), batch.older_dead + n - len(letters)
    return replace(batch, X=batch.X[:0], w=None, dead=dead, older_dead=older)
