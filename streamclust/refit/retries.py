"""Retries after faults of the server that pass, in a command that ends by itself."""

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

_LOOK = 0.05
"""Seconds between checks for a request to stop."""


@dataclass(frozen=True)
class _Stop:
    """A request to stop, as `Backoff` waits for it."""

    asked: Callable[[], bool]

    def is_set(self) -> bool:
        return self.asked()

    def wait(self, timeout: float, /) -> bool:
        deadline = time.monotonic() + timeout
        while not self.asked() and (remaining := deadline - time.monotonic()) > 0.0:
            time.sleep(min(remaining, _LOOK))
        return self.asked()


class Retries:
    """Retries after faults that pass, for up to a minute. Call the object with each fault.

    Parameters
    ----------
    job : Job
        Of one refit, or of a command that reads.
    stop : callable
        Returns whether the user wants to stop.

    Raises
    ------
    redis.RedisError
        When called: if the server has other data now than at the start of this session.
    StreamclustError
        When called: if the fault doesn't pass by itself, or has lasted too long.
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

    def do(self, act: Callable[[], T]) -> T:
        """Return the result of `act`; retry it after a fault that passes."""
        while True:
            try:
                return act()
            except redis.RedisError as error:
                self(error)
