"""Retries after temporary faults of the server, in a command such as a refit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import redis

from streamclust.errors import StoppedError
from streamclust.runtime.backoff import Backoff
from streamclust.store.server.history import HistoryChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.runtime.job import Job

T = TypeVar("T")

_LIMIT = 60.0
"""Maximum seconds that a fault may last."""

_POLL_SECONDS = 0.05
"""Seconds between checks for a request to stop."""


@dataclass(frozen=True)
class _Stop:
    """A request to stop, with the methods of an event that `Backoff` needs."""

    is_requested: Callable[[], bool]

    def is_set(self) -> bool:
        return self.is_requested()

    def wait(self, timeout: float, /) -> bool:
        deadline = time.monotonic() + timeout
        while not self.is_requested() and (remaining := deadline - time.monotonic()) > 0.0:
            time.sleep(min(remaining, _POLL_SECONDS))
        return self.is_requested()


class Retries:
    """Retries after temporary faults, for up to a minute. Call the object with each fault.

    Parameters
    ----------
    job : Job
        The job of a refit, or of a command that reads.
    stop : callable
        Returns whether the user wants to stop.

    Raises
    ------
    redis.RedisError
        When called: if the server now has other data than at the start of this session.
    StreamclustError
        When called: if the fault isn't temporary, or has lasted too long.
    StoppedError
        When called: if the user wants to stop.
    """

    def __init__(self, job: Job, stop: Callable[[], bool]) -> None:
        self._stop = _Stop(lambda: stop() or job.stop.is_set())
        self._backoff = Backoff(job.server.label, self._stop, job.log, limit=_LIMIT)

    def __call__(self, error: redis.RedisError) -> None:
        """Wait before the operation with this fault is retried."""
        if isinstance(error, HistoryChangedError):
            raise error
        self._backoff.record_success()  # an old fault doesn't count
        self._backoff.wait(error)
        if self._stop.is_set():
            raise StoppedError("interrupted; nothing was changed")

    def do(self, operation: Callable[[], T]) -> T:
        """Return the result of `operation`; retry it after a temporary fault."""
        while True:
            try:
                return operation()
            except redis.RedisError as error:
                self(error)
