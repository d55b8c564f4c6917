"""Reports what a model waits for: streams that don't exist yet, and points of the warm-up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streamclust.runtime.missing import missing_error
from streamclust.store.ids import BEGINNING
from streamclust.store.stream.names import missing_streams, missing_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from streamclust.runtime.job import Job
    from streamclust.worker.model_worker import ModelWorker

_LOOK = 1.0
"""Seconds between two checks while a model waits."""

_REMINDER = 600.0
"""Seconds between two log lines while a model still waits for the same."""


class Awaited:
    """Logs what one model waits for: at the start, every ten minutes, and at the end of the wait.

    Parameters
    ----------
    job : Job
    client : redis.Redis
    clock : callable, optional
        Seconds.
    """

    def __init__(
        self, job: Job, client: redis.Redis, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._job = job
        self._client = client
        self._clock = clock
        self._unseen: list[str] | None = None
        self._reported: set[str] = set()
        self._look_due = self._stream_due = self._warm_up_due = clock()
        self._skipped = False

    def look(self, worker: ModelWorker) -> None:
        """Check and log, at most once per second; without a wait this costs one comparison."""
        now = self._clock()
        self._skipped = now < self._look_due
        if self._skipped:
            return
        self._look_due = now + _LOOK
        if self._unseen is None:
            new = worker.checkpoint.learner.points == 0
            position = worker.committed.position
            self._unseen = [s for s, at in position.items() if new or at == BEGINNING]
        if self._unseen:
            self._look_for_streams(self._unseen, now)
        elif worker.progress.warm_up:
            self._log_warm_up(worker, now)
        else:
            self._look_due = float("inf")

    @property
    def due(self) -> float | None:
        """Time of the next check if no entry arrives, by the clock; None if no check is needed."""
        if self._look_due == float("inf"):
            return None
        if self._skipped or self._unseen is None:
            return self._look_due
        return self._stream_due if self._unseen else None

    def _look_for_streams(self, unseen: list[str], now: float) -> None:
        log, server = self._job.log, self._job.server.label
        self._unseen = missing_streams(self._client, unseen)
        for stream in self._reported - set(self._unseen):
            log.info("stream_appeared", stream=stream, server=server)
            self._reported.remove(stream)
        is_due = now >= self._stream_due
        for stream in self._unseen:
            if is_due or stream not in self._reported:
                reason = f"{missing_text(stream, server)}; waiting"
                log.warning("stream_awaited", stream=stream, server=server, reason=reason)
        self._reported.update(self._unseen)
        if is_due:
            self._stream_due = now + _REMINDER

    def _log_warm_up(self, worker: ModelWorker, now: float) -> None:
        progress = worker.progress
        if progress.gathered and now >= self._warm_up_due:
            reason = f"warming up: {progress.gathered:,} of {progress.warm_up:,} points"
            self._job.log.info(
                "warm_up_progress", points=progress.gathered, of=progress.warm_up, reason=reason
            )
            self._warm_up_due = now + _REMINDER


def refuse_missing(job: Job, client: redis.Redis, *, every: bool = True) -> None:
    """Raise an error if streams of the model don't exist, for a worker that doesn't wait for them.

    Parameters
    ----------
    job : Job
    client : redis.Redis
    every : bool, default=True
        Whether every stream must exist; otherwise one is enough.

    Raises
    ------
    UnknownStreamError
    """
    streams = job.model.streams
    missing = missing_streams(client, streams)
    if missing and (every or len(missing) == len(streams)):
        raise missing_error(job, client, missing)
